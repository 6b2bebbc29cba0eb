"""A step of Multi-Walker by its rules: who touches what, who has fallen, what is paid.

All arrays have the environments last, see `mamt_jax.envs.rigid.lanes`.

Shape legend: n walkers, W edges of ground per body, k bodies on the ground, E environments.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.rigid import bodies
from mamt_jax.envs.rigid.impacts import HIT
from mamt_jax.envs.rigid.lanes import apart
from mamt_jax.envs.rigid.polygons import SKIN, Faces, Pose, gap_to_edges, near, placed
from mamt_jax.envs.rigid.world import Motion
from mamt_jax.envs.walkers.parts import (
    END,
    HULL_EDGES,
    SPEED_HIP,
    SPEED_KNEE,
    STRIDE,
    TORQUE,
    UNIT,
    WalkerState,
    ends_of,
)
from mamt_jax.envs.walkers.senses import observe


def carried(env: Any, x: jax.Array) -> jax.Array:
    return (env.forward_reward * 130 * UNIT) * x


def _edges_near(x: jax.Array, count: int) -> jax.Array:
    """Numbers of the edges around x [k, E], int32 [count, k, E]; each has its own row."""
    first = jnp.floor(x / np.float32(STRIDE) + np.float32(0.5 - count / 2)).astype(jnp.int32)
    row = np.arange(count, dtype=np.int32)[:, None, None]
    return first + jnp.mod(row - first, count)


def _gap_to_ground(env: Any, state: WalkerState, at: Pose, which: slice, count: int) -> Any:
    """How far bodies are from the ground, [k, E]."""
    body = Pose(*(part[which] for part in at))
    ends = ends_of(state.ground, _edges_near(body.x, count))
    local = env.world.faces.of(which)
    return gap_to_edges(placed(local, body), body.x, body.y, ends)


def advance(env: Any, state: WalkerState, noise: jax.Array) -> Any:
    """A step of all, wide: (state, obs, reward [n, E], done [n, E], whether all are done [E])."""
    n, world = env.n_walkers, env.world
    at = state.motion.pose
    hulls, package = slice(0, n), slice(5 * n, 5 * n + 1)
    package_edges = min(math.ceil(env.package_length / STRIDE) + 3, max(env.terrain_length - 1, 1))
    hull_gap = _gap_to_ground(env, state, at, hulls, HULL_EDGES)
    package_gap = _gap_to_ground(env, state, at, package, package_edges)
    fell, dropped = _met(env, apart(world.placed, at), state.gone)
    first, k = world.grounded
    edge = _edges_near(at.x[first : first + k], env.edges)
    ends = ends_of(state.ground, edge)
    same = edge == state.edge
    torque = jnp.moveaxis(state.torque, 1, 0)  # [4, n, E]
    speed = jnp.sign(torque) * np.array([SPEED_HIP, SPEED_KNEE] * 2, np.float32)[:, None, None]
    most = TORQUE * jnp.abs(torque)
    drive = [(speed[joint], most[joint]) for joint in (3, 2, 0, 1)]
    push = jnp.zeros_like(at.x).at[:n].set(state.push)
    motion, impulses, seen = bodies.step(
        world, state.motion, state.impulses, drive, push, (ends, edge)
    )
    if not env.terminate_on_fall and env.remove_on_fall:
        gone = jnp.concatenate([state.gone] * 5 + [jnp.zeros_like(state.gone[:1])])
        motion = Motion(*(jnp.where(gone, a, b) for a, b in zip(state.motion, motion, strict=True)))
    later = motion.pose
    for gap, which, count in ((hull_gap, hulls, HULL_EDGES), (package_gap, package, package_edges)):
        hit = (gap > 0) & (_gap_to_ground(env, state, later, which, count) < HIT)
        met = (gap <= SKIN) | hit
        if which is hulls:
            fell |= met
        else:
            dropped |= met[0]
    fallen = state.fallen | (fell & ~state.gone)
    contact, touching = _contact(env, state, same, seen)
    state = state._replace(
        motion=motion,
        impulses=impulses,
        edge=edge,
        touching=touching,
        contact=contact,
        push=jnp.zeros_like(state.push),
        fallen=fallen,
        time=state.time + 1,
    )
    obs = observe(env, state, noise)
    state, reward, done, over = _score(env, state, dropped)
    return state, obs, reward, done, over


def _met(env: Any, shown: Faces, gone: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Hulls that touch other walkers [n, E], and whether the package touches legs [E]."""
    n = env.n_walkers
    legs = near(shown.of(slice(5 * n, 5 * n + 1)), shown.of(slice(n, 5 * n)))
    dropped = (legs & ~jnp.concatenate([gone] * 4)).any(axis=0)
    left, right = np.arange(n - 1), np.arange(1, n)
    fell = jnp.zeros_like(gone)
    for hull, other in ((left, right), (right, left)):
        parts = np.concatenate([other + kind * n for kind in range(5)])
        met = near(shown.of(np.tile(hull, 5)), shown.of(parts)).reshape(5, n - 1, -1).any(axis=0)
        fell = fell.at[hull].set(fell[hull] | (met & ~gone[hull] & ~gone[other]))
    return fell, dropped


def _contact(
    env: Any, state: WalkerState, same: jax.Array, seen: bodies.Seen
) -> tuple[jax.Array, jax.Array]:
    """Lower legs that are told to touch [n, 2, E], and what touched in the end [W, 4n, E].

    PettingZoo hears of each edge of the ground for itself, and takes the last word: a leg that
    leaves one edge while it stands on another is told not to touch.
    """
    n = env.n_walkers
    told = state.contact.swapaxes(0, 1).reshape(2 * n, -1)
    lower = slice(-2 * n, None)
    touching, kept = state.touching, state.touching & same
    who, then = seen.impacts
    news = [(True, seen.ground), *((who[i], then[i]) for i in range(len(who)))]
    for changed, found in news:
        now = jnp.where(changed, found, kept)
        ended = (touching & ~now).any(axis=0)[lower]
        began = (now & ~kept).any(axis=0)[lower]
        told = jnp.where(ended, False, told | began)
        touching = kept = now
    return told.reshape(2, n, -1).swapaxes(0, 1), touching


def _score(env: Any, state: WalkerState, dropped: jax.Array) -> Any:
    """(state, reward [n, E], done [n, E], whether all are done [E])."""
    hull_angle, package_x = state.motion.angle[: env.n_walkers], state.motion.x[-1]
    upright = -5.0 * jnp.abs(hull_angle)
    pay = carried(env, package_x)
    there = ~state.gone
    reward = jnp.where(there, upright - state.upright, 0.0) + (pay - state.carried)
    each = env.fall_reward + (0.0 if env.terminate_on_fall else env.terminate_reward)
    reward += jnp.where(state.fallen, each, 0.0)
    failed = dropped | (package_x < 0)
    if env.terminate_on_fall:
        failed |= state.fallen.any(axis=0)
    reward += jnp.where(failed, env.terminate_reward, 0.0)
    arrived = package_x > (env.terrain_length - END) * STRIDE
    if env.shared_reward:
        reward = jnp.broadcast_to(reward.mean(axis=0), reward.shape)
    over = failed | arrived
    gone = state.fallen if env.remove_on_fall and not env.terminate_on_fall else state.gone
    state = state._replace(upright=jnp.where(there, upright, state.upright), carried=pay, gone=gone)
    return state, reward, state.fallen | over, over
