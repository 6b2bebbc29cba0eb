"""Contacts of bodies in the plane: impulses that keep them apart, friction, and impacts.

Sequential impulses and corrections of positions as in Box2D (E. Catto, "Fast and simple physics
using sequential impulses", GDC 2006; "Continuous collision", GDC 2013). All arrays are [..., E],
the last axis counts environments; those of a contact are [p, k, E], for its p points, two on each
face.

Shape legend: k bodies or pairs that are treated alike, W edges of ground per body, E environments.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.envs.rigid.lanes import apart
from mamt_jax.envs.rigid.polygons import (
    SLOP,
    Faces,
    Four,
    Points,
    Pose,
    gap_to_ground,
    on_ground,
    placed,
)

Array = Any
Three = tuple[Array, Array, Array]  # along x, along y, about the centre

STILL = Pose(0.0, 0.0, 0.0, 1.0, 0.0)
"""Where the ground is."""
DEEPEST = 3.0 * SLOP
"""Overlap that corrections leave alone once it is reached."""
HIT = 0.005 - 0.25 * SLOP
"""Distance of polygons below which one that moves is stopped."""
_HIT_GAP, _TOUCHING = 0.005, 0.005 + 0.25 * SLOP
_SHARE = 0.2  # of an overlap that is corrected at once
_SHARE_AT_IMPACT = 0.75
_MOST = 0.2  # of a correction
_DEEPEST_AT_IMPACT = 1.5 * SLOP
_LOOKS, _ROOT_STEPS = 8, 6
_CORRECTIONS_AT_IMPACT = 3


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


def no_contact(*shape: int) -> ContactImpulse:
    """Of bodies that have not touched; `shape` begins with the number of points."""
    zero = jnp.zeros(shape, jnp.float32)
    return ContactImpulse(zero, zero, jnp.zeros(shape, jnp.int32))


def _either(which: Array, yes: Pose, no: Pose) -> Pose:
    return Pose(*(jnp.where(which, p, q) for p, q in zip(yes, no, strict=True)))


def carried(points: Points, old: tuple[Pose, Pose], new: tuple[Pose, Pose]) -> Points:
    """Points where they are after their bodies a and b have moved."""

    def move(which: Array, x: Array, y: Array) -> tuple[Array, Array]:
        before, after = (_either(which, b, a) for a, b in (old, new))
        return after.out(*before.into(x, y))

    before, after = (_either(points.on_b, b, a) for a, b in (old, new))
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
    bias = jnp.zeros_like(nx)
    return Contact(nx, ny, ax, ay, bx, by, normal_mass, tangent_mass, bias, friction)


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
        two = slice(face, face + 2)
        part = Contact(*(_cut(value, two) for value in c))
        n, t, a, b = apart(_solve_face, part, m, impulse.normal[two], impulse.tangent[two], a, b)
        normal.append(n)
        tangent.append(t)
    return ContactImpulse(jnp.concatenate(normal), jnp.concatenate(tangent), impulse.key), a, b


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
    for p in (0, 1):
        new = normal[p] - c.normal_mass[p] * (_speed(c, p, a, b) + c.bias[p])
        new = jnp.maximum(new, 0.0)
        push, normal[p] = new - normal[p], new
        a, b = _push(c, m, p, push * c.nx[p], push * c.ny[p], a, b)
    return jnp.stack(normal), jnp.stack(tangent), a, b


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


class Flight(NamedTuple):
    """Bodies on their way through a step, each [k, E]."""

    before: Pose
    after: Pose
    velocity: Three
    spent: Array  # share of the step at `before`


def _between(flight: Flight, share: Array) -> Pose:
    old, new = flight.before, flight.after
    dx, dy, turn = new.x - old.x, new.y - old.y, new.angle - old.angle
    return old.moved(share * dx, share * dy, share * turn)


def _time_of_impact(local: Faces, flight: Flight, ends: Four) -> Array:
    """Share of the way at which a body comes too near to the ground, 2 where it does not: [k, E]"""
    local = Faces(*(jnp.asarray(part)[:, None] for part in local))  # the same before every edge

    def gap(share: Array) -> Array:
        at = apart(_between, flight, share)
        shown = apart(placed, local, at)
        return apart(gap_to_ground, shown, at.x, at.y, ends)

    zero = jnp.zeros_like(ends[0])
    first = gap(zero)
    at_once = (first > 0) & (first < _TOUCHING)

    def look(number: Array, bounds: Any) -> Any:
        low, gap_low, high, gap_high = bounds
        share = zero + (number + 1).astype(jnp.float32) * (1.0 / _LOOKS)
        found = gap(share)
        still_free, hits = gap_high > HIT, found < HIT
        return (
            *(
                jnp.where(still_free & ~hits, share, low),
                jnp.where(still_free & ~hits, found, gap_low),
            ),
            *(jnp.where(still_free, share, high), jnp.where(still_free, found, gap_high)),
        )

    bounds = jax.lax.fori_loop(0, _LOOKS, look, (zero, first, zero + 1.0, zero + jnp.inf))
    later = (first > 0) & ~at_once & (bounds[3] < HIT)

    def nearer(_: int, bounds: Any) -> Any:
        low, gap_low, high, gap_high = bounds
        fall = jnp.where(later, gap_low - gap_high, 1.0)
        share = low + (high - low) * jnp.clip((gap_low - _HIT_GAP) / fall, 0.0, 1.0)
        found = gap(share)
        apart = found > _HIT_GAP
        return (
            *(jnp.where(apart, share, low), jnp.where(apart, found, gap_low)),
            *(jnp.where(apart, high, share), jnp.where(apart, gap_high, found)),
        )

    _, _, share, _ = jax.lax.fori_loop(0, _ROOT_STEPS, nearer, bounds)
    return jnp.where(at_once, 0.0, jnp.where(later, share, 2.0)).min(axis=0)


def impact(
    local: Faces,
    m: Masses,
    friction: Array,
    flight: Flight,
    ground: tuple[Four, Array],
    dt: float,
    iterations: int,
) -> tuple[Flight, Array, Array]:
    """Stops bodies where they would hit the ground, and lets each finish its step from there.

    As in Box2D, a body meets the ground for itself: what is joined to it is left out until the
    next step. So a leg that comes down hard stops hard.

    Returns:
      The flight from there on, whether there was an impact [k, E], and the edges that were touched
      then [W, k, E].
    """
    share = _time_of_impact(local, flight, ground[0])
    at = apart(_between, flight, jnp.where(share < 1, share, 0.0))
    points, touched = on_ground(apart(placed, local, at), at.x, at.y, *ground)
    hit = (share < 1) & touched.any(axis=0)
    contact = apart(start_correction, points, m, None, at)

    def shift(_: int, carry: Any) -> Any:
        moved, running = carry
        _, moved, deepest = apart(
            partial(correct, share=_SHARE_AT_IMPACT), contact, m, None, moved, running
        )
        return moved, running * (deepest < -_DEEPEST_AT_IMPACT)

    zero = jnp.zeros_like(at.x)
    begin = ((zero, zero, zero), hit.astype(jnp.float32))
    moved, _ = jax.lax.fori_loop(0, _CORRECTIONS_AT_IMPACT, shift, begin)
    there = apart(Pose.moved, at, *moved)
    points = apart(carried, points, (STILL, at), (STILL, there))
    contact = apart(start, points, m, None, (there, flight.velocity), friction)

    def iterate(_: int, carry: Any) -> Any:
        solved = solve(contact, m, carry[0], None, carry[1])
        return solved[0], solved[2]

    at_first = no_contact(4, *hit.shape), flight.velocity
    _, velocity = jax.lax.fori_loop(0, iterations, iterate, at_first)
    spent = flight.spent + share * (1.0 - flight.spent)
    left = dt * (1.0 - spent)
    after = there.moved(*(left * part for part in velocity))
    chosen = tuple(jnp.where(hit, v, old) for v, old in zip(velocity, flight.velocity, strict=True))
    spent = jnp.where(hit, spent, flight.spent)
    before, after = _either(hit, there, flight.before), _either(hit, after, flight.after)
    return Flight(before, after, chosen, spent), hit, touched  # type: ignore[arg-type]
