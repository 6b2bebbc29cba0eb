"""What Multi-Walker consists of: sizes, the state of an episode, the ground.

Shape legend: n walkers, L points of the ground, W edges of it, E environments.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.rigid.bodies import Impulses
from mamt_jax.envs.rigid.polygons import Four, Shape
from mamt_jax.envs.rigid.world import Motion

FPS = 50
UNIT = 1.0 / 30.0  # of the lengths that follow, in m
HULL = Shape(
    tuple((x * UNIT, y * UNIT) for x, y in ((34, -8), (34, 1), (6, 9), (-30, 9), (-30, -8))),
    density=5.0,
    friction=0.1,
)
HIP = -8 * UNIT  # below the hull's origin
LEG_WIDTH, LEG = 8 * UNIT, 34 * UNIT


def box(half_width: float, half_height: float, density: float, friction: float = 0.2) -> Shape:
    w, h = half_width, half_height
    return Shape(((-w, -h), (w, -h), (w, h), (-w, h)), density, friction)


UPPER, LOWER = box(LEG_WIDTH / 2, LEG / 2, 1.0), box(0.8 * LEG_WIDTH / 2, LEG / 2, 1.0)
STRIDE = 14 * UNIT  # between points of the ground
GROUND = 400 * UNIT / 4  # its height at the start
PAD, END, APART = 20, 10, 10  # points: flat ground, beyond the goal, from walker to walker
GRIP = 2.5
TORQUE = 80.0  # N m
SPEED_HIP, SPEED_KNEE = 4.0, 6.0
FIRST_PUSH = 5.0  # N, on hulls in the first step
RAYS, REACH = 10, 160 * UNIT
TILT = 0.05  # of the legs at the start
LEG_EDGES, HULL_EDGES = 4, 6  # of the ground, that a body may touch
RAY_EDGES = 13
NOWHERE = -1000.0  # height where there is no ground


class WalkerState(NamedTuple):
    """State of an episode; bodies are n hulls, 2n upper and 2n lower legs, and the package."""

    motion: Motion  # each [5n + 1]
    impulses: Impulses
    ground: jax.Array  # [L] heights
    torque: jax.Array  # [n, 4] of the joints: left hip, left knee, right hip, right knee
    edge: jax.Array  # [W, 4n] int32, edges of the ground by which impulses are kept
    touching: jax.Array  # [W, 4n] bool, legs that touched these
    contact: jax.Array  # [n, 2] bool, lower legs that are told to touch
    push: jax.Array  # [] N, on hulls in the next step
    fallen: jax.Array  # [n] bool
    gone: jax.Array  # [n] bool, walkers that were removed
    upright: jax.Array  # [n] reward so far for not leaning
    carried: jax.Array  # [] reward so far for the package's place
    time: jax.Array  # [] int32, steps since the reset


def ends_of(ground: jax.Array, edge: jax.Array) -> Four:
    """Ends of edges [..., E] of the ground [L, E], far below where there is none."""
    last = ground.shape[0] - 1
    flat = edge.reshape(-1, edge.shape[-1])

    def height(index: jax.Array) -> jax.Array:
        return jnp.take_along_axis(ground, jnp.clip(index, 0, last), axis=0).reshape(edge.shape)

    there = (edge >= 0) & (edge < last)
    y1 = jnp.where(there, height(flat), NOWHERE)
    y2 = jnp.where(there, height(flat + 1), NOWHERE)
    x1 = edge.astype(jnp.float32) * np.float32(STRIDE)
    return x1, y1, x1 + np.float32(STRIDE), y2
