"""Impacts: bodies that would hit the ground within a step are stopped there.

As in Box2D (E. Catto, "Continuous collision", GDC 2013): an axis that keeps body and edge apart,
the point that comes nearest along it, and the time at which that is near enough; again until the
bodies touch along the best axis there. All arrays are [..., E], the last axis counts environments.

Shape legend: F faces of a polygon, k bodies, W edges of ground per body, E environments.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.envs.rigid import contacts
from mamt_jax.envs.rigid.contacts import STILL, Masses, Three
from mamt_jax.envs.rigid.lanes import apart
from mamt_jax.envs.rigid.polygons import (
    SLOP,
    Faces,
    Four,
    Points,
    Pose,
    choose,
    on_ground,
    placed,
)

Array = Any

GAP, TOLERANCE = SLOP, 0.25 * SLOP
"""Distance of polygons at which one that moves is stopped, and how well it is met."""
HIT = GAP - TOLERANCE
_SHARE = 0.75  # of an overlap that is corrected at once
_DEEPEST = 1.5 * SLOP
_ROUNDS, _POINTS, _ROOT_STEPS = 2, 2, 8
_CORRECTIONS = 4


class Flight(NamedTuple):
    """Bodies on their way through a step, each [k, E]."""

    before: Pose
    after: Pose
    velocity: Three
    spent: Array  # share of the step at `before`


class _Way(NamedTuple):
    """Edges from where a body is, [W, k, E], and how the body moves."""

    x1: Array
    y1: Array
    x2: Array
    y2: Array
    cos: Array  # of the body at first, [k, E]
    sin: Array
    dx: Array
    dy: Array
    turn: Array

    def at(self, share: Array) -> Pose:
        """Where the body is after a share of its way."""
        zero = jnp.zeros_like(self.cos)
        start = Pose(zero, zero, zero, self.cos, self.sin)
        return start.moved(share * self.dx, share * self.dy, share * self.turn)


class _Axis(NamedTuple):
    """The normal of an edge, or of a face of the body, each [W, k, E]."""

    on_face: Array  # bool
    nx: Array  # in the frame of what it is a normal of
    ny: Array
    offset: Array  # of what it is a normal of, along it


class _Pair(NamedTuple):
    """What is followed along an axis: a corner of the body, or with a face an end of the edge."""

    x: Array
    y: Array


def _best_axis(local: Faces, way: _Way, share: Array) -> tuple[_Axis, Array]:
    """The axis along which body and edge are furthest apart, and how far: [W, k, E]."""
    at = way.at(share)
    ends = ((way.x1 - at.x, way.y1 - at.y), (way.x2 - at.x, way.y2 - at.y))
    (ax, ay), (bx, by) = (at.back(*end) for end in ends)  # in the frame of the body
    ex, ey = bx - ax, by - ay
    scale = jax.lax.rsqrt(ex * ex + ey * ey)
    nx, ny = -ey * scale, ex * scale
    below = nx * ax + ny * ay > 0  # the centre of the body
    nx, ny = jnp.where(below, -nx, nx), jnp.where(below, -ny, ny)
    offset = nx * ax + ny * ay
    gap = jnp.full_like(ax, jnp.inf)
    for x, y, *_ in local.each():
        gap = jnp.minimum(gap, nx * x + ny * y - offset)
    wx, wy = at.turn(nx, ny)
    axis = _Axis(jnp.zeros_like(below), wx, wy, wx * way.x1 + wy * way.y1)
    for x, y, _, _, fx, fy in local.each():
        own = jnp.minimum(fx * (ax - x) + fy * (ay - y), fx * (bx - x) + fy * (by - y))
        better = own > gap
        gap = jnp.maximum(own, gap)
        face = (better | axis.on_face, fx, fy, fx * x + fy * y)
        axis = _Axis(
            face[0],
            *(jnp.where(better, new, old) for new, old in zip(face[1:], axis[1:], strict=True)),
        )
    return axis, gap


def _nearest(local: Faces, way: _Way, axis: _Axis, share: Array) -> tuple[_Pair, Array]:
    """What is nearest along an axis after a share of the way, and how near."""
    at = way.at(share)
    qx, qy = at.back(axis.nx, axis.ny)
    best = jnp.full_like(qx, jnp.inf)
    px = py = jnp.zeros_like(qx)
    for x, y, *_ in local.each():
        gap = x * qx + y * qy
        px, py = jnp.where(gap < best, x, px), jnp.where(gap < best, y, py)
        best = jnp.minimum(gap, best)
    best = best + axis.nx * at.x + axis.ny * at.y
    ux, uy = at.turn(axis.nx, axis.ny)
    first, second = (
        ux * (x - at.x) + uy * (y - at.y) for x, y in ((way.x1, way.y1), (way.x2, way.y2))
    )
    ex, ey = (jnp.where(first <= second, a, b) for a, b in ((way.x1, way.x2), (way.y1, way.y2)))
    own = jnp.minimum(first, second)
    pair = _Pair(jnp.where(axis.on_face, ex, px), jnp.where(axis.on_face, ey, py))
    return pair, jnp.where(axis.on_face, own, best) - axis.offset


def _gap(way: _Way, axis: _Axis, pair: _Pair, share: Array) -> Array:
    """How far a pair is apart along its axis after a share of the way."""
    at = way.at(share)
    # The normal of an edge against a corner that turns, or a normal that turns against an end.
    ax, ay = jnp.where(axis.on_face, axis.nx, pair.x), jnp.where(axis.on_face, axis.ny, pair.y)
    bx = jnp.where(axis.on_face, pair.x - at.x, axis.nx)
    by = jnp.where(axis.on_face, pair.y - at.y, axis.ny)
    ux, uy = at.turn(ax, ay)
    moved = jnp.where(axis.on_face, 0.0, axis.nx * at.x + axis.ny * at.y)
    return ux * bx + uy * by + moved - axis.offset


def _near_enough(gap: Array) -> Array:
    return jnp.abs(gap - GAP) < TOLERANCE


def _root(way: _Way, axis: _Axis, pair: _Pair, low: Array, high: Array, deep: Array) -> Array:
    """When a pair that is `deep` at the share `high` is near, halves and chords by turns."""

    def nearer(number: Array, bounds: Any) -> Any:
        low, gap_low, high, gap_high, found = bounds
        fall = jnp.where(gap_low > gap_high, gap_low - gap_high, 1.0)
        part = jnp.where(number % 2 == 0, 0.5, (gap_low - GAP) / fall)
        share = low + (high - low) * part
        gap = _gap(way, axis, pair, share)
        above = gap > GAP
        found = found | _near_enough(gap_high)
        up, down = above & ~_near_enough(gap) & ~found, (~above | _near_enough(gap)) & ~found
        return (
            *(jnp.where(up, share, low), jnp.where(up, gap, gap_low)),
            *(jnp.where(down, share, high), jnp.where(down, gap, gap_high)),
            found,
        )

    begin = (low, _gap(way, axis, pair, low), high, deep, jnp.zeros_like(axis.on_face))
    return jax.lax.fori_loop(0, _ROOT_STEPS, nearer, begin)[2]


def time_of_impact(local: Faces, flight: Flight, ends: Four) -> Array:
    """Share of the way at which a body comes too near to an edge, 2 where it does not: [W, k, E]"""
    old, new = flight.before, flight.after
    local = Faces(*(jnp.asarray(part)[:, None] for part in local))  # the same before every edge
    x1, y1, x2, y2 = ends
    way = _Way(
        *(x1 - old.x, y1 - old.y, x2 - old.x, y2 - old.y, old.cos, old.sin),
        *(new.x - old.x, new.y - old.y, new.angle - old.angle),
    )

    def advance(number: Array, carry: Any) -> Any:
        share, free, touching = carry
        axis, gap = apart(_best_axis, local, way, share)
        free = free | ((number == 0) & (gap <= 0))  # what overlaps is not stopped
        touching = touching | (gap < GAP + TOLERANCE)

        def nearest(_: int, carry: Any) -> Any:
            high, free, done = carry
            pair, deep = apart(_nearest, local, way, axis, high)
            done = done | (deep > HIT)
            free = free | ((high >= 1) & (deep > GAP + TOLERANCE))
            new = apart(_root, way, axis, pair, share, high, deep)
            return jnp.where(done, high, new), free, done

        begin = (jnp.ones_like(share), jnp.zeros_like(free), touching | free)
        high, apart_, _ = jax.lax.fori_loop(0, _POINTS, nearest, begin)
        free = free | (apart_ & ~touching)
        return jnp.where(touching | free, share, high), free, touching

    no = jnp.zeros(x1.shape, bool)
    begin = jnp.zeros_like(x1), no, no
    share, free, _ = jax.lax.fori_loop(0, _ROUNDS, advance, begin)
    return jnp.where(free | (share >= 1), 2.0, share)


def _swapped(points: Points, which: Array) -> Points:
    """With the points of the second edge first, where told."""
    one, other = (Points(*(part[half] for part in points)) for half in (slice(0, 2), slice(2, 4)))
    pair = choose(which, other, one), choose(which, one, other)
    return Points(*(jnp.concatenate(part) for part in zip(*pair, strict=True)))


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
    next step. So a leg that comes down hard stops hard. What it hits is solved first.

    Returns:
      The flight from there on, whether there was an impact [k, E], and the edges that were touched
      then [W, k, E].
    """
    ends, edge = ground
    times = time_of_impact(local, flight, ends)
    share = times.min(axis=0)
    old, new = flight.before, flight.after
    way = jnp.where(share < 1, share, 0.0)
    at = apart(Pose.moved, old, *(way * (b - a) for a, b in zip(old[:3], new[:3], strict=True)))
    points, touched = on_ground(apart(placed, local, at), at.x, at.y, *ground)
    hit = (share < 1) & touched.any(axis=0)
    first = jnp.where(times == share, edge, 2**30).min(axis=0)
    others = jnp.where(touched, edge, -1).max(axis=0)
    points = apart(_swapped, points, others > first)
    contact = apart(contacts.start_correction, points, m, None, at)

    def shift(_: int, carry: Any) -> Any:
        moved, running = carry
        correct = partial(contacts.correct, share=_SHARE)
        _, moved, deepest = apart(correct, contact, m, None, moved, running)
        return moved, running * (deepest < -_DEEPEST)

    zero = jnp.zeros_like(at.x)
    begin = ((zero, zero, zero), hit.astype(jnp.float32))
    moved, _ = jax.lax.fori_loop(0, _CORRECTIONS, shift, begin)
    there = apart(Pose.moved, at, *moved)
    points = apart(contacts.carried, points, (STILL, at), (STILL, there))
    contact = apart(contacts.start, points, m, None, (there, flight.velocity), friction)

    def iterate(_: int, carry: Any) -> Any:
        solved = contacts.solve(contact, m, carry[0], None, carry[1])
        return solved[0], solved[2]

    at_first = contacts.no_contact(4, *hit.shape), flight.velocity
    _, velocity = jax.lax.fori_loop(0, iterations, iterate, at_first)
    spent = flight.spent + share * (1.0 - flight.spent)
    left = dt * (1.0 - spent)
    after = there.moved(*(left * part for part in velocity))
    chosen = tuple(jnp.where(hit, v, old) for v, old in zip(velocity, flight.velocity, strict=True))
    spent = jnp.where(hit, spent, flight.spent)
    before, after = contacts.either(hit, there, old), contacts.either(hit, after, new)
    return Flight(before, after, chosen, spent), hit, touched  # type: ignore[arg-type]
