"""What walkers observe.

All arrays have the environments last, see `mamt_jax.envs.rigid.lanes`.

Shape legend: n walkers, O numbers of an observation, E environments.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.rigid.lanes import apart
from mamt_jax.envs.rigid.polygons import Faces, Pose
from mamt_jax.envs.rigid.rays import ray_to_edge, ray_to_polygon
from mamt_jax.envs.walkers.parts import (
    FPS,
    HULL,
    RAY_EDGES,
    RAYS,
    REACH,
    SPEED_HIP,
    SPEED_KNEE,
    STRIDE,
    TILT,
    UNIT,
    WalkerState,
    ends_of,
)


def observe(env: Any, state: WalkerState, noise: jax.Array) -> jax.Array:
    """Observations [n, O, E]; zeros of walkers that were removed."""
    n, motion = env.n_walkers, state.motion
    at = motion.pose
    hull = Pose(*(part[:n] for part in at))
    dx, dy = hull.turn(-HULL.centre[0], -HULL.centre[1])
    x, y = hull.x + dx, hull.y + dy
    angle, spin = motion.angle, motion.spin
    legs = []
    for side in (0, 1):
        upper, lower = (slice(n * (side + k), n * (side + k + 1)) for k in (1, 3))
        legs += [
            angle[upper] - angle[:n] + (TILT, -TILT)[side],
            (spin[upper] - spin[:n]) / SPEED_HIP,
            angle[lower] - angle[upper] + 1.0,
            (spin[lower] - spin[upper]) / SPEED_KNEE,
            state.contact[:, side].astype(jnp.float32),
        ]
    own = [
        angle[:n],
        2.0 * spin[:n] / FPS,
        0.3 * motion.vx[:n] * (600 * UNIT) / FPS,
        0.3 * motion.vy[:n] * (400 * UNIT) / FPS,
        *legs,
        *_rays(env, state, at, x, y),
    ]
    scale, others = 1.0 / env.package_length, []
    away = state.gone.astype(jnp.float32)
    for step in (-1, 1):
        edge = np.zeros((n, 1), np.float32)
        edge[0 if step < 0 else -1] = 1.0
        hidden = (jnp.roll(away, -step, axis=0) + edge) > 0
        for place, drawn in ((x, noise[:, 1 + step]), (y, noise[:, 2 + step])):
            seen = (jnp.roll(place, -step, axis=0) - place) * scale + drawn
            others.append(jnp.where(hidden, 0.0, seen))
    others += [(motion.x[-1] - x) * scale + noise[:, 4], (motion.y[-1] - y) * scale + noise[:, 5]]
    others.append(angle[-1] + noise[:, 6])
    return jnp.where(state.gone[:, None], 0.0, jnp.stack([*own, *others], axis=1))


def _rays(env: Any, state: WalkerState, at: Pose, x: jax.Array, y: jax.Array) -> list[jax.Array]:
    """How far each of the rays from x, y [n, E] goes, as a share of its length: 10 of [n, E]."""
    n = env.n_walkers
    turn = 1.5 * np.arange(RAYS) / RAYS
    dx, dy = (
        np.asarray(REACH * part, np.float32)[:, None, None]
        for part in (np.sin(turn), -np.cos(turn))
    )
    first = jnp.floor(x / np.float32(STRIDE)).astype(jnp.int32)

    def ground(share: jax.Array, number: jax.Array) -> tuple[jax.Array, None]:
        return jnp.minimum(
            share, ray_to_edge(ends_of(state.ground, first + number), x, y, dx, dy)
        ), None

    share = jnp.ones((RAYS, *x.shape), jnp.float32)
    share, _ = jax.lax.scan(ground, share, jnp.arange(RAY_EDGES, dtype=jnp.int32))
    # Rays start within the walker's own hull, which they do not see.
    whose = (np.arange(n) + np.repeat(np.arange(n), 5)[1:, None]) % n  # [5n - 1, n]
    kind = np.tile(np.arange(5), n)[1:, None]
    shown = apart(env.world.placed, at).of((kind * n + whose).astype(np.int32))

    def others(share: jax.Array, seen: tuple[Faces, jax.Array]) -> tuple[jax.Array, None]:
        body, gone = seen
        found = jnp.where(gone, 1.0, ray_to_polygon(body, x, y, dx, dy))
        return jnp.minimum(share, found), None

    by_body = Faces(*(jnp.moveaxis(part, 1, 0) for part in shown))
    share, _ = jax.lax.scan(others, share, (by_body, state.gone[whose]))
    return list(share)
