"""How far rays go before they meet polygons or ground edges.

All arrays are [..., E]: the last axis counts environments. Lengths are metres.

Shape legend: F faces of a polygon, E environments.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from mamt_jax.envs.rigid.polygons import Faces, Four, dot

Array = Any


def ray_to_polygon(body: Faces, x: Array, y: Array, dx: Array, dy: Array) -> Array:
    """Share of a ray's length at which it enters a polygon, 1 where it does not.

    Rays that start inside do not see it.

    Args:
      body: faces, [F, ..., E].
      x: start, [..., E]; also y.
      dx: to the end of the ray; also dy.
    """
    enter, leave, misses = jnp.float32(-jnp.inf), jnp.float32(jnp.inf), False
    for px, py, _, _, nx, ny in body.each():
        away, speed = dot(nx, ny, px - x, py - y), dot(nx, ny, dx, dy)
        share = away / jnp.where(speed == 0, 1.0, speed)
        enter = jnp.where(speed < 0, jnp.maximum(share, enter), enter)
        leave = jnp.where(speed > 0, jnp.minimum(share, leave), leave)
        misses |= (speed == 0) & (away < 0)
    return jnp.where(misses | (enter < 0) | (enter > 1) | (leave < enter), 1.0, enter)


def ray_to_edge(ends: Four, x: Array, y: Array, dx: Array, dy: Array) -> Array:
    """Share of a ray's length at which it meets an edge, 1 where it does not."""
    x1, y1, x2, y2 = ends
    ex, ey = x2 - x1, y2 - y1
    speed = dot(ey, -ex, dx, dy)
    share = dot(ey, -ex, x1 - x, y1 - y) / jnp.where(speed == 0, 1.0, speed)
    along = dot(x + share * dx - x1, y + share * dy - y1, ex, ey)
    meets = (speed != 0) & (share >= 0) & (share <= 1)
    meets &= (along >= 0) & (along <= ex * ex + ey * ey)
    return jnp.where(meets, share, jnp.float32(1.0))
