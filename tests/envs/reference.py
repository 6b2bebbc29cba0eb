"""Spread in plain NumPy loops, float64, written apart from the JAX code to compare it with.

One world at a time, one agent at a time, straight from the published rules of the multi-agent
particle environments. Slow on purpose: nothing here is shared with `envs`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MOVES = {0: (0, 0), 1: (1, 0), 2: (-1, 0), 3: (0, 1), 4: (0, -1)}
# Which pairs of agents collide in each world of three agents.
PAIRS = {"spread3_sep": set(), "spread3_mix": {(0, 2)}, "spread3_ful": {(0, 1), (0, 2), (1, 2)}}


class World(NamedTuple):
    """Positions, velocities and landmarks, each [n, 2]."""

    position: Floats
    velocity: Floats
    landmark: Floats


class Outcome(NamedTuple):
    """What a step leads to."""

    world: World
    obs: Floats  # [n, O]
    reward: Floats  # [n]


def collide(name: str, i: int, j: int) -> bool:
    """Whether agents i and j of world `name` can push each other."""
    return name == "spread" or (min(i, j), max(i, j)) in PAIRS[name]


def force_on(name: str, world: World, i: int, action: int) -> Floats:
    """Own push plus contact with every other agent."""
    force = 5.0 * np.array(MOVES[action], float)
    for j in range(len(world.position)):
        if j == i or not collide(name, i, j):
            continue
        away = world.position[i] - world.position[j]
        distance = math.hypot(*away)
        if distance > 0.0:
            depth = np.logaddexp(0.0, (0.3 - distance) / 1e-3) * 1e-3
            force = force + 100.0 * depth * away / distance
    return force


def observation(world: World, i: int) -> Floats:
    """Own velocity and position, landmarks, other agents, silence of the others."""
    parts = [*world.velocity[i], *world.position[i]]
    for mark in world.landmark:
        parts += list(mark - world.position[i])
    others = [j for j in range(len(world.position)) if j != i]
    for j in others:
        parts += list(world.position[j] - world.position[i])
    return np.array(parts + [0.0, 0.0] * len(others))


def rewards(name: str, world: World) -> Floats:
    """Rewards of all agents in the given world."""
    count = len(world.position)
    far = np.array([[math.dist(p, m) for m in world.landmark] for p in world.position])
    if name == "spread3_sep":
        return -np.diag(far)
    if name == "spread3_mix":
        touching = math.dist(world.position[0], world.position[2]) < 0.3
        pair = min(far[0, 0], far[2, 0]) + min(far[0, 2], far[2, 2]) + touching
        return -np.array([pair, far[1, 1], pair])
    near = sum(min(far[:, k]) for k in range(count))
    # j runs over all agents: an agent counts as colliding with itself
    bumps = [
        sum(math.dist(world.position[i], world.position[j]) < 0.3 for j in range(count))
        for i in range(count)
    ]
    return -near - np.array(bumps, float)


def step(name: str, world: World, actions: NDArray[np.int64]) -> Outcome:
    """Moves all agents of world `name` ("spread" for any n, or a "spread3_*") once."""
    count = len(world.position)
    position, velocity = world.position.copy(), world.velocity.copy()
    for i in range(count):
        force = force_on(name, world, i, int(actions[i]))
        velocity[i] = world.velocity[i] * 0.75 + force * 0.1
        position[i] = world.position[i] + velocity[i] * 0.1
    after = World(position, velocity, world.landmark)
    obs = np.stack([observation(after, i) for i in range(count)])
    return Outcome(after, obs, rewards(name, after))
