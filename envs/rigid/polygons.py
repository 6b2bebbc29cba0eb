"""Convex polygons and ground edges: mass, and contact by clipping.

The methods are the published ones of Box2D (E. Catto, "Contact manifolds", GDC 2007, and the
book-keeping around them), so that contacts have the same points. All arrays are
[..., E]: the last axis counts environments, and the ones before it whatever is treated alike.
Lengths are metres.

Shape legend: F faces of a polygon, k bodies or pairs of them, W edges of ground,
E environments.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mamt_jax.envs.rigid.lanes import apart

SLOP = 0.005
"""Overlap of skins that is left alone."""
SKIN = 0.02
"""Distance below which two bodies touch: each has a skin of half of that."""
_PREFER_EDGE = 0.98, 0.001  # a polygon's face is chosen where it beats the edge by this much
_PREFER_FIRST = 0.1 * SLOP

Array = Any  # of JAX or NumPy
Two = tuple[Array, Array]
Four = tuple[Array, Array, Array, Array]


@dataclass(frozen=True)
class Shape:
    """A convex polygon of one material.

    Attributes:
      corners: (x, y) anticlockwise, from the body's origin.
      density: kg per square metre.
      friction: of its surface; two surfaces have the root of their product.
    """

    corners: tuple[tuple[float, float], ...]
    density: float
    friction: float = 0.2

    @cached_property
    def _moments(self) -> tuple[float, NDArray[Any], float]:
        """Area, centre of mass, and second moment of the area about that."""
        p = np.array(self.corners)
        q = np.roll(p, -1, axis=0)
        cross = p[:, 0] * q[:, 1] - p[:, 1] * q[:, 0]
        area = cross.sum() / 2
        centre = (cross[:, None] * (p + q)).sum(axis=0) / (6 * area)
        second = (cross[:, None] * (p * p + p * q + q * q)).sum() / 12
        return float(area), centre, float(second - area * (centre**2).sum())

    @property
    def mass(self) -> float:
        """In kg."""
        return self.density * self._moments[0]

    @property
    def centre(self) -> tuple[float, float]:
        """Centre of mass, from the body's origin."""
        return float(self._moments[1][0]), float(self._moments[1][1])

    @property
    def inertia(self) -> float:
        """About the centre of mass, in kg m²."""
        return self.density * self._moments[2]


class Faces(NamedTuple):
    """Faces of polygons: their ends, anticlockwise, and outward normals, each [F, k, E or 1]."""

    x: Array
    y: Array
    end_x: Array
    end_y: Array
    nx: Array
    ny: Array

    def each(self) -> Iterator[tuple[Array, ...]]:
        """One face after another."""
        return ((tuple(part[f] for part in self)) for f in range(self.x.shape[0]))

    def of(self, which: Any) -> Faces:
        """Those of some bodies."""
        return Faces(*(part[:, which] for part in self))


def faces(shapes: tuple[Shape, ...]) -> Faces:
    """Faces about the centres of mass, float32 [F, k, 1]; the last is repeated where others have
    more."""
    most, found = max(len(shape.corners) for shape in shapes), []
    for shape in shapes:
        start = np.array(shape.corners) - shape.centre
        end = np.roll(start, -1, axis=0)
        along = (end - start) / np.linalg.norm(end - start, axis=1, keepdims=True)
        normal = np.stack([along[:, 1], -along[:, 0]], axis=1)
        own = np.concatenate([start, end, normal], axis=1)
        found.append(np.concatenate([own, np.repeat(own[-1:], most - len(own), axis=0)]))
    return Faces(*np.stack(found, axis=1).transpose(2, 0, 1)[..., None].astype(np.float32))


class Pose(NamedTuple):
    """Where bodies are, each [k, E]."""

    x: Array
    y: Array
    angle: Array
    cos: Array
    sin: Array

    def out(self, x: Array, y: Array) -> tuple[Array, Array]:
        """A place of a body's own frame in the world."""
        dx, dy = self.turn(x, y)
        return self.x + dx, self.y + dy

    def moved(self, dx: Array, dy: Array, turn: Array) -> Pose:
        """After a small move; the turn, of less than a radian or so, is by its series."""
        square = turn * turn
        sin = turn * (1.0 - square * (1.0 / 6.0) * (1.0 - square * (1.0 / 20.0)))
        cos = 1.0 - square * 0.5 * (1.0 - square * (1.0 / 12.0) * (1.0 - square * (1.0 / 30.0)))
        return Pose(
            self.x + dx,
            self.y + dy,
            self.angle + turn,
            self.cos * cos - self.sin * sin,
            self.sin * cos + self.cos * sin,
        )

    def turn(self, x: Array, y: Array) -> tuple[Array, Array]:
        """A direction of a body's own frame in the world."""
        return self.cos * x - self.sin * y, self.sin * x + self.cos * y

    def back(self, x: Array, y: Array) -> tuple[Array, Array]:
        """A direction of the world in a body's own frame."""
        return self.cos * x + self.sin * y, self.cos * y - self.sin * x

    def into(self, x: Array, y: Array) -> tuple[Array, Array]:
        """A place of the world in a body's own frame."""
        return self.back(x - self.x, y - self.y)


def placed(local: Faces, at: Pose) -> Faces:
    """Faces of bodies in the world."""
    return Faces(
        *at.out(local.x, local.y), *at.out(local.end_x, local.end_y), *at.turn(local.nx, local.ny)
    )


class Points(NamedTuple):
    """Points at which bodies a and b touch: each field [2, k, E], or of several faces [4, k, E].

    The reference is a face of a or of b, the point lies on the other one; where that is the ground,
    it is a. All in the world, at the time of the collision.
    """

    on_b: Array  # bool, whether the reference is a face of b
    nx: Array  # outward normal of the reference
    ny: Array
    from_x: Array  # a place on the reference
    from_y: Array
    x: Array
    y: Array
    present: Array  # bool
    key: Array  # int32, by which a point is known again in the next step; 0 where there is none

    @property
    def gap(self) -> Array:
        """Of the skins, negative where they overlap."""
        return dot(self.nx, self.ny, self.x - self.from_x, self.y - self.from_y) - SKIN


def dot(ax: Array, ay: Array, bx: Array, by: Array) -> Array:
    """Of two directions."""
    return ax * bx + ay * by


def _at(index: Array, part: Array) -> Array:
    """part[index] of [F, ...], for index [...]."""
    value = part[0]
    for f in range(1, part.shape[0]):
        value = jnp.where(index == f, part[f], value)
    return value


def _first_largest(values: Sequence[Array]) -> tuple[Array, Array]:
    """Largest of some arrays, and which is the first with it."""
    best, index = values[0], jnp.zeros(jnp.shape(values[0]), jnp.int32)
    for f in range(1, len(values)):
        index = jnp.where(values[f] > best, np.int32(f), index)
        best = jnp.maximum(values[f], best)
    return best, index


def _largest(values: Sequence[Array]) -> Array:
    return functools.reduce(jnp.maximum, values)


def _least(values: Sequence[Array]) -> Array:
    return functools.reduce(jnp.minimum, values)


def _clip(
    on_b: Array, normal: Two, reference: Four, incident: Four, touching: Array, key: Array
) -> Points:
    """The incident face within the sides of the reference, where it is within the skins."""
    nx, ny = normal
    x1, y1, x2, y2 = reference
    ax, ay, bx, by = incident
    zero = jnp.zeros(jnp.shape(ax), jnp.int32)
    key_a, key_b = zero + 1, zero + 4
    for side, (sx, sy, ox, oy) in enumerate(((ny, -nx, x1, y1), (-ny, nx, x2, y2)), 1):
        da, db = dot(sx, sy, ax - ox, ay - oy), dot(sx, sy, bx - ox, by - oy)
        touching &= (da <= 0) | (db <= 0)
        share = da / jnp.where(da == db, 1.0, da - db)
        cx, cy = ax + share * (bx - ax), ay + share * (by - ay)
        # Where the first is cut off, the second comes first from there on, as in Box2D.
        out_a, out_b = da > 0, db > 0
        cut, start = out_a | out_b, jnp.where(out_a, key_a, key_b)
        ax, ay = jnp.where(out_a, bx, ax), jnp.where(out_a, by, ay)
        key_a, key_b = jnp.where(out_a, key_b, key_a), jnp.where(cut, start + side, key_b)
        bx, by = jnp.where(cut, cx, bx), jnp.where(cut, cy, by)
    x, y = jnp.stack([ax, bx]), jnp.stack([ay, by])
    present = touching & (dot(nx, ny, x - x1, y - y1) <= SKIN)
    keys = 8 * key + jnp.stack([key_a, key_b])
    same: Any = [jnp.broadcast_to(part, x.shape) for part in (on_b, nx, ny, x1, y1)]
    fields = (*same, x, y, present, jnp.where(present, keys, 0))
    return Points(*fields)


def _ground_gaps(body: Faces, x: Array, y: Array, ends: Four) -> Any:
    """(gap along the edge's normal, along each face's, normal, whether it is from below).

    The normal is on the body's side, where its centre x, y is.
    """
    x1, y1, x2, y2 = ends
    scale = jax.lax.rsqrt((x2 - x1) ** 2 + (y2 - y1) ** 2)
    ex, ey = (x2 - x1) * scale, (y2 - y1) * scale
    below = dot(ey, -ex, x - x1, y - y1) >= 0
    nx, ny = jnp.where(below, ey, -ey), jnp.where(below, -ex, ex)
    edge_gap = _least([dot(nx, ny, px - x1, py - y1) for px, py, *_ in body.each()])
    gaps = [
        jnp.minimum(dot(fx, fy, x1 - px, y1 - py), dot(fx, fy, x2 - px, y2 - py))
        for px, py, _, _, fx, fy in body.each()
    ]
    return edge_gap, gaps, nx, ny, below


def gap_to_ground(body: Faces, x: Array, y: Array, ends: Four) -> Array:
    """How far polygons, centred at x, y [..., E], are from edges [..., E], along the best axis.

    Faces are [F, ..., E]. Negative where they overlap.
    """
    edge_gap, gaps, *_ = _ground_gaps(body, x, y, ends)
    return _largest([edge_gap, *gaps])


def _on_edge(body: Faces, x: Array, y: Array, ends: Four, edge: Array) -> Points:
    """Where polygons touch one edge each, whose ends and number are [k, E]."""

    def axis(body: Faces, x: Array, y: Array, ends: Four) -> Any:
        edge_gap, gaps, nx, ny, below = _ground_gaps(body, x, y, ends)
        gap, face = _first_largest(gaps)
        facing = _first_largest([-dot(nx, ny, fx, fy) for *_, fx, fy in body.each()])[1]
        on_b = gap > _PREFER_EDGE[0] * edge_gap + _PREFER_EDGE[1]
        close = (edge_gap <= SKIN) & (gap <= SKIN)
        return on_b, jnp.where(on_b, face, facing), close, nx, ny, below

    def sides(body: Faces, ends: Four, found: Any) -> Any:
        on_b, face, _, nx, ny, below = found
        x1, y1, x2, y2 = ends
        px, py, qx, qy, fx, fy = (_at(face, part) for part in body)
        # Walked along so that the normal is on the right; that of the body is anticlockwise.
        ax, bx = jnp.where(below, x1, x2), jnp.where(below, x2, x1)
        ay, by = jnp.where(below, y1, y2), jnp.where(below, y2, y1)
        held, given = (px, py, qx, qy), (ax, ay, bx, by)
        reference = tuple(jnp.where(on_b, h, g) for h, g in zip(held, given, strict=True))
        incident = tuple(jnp.where(on_b, e, h) for e, h in zip(ends, held, strict=True))
        return (jnp.where(on_b, fx, nx), jnp.where(on_b, fy, ny)), reference, incident

    found = apart(axis, body, x, y, ends)
    normal, reference, incident = apart(sides, body, ends, found)
    on_b, face, close, *_ = found
    key = (edge * 2 + on_b) * 8 + face
    return apart(_clip, on_b, normal, reference, incident, close, key)


def on_ground(body: Faces, x: Array, y: Array, ends: Four, edge: Array) -> tuple[Points, Array]:
    """Where polygons touch the ground, and which edges: ([4, k, E], bool [W, k, E]).

    Edges have two sides and no knowledge of their neighbours, and each that is touched gives up to
    two points. The outermost two edges of each body are kept: those between do not hold it better,
    and there seldom are any. The one with the highest number comes first, as in Box2D, where edges
    made last do.

    Args:
      body: faces of bodies, [F, k, E].
      x: of their centres, [k, E]; also y.
      ends: x1, y1, x2, y2 of the edges that each may touch, [W, k, E].
      edge: their numbers, int32 [W, k, E].
    """
    zero, no = jnp.zeros((2, *x.shape), jnp.float32), jnp.zeros((2, *x.shape), bool)
    none = Points(no, *(zero,) * 6, no, jnp.zeros((2, *x.shape), jnp.int32))
    far = jnp.full(x.shape, 2**30, jnp.int32)

    def add(outermost: Any, edge: tuple[Four, Array]) -> Any:
        left, right, first, last = outermost
        found = _on_edge(body, x, y, *edge)
        touched, number = found.present[0] | found.present[1], edge[1]
        before, beyond = touched & (number < first), touched & (number > last)
        return (
            *(choose(before, found, left), choose(beyond, found, right)),
            *(jnp.where(before, number, first), jnp.where(beyond, number, last)),
        ), touched

    (left, right, first, last), touched = jax.lax.scan(add, (none, none, far, -far), (ends, edge))
    two = last > first
    left = left._replace(present=left.present & two, key=jnp.where(two, left.key, 0))
    return Points(*(jnp.concatenate(part) for part in zip(right, left, strict=True))), touched


def choose(which: Array, yes: Points, no: Points) -> Points:
    """One or the other, for each body."""
    return Points(*(jnp.where(which, p, q) for p, q in zip(yes, no, strict=True)))


def gap_to_edges(body: Faces, x: Array, y: Array, ends: Four) -> Array:
    """How far bodies are from the nearest of their edges [W, k, E]: [k, E], at most 1."""

    def nearer(least: Array, ends: Four) -> tuple[Array, None]:
        return jnp.minimum(least, gap_to_ground(body, x, y, ends)), None

    return jax.lax.scan(nearer, jnp.ones_like(x), ends)[0]


def _gaps(a: Faces, b: Faces) -> list[Array]:
    """How far b is from each face of a."""
    return [
        _least([dot(nx, ny, qx - px, qy - py) for qx, qy, *_ in b.each()])
        for px, py, _, _, nx, ny in a.each()
    ]


def near(a: Faces, b: Faces) -> Array:
    """Whether polygons a and b touch: no face keeps them apart by more than the skin. [k, E]."""
    return _largest([*_gaps(a, b), *_gaps(b, a)]) <= SKIN


def on_each_other(a: Faces, b: Faces) -> Points:
    """Where polygons a and b touch."""

    def axis(a: Faces, b: Faces) -> Any:
        gap_a, face_a = _first_largest(_gaps(a, b))
        gap_b, face_b = _first_largest(_gaps(b, a))
        close = (gap_a <= SKIN) & (gap_b <= SKIN)
        return gap_b > gap_a + _PREFER_FIRST, close, face_a, face_b

    def held(a: Faces, b: Faces, found: Any) -> Any:
        on_b, _, face_a, face_b = found
        return [jnp.where(on_b, _at(face_b, q), _at(face_a, p)) for p, q in zip(a, b, strict=True)]

    def facing(a: Faces, b: Faces, found: Any, nx: Array, ny: Array) -> Any:
        on_b = found[0]
        one, other = (
            _first_largest([-dot(nx, ny, fx, fy) for *_, fx, fy in body.each()])[1]
            for body in (a, b)
        )
        incident = (
            jnp.where(on_b, _at(one, p), _at(other, q)) for p, q in zip(a[:4], b[:4], strict=True)
        )
        return tuple(incident), jnp.where(on_b, one, other)

    found = apart(axis, a, b)
    x1, y1, x2, y2, nx, ny = apart(held, a, b, found)
    incident, face = apart(facing, a, b, found, nx, ny)
    on_b, close, *_ = found
    key = (1 + on_b) * 8 + face
    return apart(_clip, on_b, (nx, ny), (x1, y1, x2, y2), incident, close, key)
