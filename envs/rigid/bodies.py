"""Rigid bodies in the plane whose joints and contacts are known beforehand.

The published methods of Box2D: sequential impulses with warm start (E. Catto, "Iterative dynamics
with temporal coherence", GDC 2005), corrections of positions that do not touch velocities, and
impacts in the middle of a step. Bodies never sleep.

What may touch what is static, so that a step has no lists, only wide arithmetic: all arrays are
[k, E], the last axis counts environments, and constraints that share no body are solved side by
side. Units are m, kg, s and rad.

Shape legend: B bodies, k those that are treated alike, W edges of ground per body, P pairs of
neighbours, E environments.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.rigid import contacts, impacts, joints
from mamt_jax.envs.rigid.contacts import STILL, ContactImpulse
from mamt_jax.envs.rigid.joints import JointImpulse
from mamt_jax.envs.rigid.lanes import apart
from mamt_jax.envs.rigid.polygons import Faces, Four, Points, Pose, on_each_other, on_ground
from mamt_jax.envs.rigid.world import Motion, World

Array = Any


class Impulses(NamedTuple):
    """What constraints did in a step: where the next one starts."""

    joint: tuple[JointImpulse, ...]  # each [count, E]
    meeting: ContactImpulse  # [2, P, E]
    ground: ContactImpulse  # [4, k, E]


def no_impulses(world: World, *shape: int) -> Impulses:
    """Of bodies that have not done anything; `shape` is that of the last axes."""
    return Impulses(
        tuple(joints.no_joint(joint.count, *shape) for joint in world.joints),
        contacts.no_contact(2, len(world.meetings), *shape),
        contacts.no_contact(4, world.grounded[1], *shape),
    )


class Seen(NamedTuple):
    """What touched in a step."""

    ground: Array  # [W, k, E] bool, as the step began
    impacts: tuple[Array, Array]  # of each stop: who [stops, k, E], what touched [stops, W, k, E]


class Velocity(NamedTuple):
    """Of the centres, and of turning; or how far they were moved. Each [B, E]."""

    x: Array
    y: Array
    spin: Array


class _Ready(NamedTuple):
    """Constraints before their first iteration."""

    joint: tuple[Any, ...]
    meeting: contacts.Contact
    ground: contacts.Contact


def _part(values: Any, start: int, count: int) -> Any:
    return type(values)(*(v[start : start + count] for v in values))


def _put(values: Any, start: int, new: Any) -> Any:
    return type(values)(
        *(
            part if part.shape == value.shape else value.at[start : start + len(part)].set(part)
            for value, part in zip(values, new, strict=True)
        )
    )


def _one(contact: Any, pair: int) -> Any:
    """The contact of one pair, [2, 1, E]."""

    def cut(part: Any) -> Any:
        return part[..., pair : pair + 1, :] if getattr(part, "ndim", 0) > 1 else part

    return jax.tree.map(cut, contact)


def _pairs(world: World, values: Any) -> tuple[Any, Any]:
    """Of the bodies that may meet: all a, and all b."""
    a, b = np.array(world.meetings, np.int32).reshape(-1, 2).T
    return tuple(type(values)(*(v[which] for v in values)) for which in (a, b))


def _meet(world: World, shown: Faces) -> Points:
    a, b = np.array(world.meetings, np.int32).reshape(-1, 2).T
    return on_each_other(shown.of(a), shown.of(b))


def _start(
    world: World,
    at: Pose,
    v: Velocity,
    drive: Sequence[tuple[Array, Array]],
    points: tuple[Points, Points],
) -> _Ready:
    found = []
    for joint, (speed, most) in zip(world.joints, drive, strict=True):
        m, arms = world.masses(joint.a, joint.b, joint.count), world.arms(joint)
        a, b = _part(at, joint.a, joint.count), _part(at, joint.b, joint.count)
        found.append(apart(partial(joints.start, joint), m, arms, a, b, speed, most * world.dt))
    (at_a, at_b), (v_a, v_b) = _pairs(world, at), _pairs(world, v)
    m, friction = world.pair_masses, world.pair_friction
    begin = partial(contacts.start, restitution=world.restitution)
    meeting = apart(begin, points[0], m, (at_a, v_a), (at_b, v_b), friction)
    body = _part(at, *world.grounded), _part(v, *world.grounded)
    m, friction = world.ground_masses, world.ground_grip
    ground = apart(begin, points[1], m, None, body, friction)
    return _Ready(tuple(found), meeting, ground)


def _start_correction(
    world: World, old: Pose, at: Pose, ready: _Ready, points: tuple[Points, Points]
) -> _Ready:
    found = []
    for joint, j in zip(world.joints, ready.joint, strict=True):
        a, b = _part(at, joint.a, joint.count), _part(at, joint.b, joint.count)
        found.append(apart(partial(joints.start_correction, joint, world.arms(joint)), j, a, b))
    (old_a, old_b), (a, b) = _pairs(world, old), _pairs(world, at)
    met = apart(contacts.carried, points[0], (old_a, old_b), (a, b))
    was, body = _part(old, *world.grounded), _part(at, *world.grounded)
    stood = apart(contacts.carried, points[1], (STILL, was), (STILL, body))
    return _Ready(
        tuple(found),
        apart(contacts.start_correction, met, world.pair_masses, a, b),
        apart(contacts.start_correction, stood, world.ground_masses, None, body),
    )


def _iterate(
    world: World, ready: _Ready, impulses: Impulses, v: Velocity, warm: bool = False
) -> tuple[Impulses, Velocity]:
    """One iteration of all constraints; with `warm`, instead, what they did in the last step."""
    turned, met = [], []
    for joint, j, impulse in zip(world.joints, ready.joint, impulses.joint, strict=True):
        m = world.masses(joint.a, joint.b, joint.count)
        a, b = _part(v, joint.a, joint.count), _part(v, joint.b, joint.count)
        if warm:
            a, b = joints.warm(j, m, impulse, a, b)
        else:
            impulse, a, b = apart(joints.solve, j, m, impulse, a, b)
        v = _put(_put(v, joint.a, a), joint.b, b)
        turned.append(impulse)
    for pair, (i, k) in enumerate(world.meetings):
        m, a, b = world.masses(i, k), _part(v, i, 1), _part(v, k, 1)
        c, touch = _one(ready.meeting, pair), _one(impulses.meeting, pair)
        if warm:
            a, b = contacts.warm(c, m, touch, a, b)
        else:
            touch, a, b = apart(contacts.solve, c, m, touch, a, b)
        v = _put(_put(v, i, a), k, b)
        met.append(touch)
    body, ground = _part(v, *world.grounded), impulses.ground
    if warm:
        _, body = contacts.warm(ready.ground, world.ground_masses, ground, None, body)
    elif world.grounded[1]:
        ground, _, body = contacts.solve(ready.ground, world.ground_masses, ground, None, body)
    meeting = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), *met) if met else ()
    return Impulses(tuple(turned), meeting or impulses.meeting, ground), _put(
        v, world.grounded[0], body
    )


def _correct_once(
    world: World, ready: _Ready, moved: Velocity, running: Array
) -> tuple[Velocity, Array]:
    """One iteration; `running` [B, E] is 1 for bodies that are still moved, else 0."""
    bad = jnp.zeros(running.shape, bool)
    first, count = world.grounded
    for pair, (i, k) in enumerate(world.meetings):
        m, a, b = world.masses(i, k), _part(moved, i, 1), _part(moved, k, 1)
        going = running[i : i + 1]
        a, b, gap = apart(contacts.correct, _one(ready.meeting, pair), m, a, b, going)
        moved = _put(_put(moved, i, a), k, b)
        bad = bad.at[i].set(bad[i] | (gap[0] < -contacts.DEEPEST))
    if count:
        body, m = _part(moved, first, count), world.ground_masses
        going = running[first : first + count]
        _, body, gap = apart(contacts.correct, ready.ground, m, None, body, going)
        moved = _put(moved, first, body)
        of = slice(first, first + count)
        bad = bad.at[of].set(bad[of] | (gap < -contacts.DEEPEST))
    for joint, c in zip(world.joints, ready.joint, strict=True):
        m = world.masses(joint.a, joint.b, joint.count)
        a, b = _part(moved, joint.a, joint.count), _part(moved, joint.b, joint.count)
        going = running[joint.a : joint.a + joint.count]
        a, b, off = apart(joints.correct, c, m, a, b, going)
        moved = _put(_put(moved, joint.a, a), joint.b, b)
        of = slice(joint.a, joint.a + joint.count)
        bad = bad.at[of].set(bad[of] | off)
    return moved, running * apart(partial(_together, world), bad, ready.meeting)


def _together(world: World, bad: Array, meeting: contacts.Contact) -> Array:
    """Whether anything is off among all that are joined or touch each other, [B, E]."""
    met, island = (meeting.normal_mass > 0).any(axis=0), world.islands
    rows = [bad[island == number].any(axis=0) for number in range(island.max() + 1)]
    for pair, (i, k) in (*enumerate(world.meetings), *enumerate(world.meetings)):
        a, b = island[i], island[k]
        both = (rows[a] | rows[b]) & met[pair]
        rows[a], rows[b] = rows[a] | both, rows[b] | both
    return jnp.stack(rows)[island]


def _correct(
    world: World, old: Pose, at: Pose, ready: _Ready, points: tuple[Points, Points]
) -> Pose:
    """Moves bodies back to their joints and out of each other, until that is good enough.

    Arms and normals are found anew for each iteration, as at the start bodies are thrown about:
    with those of up to five iterations before, 26 of 200 packages fell whose walkers should stand.
    """

    def again(carry: tuple[Array, Pose, Array]) -> tuple[Array, Pose, Array]:
        number, at, running = carry
        now = _start_correction(world, old, at, ready, points)
        zero = jnp.zeros_like(at.x)
        moved, running = _correct_once(world, now, Velocity(zero, zero, zero), running)
        return number + 1, apart(Pose.moved, at, *moved), running

    def goes_on(carry: tuple[Array, Pose, Array]) -> Array:
        return (carry[0] < world.corrections) & (carry[2] > 0).any()

    running = jnp.ones(at.x.shape, jnp.float32)
    return jax.lax.while_loop(goes_on, again, (jnp.int32(0), at, running))[1]


def step(
    world: World,
    motion: Motion,
    impulses: Impulses,
    drive: Sequence[tuple[Array, Array]],
    push: Array | float,
    ground: tuple[Four, Array],
) -> tuple[Motion, Impulses, Seen]:
    """Moves all bodies by `world.dt`.

    Args:
      world: what there is.
      motion: of its bodies.
      impulses: of the last step.
      drive: for each group of joints, speed and largest torque of the motors, [count, E].
      push: a force along x on each body, [B, E].
      ground: edges near each grounded body: (x1, y1, x2, y2), each [W, k, E], and their numbers.
    """
    at, dt = motion.pose, world.dt
    first, count = world.grounded
    body = _part(at, first, count)
    met = _meet(world, apart(world.placed, at))
    shown = apart(world.placed, at).of(slice(first, first + count))
    stood, touched = on_ground(shown, body.x, body.y, *ground)
    vx = motion.vx + dt * push * world.inverse[0]
    v = Velocity(vx, motion.vy + dt * world.gravity, motion.spin)
    ready = _start(world, at, v, drive, (met, stood))
    last = Impulses(
        tuple(map(joints.again, ready.joint, impulses.joint)),
        contacts.again(met, impulses.meeting),
        contacts.again(stood, impulses.ground),
    )
    last, v = _iterate(world, ready, last, v, warm=True)
    last, v = jax.lax.fori_loop(
        0, world.iterations, lambda _, c: _iterate(world, ready, *c), (last, v)
    )
    angle = at.angle + dt * v.spin
    x, y = at.x + dt * v.x, at.y + dt * v.y
    moved = Pose(x, y, angle, jnp.cos(angle), jnp.sin(angle))
    moved = _correct(world, at, moved, ready, (met, stood))
    moved, v, stops = _impacts(world, at, moved, v, ground)
    return Motion(moved.x, moved.y, moved.angle, *v), last, Seen(touched, stops)


def _impacts(
    world: World, at: Pose, moved: Pose, v: Velocity, ground: tuple[Four, Array]
) -> tuple[Pose, Velocity, tuple[Array, Array]]:
    """Stops the grounded bodies where they hit the ground, each for itself."""
    first, count = world.grounded
    local = world.faces.of(slice(first, first + count))
    before, after = _part(at, first, count), _part(moved, first, count)
    flight = impacts.Flight(before, after, tuple(_part(v, first, count)), jnp.zeros_like(before.x))

    def stop(flight: impacts.Flight, _: None) -> tuple[impacts.Flight, tuple[Array, Array]]:
        m, grip = world.ground_masses, world.ground_grip
        flight, *seen = impacts.impact(local, m, grip, flight, ground, world.dt, world.impacts[1])
        return flight, tuple(seen)

    flight, seen = jax.lax.scan(stop, flight, None, length=world.impacts[0])
    return _put(moved, first, flight.after), _put(v, first, flight.velocity), seen
