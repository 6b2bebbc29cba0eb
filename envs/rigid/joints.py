"""Revolute joints with a motor and two limits, solved by sequential impulses.

As in Box2D: a motor turns towards its speed with no more than its torque; a limit acts from the
step on that finds its angle passed; the point, and a limit that acts, are solved together. All
arrays are [k, E], for k joints that share no body; the last axis counts environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.rigid.contacts import Masses, Three
from mamt_jax.envs.rigid.polygons import SLOP, Pose

ANGLE_SLOP = 2.0 / 180.0 * float(np.pi)
RELAX = 1.7
"""How much of the impulse that an iteration finds is given (successive over-relaxation).

A hull is twenty times as heavy as what it stands on, so that plain iterations (1) creep: it takes
180 of them to get as far as 60 of these. Contacts are not relaxed: bodies flew apart at 1.5.
"""
_MOST_TURN = 8.0 / 180.0 * float(np.pi)

Array = Any


@dataclass(frozen=True)
class Joints:
    """Joints of bodies `a`, `a` + 1, ... with `b`, `b` + 1, ..., all alike.

    Attributes:
      a: first of `count` bodies; also b.
      anchor_a: place of the joint from the origin of a; also anchor_b.
      low: smallest angle of b against a; also high.
    """

    a: int
    b: int
    count: int
    anchor_a: tuple[float, float]
    anchor_b: tuple[float, float]
    low: float
    high: float


class JointImpulse(NamedTuple):
    """What a joint did in a step."""

    x: Array
    y: Array
    limit: Array
    motor: Array


class Joint(NamedTuple):
    """What does not change during the iterations of a step."""

    rax: Array
    ray: Array
    rbx: Array
    rby: Array
    i11: Array  # inverse of how an impulse at the point moves it
    i12: Array
    i22: Array
    k13: Array  # and of how it turns b against a
    k23: Array
    ux: Array
    uy: Array
    motor_mass: Array
    limit_mass: Array
    limit_low: Array  # bounds of the limit's impulse
    limit_high: Array
    speed: Array  # of the motor
    most: Array  # impulse of the motor


def no_joint(*shape: int) -> JointImpulse:
    """Of joints that have done nothing."""
    zero = jnp.zeros(shape, jnp.float32)
    return JointImpulse(zero, zero, zero, zero)


def _inverse(m: Masses, rax: Array, ray: Array, rbx: Array, rby: Array) -> Three:
    """Inverse (11, 12, 22) of how an impulse moves a point of two bodies apart."""
    k11 = m.ma + m.mb + ray * ray * m.ia + rby * rby * m.ib
    k12 = -ray * rax * m.ia - rby * rbx * m.ib
    k22 = m.ma + m.mb + rax * rax * m.ia + rbx * rbx * m.ib
    scale = 1.0 / (k11 * k22 - k12 * k12)
    return scale * k22, -scale * k12, scale * k11


def start(
    joints: Joints, m: Masses, arms: Any, a: Pose, b: Pose, speed: Array, most: Array
) -> Joint:
    """Joints before their first iteration; `arms` from the centres to the joint, in their frames.

    `most` is the largest impulse of the motor in a step.
    """
    (rax, ray), (rbx, rby) = a.turn(*arms[0]), b.turn(*arms[1])
    i11, i12, i22 = _inverse(m, rax, ray, rbx, rby)
    k13, k23 = -ray * m.ia - rby * m.ib, rax * m.ia + rbx * m.ib
    ux, uy = i11 * k13 + i12 * k23, i12 * k13 + i22 * k23
    angle, inf = b.angle - a.angle, jnp.float32(jnp.inf)
    limit_mass = 1.0 / (m.ia + m.ib - k13 * ux - k23 * uy)
    limit_low = jnp.where((angle >= joints.high) & (angle > joints.low), -inf, 0.0)
    limit_high = jnp.where(angle <= joints.low, inf, 0.0)
    return Joint(
        *(rax, ray, rbx, rby, i11, i12, i22, k13, k23, ux, uy),
        *(1.0 / (m.ia + m.ib), limit_mass, limit_low, limit_high, speed, most),
    )


def _push(
    j: Joint, m: Masses, a: Three, b: Three, fx: Array, fy: Array, turn: Array
) -> tuple[Three, Three]:
    """Velocities after an impulse on b, and its opposite on a."""
    return (
        (a[0] - m.ma * fx, a[1] - m.ma * fy, a[2] - m.ia * (j.rax * fy - j.ray * fx + turn)),
        (b[0] + m.mb * fx, b[1] + m.mb * fy, b[2] + m.ib * (j.rbx * fy - j.rby * fx + turn)),
    )


def again(j: Joint, before: JointImpulse) -> JointImpulse:
    """The last step's impulses, without those of limits that no longer act."""
    return before._replace(limit=jnp.clip(before.limit, j.limit_low, j.limit_high))


def warm(j: Joint, m: Masses, impulse: JointImpulse, a: Three, b: Three) -> tuple[Three, Three]:
    """Velocities after all that a joint did in the last step."""
    return _push(j, m, a, b, impulse.x, impulse.y, impulse.limit + impulse.motor)


def solve(
    j: Joint, m: Masses, impulse: JointImpulse, a: Three, b: Three
) -> tuple[JointImpulse, Three, Three]:
    """One iteration: the motor, then the point and the limit together."""
    x, y, limit, motor = impulse
    wanted = jnp.clip(motor - RELAX * j.motor_mass * (b[2] - a[2] - j.speed), -j.most, j.most)
    aw, bw = a[2] - m.ia * (wanted - motor), b[2] + m.ib * (wanted - motor)
    dx = b[0] - bw * j.rby - a[0] + aw * j.ray
    dy = b[1] + bw * j.rbx - a[1] - aw * j.rax
    dx, dy = RELAX * dx, RELAX * dy
    px, py = -(j.i11 * dx + j.i12 * dy), -(j.i12 * dx + j.i22 * dy)
    held = limit + j.limit_mass * (RELAX * (aw - bw) - j.k13 * px - j.k23 * py)
    held = jnp.clip(held, j.limit_low, j.limit_high)
    turn = held - limit
    fx, fy = px - j.ux * turn, py - j.uy * turn
    a, b = _push(j, m, (a[0], a[1], aw), (b[0], b[1], bw), fx, fy, turn)
    return JointImpulse(x + fx, y + fy, held, wanted), a, b


class Correction(NamedTuple):
    """Joints before positions are corrected."""

    rax: Array
    ray: Array
    rbx: Array
    rby: Array
    dx: Array  # from the centre of a to that of b
    dy: Array
    below: Array  # how far the lower limit is passed; very negative where it does not act
    above: Array


def start_correction(joints: Joints, arms: Any, j: Joint, a: Pose, b: Pose) -> Correction:
    """Joints of bodies where they are now; limits act that did so in the iterations `j`."""
    angle, inf = b.angle - a.angle, jnp.float32(jnp.inf)
    below = jnp.where(j.limit_high > 0, joints.low - angle, -inf)
    above = jnp.where(j.limit_low < 0, angle - joints.high, -inf)
    return Correction(*a.turn(*arms[0]), *b.turn(*arms[1]), b.x - a.x, b.y - a.y, below, above)


def _turned(x: Array, y: Array, turn: Array) -> tuple[Array, Array]:
    """A direction after a turn of less than a radian or so, by its series."""
    square = turn * turn
    sin = turn * (1.0 - square * (1.0 / 6.0) * (1.0 - square * (1.0 / 20.0)))
    cos = 1.0 - square * 0.5 * (1.0 - square * (1.0 / 12.0) * (1.0 - square * (1.0 / 30.0)))
    return cos * x - sin * y, sin * x + cos * y


def correct(
    c: Correction, m: Masses, a: Three, b: Three, running: Array
) -> tuple[Three, Three, Array]:
    """Moves bodies back to their joints: a, b, and whether they were off.

    a and b are how far bodies have been moved so far. `running` is 1 where bodies are still moved,
    else 0.
    """
    turned = b[2] - a[2]
    below, above = c.below - turned, c.above + turned
    up = jnp.clip(below - ANGLE_SLOP, 0.0, _MOST_TURN)
    down = jnp.clip(above - ANGLE_SLOP, 0.0, _MOST_TURN)
    turn = (up - down) * running * (1.0 / (m.ia + m.ib))
    aw, bw = a[2] - m.ia * turn, b[2] + m.ib * turn
    rax, ray = _turned(c.rax, c.ray, aw)
    rbx, rby = _turned(c.rbx, c.rby, bw)
    dx, dy = c.dx + b[0] + rbx - a[0] - rax, c.dy + b[1] + rby - a[1] - ray
    off = (jnp.maximum(below, above) > ANGLE_SLOP) | (dx * dx + dy * dy > SLOP * SLOP)
    i11, i12, i22 = _inverse(m, rax, ray, rbx, rby)
    fx, fy = -(i11 * dx + i12 * dy) * running, -(i12 * dx + i22 * dy) * running
    a = a[0] - m.ma * fx, a[1] - m.ma * fy, aw - m.ia * (rax * fy - ray * fx)
    b = b[0] + m.mb * fx, b[1] + m.mb * fy, bw + m.ib * (rbx * fy - rby * fx)
    return a, b, off
