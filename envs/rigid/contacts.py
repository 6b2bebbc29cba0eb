"""Contacts of bodies in the plane: impulses that keep them apart, friction, and impacts.

Sequential impulses and corrections of positions as in Box2D (E. Catto, "Fast and simple physics
using sequential impulses", GDC 2006; "Continuous collision", GDC 2013). All arrays are [..., E],
the last axis counts environments; those of a contact are [p, k, E], for its p points, two on each
face.

Shape legend: k bodies or pairs that are treated alike, W edges of ground per body, E environments.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from mamt_jax.envs.rigid.lanes import apart
from mamt_jax.envs.rigid.polygons import (
    SLOP,
    Points,
    Pose,
)

Array = Any
Three = tuple[Array, Array, Array]  # along x, along y, about the centre

STILL = Pose(0.0, 0.0, 0.0, 1.0, 0.0)
"""Where the ground is."""
DEEPEST = 3.0 * SLOP
"""Overlap that corrections leave alone once it is reached."""
_SHARE = 0.2  # of an overlap that is corrected at once
_MOST = 0.2  # of a correction
_CONDITION = 1000.0  # of a matrix that is inverted


class Masses(NamedTuple):
    """Inverse masses and inertias of two bodies, each [k, 1]; 0 of the ground."""

    ma: Array
    ia: Array
    mb: Array
    ib: Array


class ContactImpulse(NamedTuple):
    """What a contact did, each [p, k, E]."""

    normal: Array
    tangent: Array
    key: Array  # int32, of which point; 0 for none


class Both(NamedTuple):
    """How the two points of a face act on each other, each [p / 2, k, E].

    An impulse at the first moves the second by k12, one at the second itself by k22; n is the
    inverse of that matrix. Without the second point k12 and n12 are 0.
    """

    k12: Array
    k22: Array
    n11: Array
    n12: Array
    n22: Array


class Contact(NamedTuple):
    """A contact during the iterations, each [p, k, E]; a's arms are absent where it is ground."""

    nx: Array  # from a to b
    ny: Array
    ax: Array | None  # from the centre of a to the point
    ay: Array | None
    bx: Array
    by: Array
    normal_mass: Array  # 0 where there is no point
    tangent_mass: Array
    bias: Array  # speed after a bounce, or in corrections the gap
    friction: Array
    both: Both | None  # absent in corrections


def no_contact(*shape: int) -> ContactImpulse:
    """Of bodies that have not touched; `shape` begins with the number of points."""
    zero = jnp.zeros(shape, jnp.float32)
    return ContactImpulse(zero, zero, jnp.zeros(shape, jnp.int32))


def either(which: Array, yes: Pose, no: Pose) -> Pose:
    return Pose(*(jnp.where(which, p, q) for p, q in zip(yes, no, strict=True)))


def carried(points: Points, old: tuple[Pose, Pose], new: tuple[Pose, Pose]) -> Points:
    """Points where they are after their bodies a and b have moved."""

    def move(which: Array, x: Array, y: Array) -> tuple[Array, Array]:
        before, after = (either(which, b, a) for a, b in (old, new))
        return after.out(*before.into(x, y))

    before, after = (either(points.on_b, b, a) for a, b in (old, new))
    nx, ny = after.turn(*before.back(points.nx, points.ny))
    from_x, from_y = move(points.on_b, points.from_x, points.from_y)
    x, y = move(~points.on_b, points.x, points.y)
    return points._replace(nx=nx, ny=ny, from_x=from_x, from_y=from_y, x=x, y=y)


def _prepared(
    points: Points, x: Array, y: Array, m: Masses, a: Pose | None, b: Pose, friction: Array
) -> Contact:
    sign = jnp.where(points.on_b, jnp.float32(-1.0), jnp.float32(1.0))
    nx, ny = sign * points.nx, sign * points.ny
    bx, by, ax, ay = x - b.x, y - b.y, None, None
    for_n = m.mb + m.ib * (bx * ny - by * nx) ** 2
    for_t = m.mb + m.ib * (bx * nx + by * ny) ** 2
    if a is not None:
        ax, ay = x - a.x, y - a.y
        for_n = for_n + m.ma + m.ia * (ax * ny - ay * nx) ** 2
        for_t = for_t + m.ma + m.ia * (ax * nx + ay * ny) ** 2
    normal_mass, tangent_mass = (jnp.where(points.present, 1.0 / k, 0.0) for k in (for_n, for_t))
    nx, ny = jnp.where(points.present, nx, 0.0), jnp.where(points.present, ny, 0.0)
    bias = jnp.zeros_like(nx)
    return Contact(nx, ny, ax, ay, bx, by, normal_mass, tangent_mass, bias, friction, None)


def _coupled(c: Contact, m: Masses) -> Contact:
    """With what lets both normals of a face be solved at once."""
    first, second = slice(0, None, 2), slice(1, None, 2)
    turn = c.bx * c.ny - c.by * c.nx
    k12 = m.mb + m.ib * turn[first] * turn[second]
    if c.ax is not None and c.ay is not None:
        turn = c.ax * c.ny - c.ay * c.nx
        k12 = k12 + m.ma + m.ia * turn[first] * turn[second]
    m11, m22 = c.normal_mass[first], c.normal_mass[second]
    there = (m11 > 0) & (m22 > 0)
    k22 = jnp.where(m22 > 0, 1.0 / jnp.where(m22 > 0, m22, 1.0), 0.0)
    # Points that move each other almost as themselves are one point, as in Box2D.
    free = 1.0 - k12 * k12 * m11 * m22
    two = there & (_CONDITION * free > m22 / jnp.where(there, m11, 1.0))
    scale = jnp.where(two, 1.0 / jnp.where(two, free, 1.0), 1.0)
    k12 = jnp.where(two, k12, 0.0)
    gone = there & ~two
    m22, k22 = jnp.where(gone, 0.0, m22), jnp.where(gone, 0.0, k22)
    both = Both(k12, k22, m11 * scale, -k12 * m11 * m22 * scale, m22 * scale)

    def without(part: Array) -> Array:
        return part.at[second].set(jnp.where(gone, 0.0, part[second]))

    names = ("nx", "ny", "normal_mass", "tangent_mass")
    return c._replace(both=both, **{name: without(getattr(c, name)) for name in names})


def start(
    points: Points,
    m: Masses,
    a: tuple[Pose, Three] | None,
    b: tuple[Pose, Three],
    friction: Array,
    restitution: float = 0.0,
) -> Contact:
    """A contact before its first iteration; bodies a and b with their velocities."""
    half = 0.5 * _along(points)
    x, y = points.x - half * points.nx, points.y - half * points.ny
    contact = _prepared(points, x, y, m, None if a is None else a[0], b[0], friction)
    contact = _coupled(contact, m)
    if not restitution:
        return contact
    v_a = None if a is None else a[1]
    speed = jnp.stack([_speed(contact, p, v_a, b[1]) for p in range(len(points.x))])
    return contact._replace(bias=jnp.where(speed < -1.0, restitution * speed, 0.0))


def _along(points: Points) -> Array:
    dx, dy = points.x - points.from_x, points.y - points.from_y
    return dx * points.nx + dy * points.ny


def start_correction(points: Points, m: Masses, a: Pose | None, b: Pose) -> Contact:
    """A contact before positions are corrected: its bias is the gap."""
    contact = _prepared(points, points.x, points.y, m, a, b, 0.0)
    return contact._replace(bias=jnp.where(points.present, points.gap, 0.0))


def again(points: Points, before: ContactImpulse) -> ContactImpulse:
    """The last step's impulses of those points that are still there."""

    def found(part: Array) -> Array:
        value = jnp.zeros_like(part)
        for key, old in zip(before.key, part, strict=True):
            value = jnp.where(points.present & (points.key == key), old, value)
        return value

    return ContactImpulse(found(before.normal), found(before.tangent), points.key)


def _push(
    c: Contact, m: Masses, p: int, fx: Array, fy: Array, a: Three | None, b: Three
) -> tuple[Three | None, Three]:
    """Velocities after an impulse on b, and its opposite on a, at a point."""
    b = b[0] + m.mb * fx, b[1] + m.mb * fy, b[2] + m.ib * (c.bx[p] * fy - c.by[p] * fx)
    if a is not None and c.ax is not None and c.ay is not None:
        a = a[0] - m.ma * fx, a[1] - m.ma * fy, a[2] - m.ia * (c.ax[p] * fy - c.ay[p] * fx)
    return a, b


def _velocity(c: Contact, p: int, a: Three | None, b: Three) -> tuple[Array, Array]:
    """Of b against a at a point."""
    dx, dy = b[0] - b[2] * c.by[p], b[1] + b[2] * c.bx[p]
    if a is not None and c.ax is not None and c.ay is not None:
        dx, dy = dx - a[0] + a[2] * c.ay[p], dy - a[1] - a[2] * c.ax[p]
    return dx, dy


def _speed(c: Contact, p: int, a: Three | None, b: Three) -> Array:
    dx, dy = _velocity(c, p, a, b)
    return dx * c.nx[p] + dy * c.ny[p]


def warm(
    c: Contact, m: Masses, impulse: ContactImpulse, a: Three | None, b: Three
) -> tuple[Three | None, Three]:
    """Velocities after all that a contact did in the last step."""
    fx = impulse.normal * c.nx + impulse.tangent * c.ny
    fy = impulse.normal * c.ny - impulse.tangent * c.nx
    for p in range(len(fx)):
        a, b = _push(c, m, p, fx[p], fy[p], a, b)
    return a, b


def solve(
    c: Contact, m: Masses, impulse: ContactImpulse, a: Three | None, b: Three
) -> tuple[ContactImpulse, Three | None, Three]:
    """One iteration: face by face friction at both points, then both normals."""
    normal, tangent = [], []
    for face in range(0, len(impulse.normal), 2):
        two, one = slice(face, face + 2), slice(face // 2, face // 2 + 1)
        part = Contact(*(_cut(value, two) for value in c))._replace(both=_of(c, one))
        n, t, a, b = apart(_solve_face, part, m, impulse.normal[two], impulse.tangent[two], a, b)
        normal.append(n)
        tangent.append(t)
    return ContactImpulse(jnp.concatenate(normal), jnp.concatenate(tangent), impulse.key), a, b


def _of(c: Contact, faces: slice) -> Both:
    assert c.both is not None
    return Both(*(part[faces] for part in c.both))


def _cut(value: Any, points: slice) -> Any:
    return value[points] if getattr(value, "ndim", 0) == 3 else value


def _solve_face(
    c: Contact, m: Masses, n: Array, t: Array, a: Three | None, b: Three
) -> tuple[Array, Array, Three | None, Three]:
    normal, tangent = [n[0], n[1]], [t[0], t[1]]
    for p in (0, 1):
        dx, dy = _velocity(c, p, a, b)
        most = c.friction * normal[p]
        new = jnp.clip(tangent[p] - c.tangent_mass[p] * (dx * c.ny[p] - dy * c.nx[p]), -most, most)
        push, tangent[p] = new - tangent[p], new
        a, b = _push(c, m, p, push * c.ny[p], -push * c.nx[p], a, b)
    speeds = [_speed(c, p, a, b) + c.bias[p] for p in (0, 1)]
    for p, new in enumerate(_both_normals(c, normal, speeds)):
        push, normal[p] = new - normal[p], new
        a, b = _push(c, m, p, push * c.nx[p], push * c.ny[p], a, b)
    return jnp.stack(normal), jnp.stack(tangent), a, b


def _both_normals(c: Contact, old: list[Array], speeds: list[Array]) -> tuple[Array, Array]:
    """Impulses that leave no point of a face approaching, and push at none that departs.

    There is one such pair: with both points pressed, the first, the second, or none.
    """
    k12, k22, n11, n12, n22 = (part[0] for part in _of(c, slice(0, 1)))
    x = old[0] - n11 * speeds[0] - n12 * speeds[1]
    y = old[1] - n12 * speeds[0] - n22 * speeds[1]
    pressed = (x >= 0) & (y >= 0)
    first = jnp.maximum(old[0] - c.normal_mass[0] * (speeds[0] - k12 * old[1]), 0.0)
    alone = speeds[1] + k12 * (first - old[0]) - k22 * old[1] >= 0
    second = jnp.maximum(old[1] - c.normal_mass[1] * (speeds[1] - k12 * old[0]), 0.0)
    x = jnp.where(pressed, x, jnp.where(alone, first, 0.0))
    return x, jnp.where(pressed, y, jnp.where(alone, 0.0, second))


def correct(
    c: Contact, m: Masses, a: Three | None, b: Three, running: Array, share: float = _SHARE
) -> tuple[Three | None, Three, Array]:
    """Moves overlapping bodies apart: a, b, and the deepest gap that was found, [k, E].

    a and b are how far bodies have been moved so far, which is small: gaps change with it linearly.
    `running` is 1 where bodies are still moved, else 0.
    """
    deepest = jnp.float32(0.0)
    for p in range(len(c.bias)):
        gap = c.bias[p] + _speed(c, p, a, b)
        deepest = jnp.minimum(deepest, jnp.where(c.normal_mass[p] > 0, gap, 0.0))
        push = -jnp.clip(share * (gap + SLOP), -_MOST, 0.0) * c.normal_mass[p] * running
        a, b = _push(c, m, p, push * c.nx[p], push * c.ny[p], a, b)
    return a, b, deepest
