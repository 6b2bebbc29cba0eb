"""Rover-Tower in plain NumPy loops, float64, written apart from the JAX code to compare it with.

One pair and one agent at a time, straight from the rules. Slow on purpose: nothing here is shared
with `envs`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROVERS, TOWERS = range(4), range(4, 8)
MOVES = {0: (0, 0), 1: (1, 0), 2: (-1, 0), 3: (0, 1), 4: (0, -1)}


@dataclass(frozen=True)
class World:
    """A world at one time; agents are rovers 0 to 3 and towers 4 to 7.

    `tower_of` gives the agent number of each rover's tower, `goal_of` the landmark that its pair
    looks for, `said` the last symbol of each tower by agent number, None before the first.
    """

    position: Floats  # [8, 2]
    velocity: Floats  # [8, 2]
    landmark: Floats  # [6, 2]
    tower_of: dict[int, int]
    goal_of: dict[int, int]
    said: dict[int, int | None]


class Outcome(NamedTuple):
    """What a step leads to."""

    world: World
    obs: list[Floats]  # 4 of size 13, then 4 of size 8
    reward: Floats  # [8]


def draw(rng: np.random.Generator, top_speed: float = 0.0) -> World:
    """A start by the rules; `top_speed` sets rovers moving, which the rules do not."""
    towers = rng.permutation(list(TOWERS))
    velocity = np.zeros((8, 2))
    velocity[:4] = rng.uniform(-top_speed, top_speed, (4, 2))
    return World(
        position=rng.uniform(-1.0, 1.0, (8, 2)),
        velocity=velocity,
        landmark=rng.uniform(-1.0, 1.0, (6, 2)),
        tower_of={rover: int(towers[rover]) for rover in ROVERS},
        goal_of={rover: int(rng.integers(6)) for rover in ROVERS},
        said={tower: None for tower in TOWERS},
    )


def one_hot(index: int | None, size: int) -> list[float]:
    """`size` numbers, 1 at `index`; all zero for None."""
    return [1.0 if k == index else 0.0 for k in range(size)]


def observations(world: World) -> list[Floats]:
    """What every agent sees, rovers first."""
    seen = []
    for rover in ROVERS:
        tower = world.tower_of[rover]
        parts = one_hot(tower - 4, 4) + one_hot(world.said[tower], 5)
        seen.append(np.array([*parts, *world.position[rover], *world.velocity[rover]]))
    for tower in TOWERS:
        rover = next(r for r in ROVERS if world.tower_of[r] == tower)
        goal = world.landmark[world.goal_of[rover]]
        seen.append(np.array([*one_hot(rover, 4), *world.position[rover], *goal]))
    return seen


def rewards(world: World) -> Floats:
    """Rewards of all agents for being in the given world."""
    paid = np.zeros(8)
    for rover in ROVERS:
        gap = world.position[rover] - world.landmark[world.goal_of[rover]]
        squared = float(gap[0]) ** 2 + float(gap[1]) ** 2
        bonus = 10.0 if squared < 1.5 * (0.075 + 0.04) else 0.0
        paid[rover] = paid[world.tower_of[rover]] = bonus - squared
    return paid


def step(world: World, actions: NDArray[np.int64]) -> Outcome:
    """Rovers move, towers speak, then everybody sees and is paid."""
    position, velocity = world.position.copy(), world.velocity.copy()
    for rover in ROVERS:
        # accel counts twice: as the sensitivity and as mass times accel
        force = 1.5 * 1.5 * np.array(MOVES[int(actions[rover])], float)
        new = world.velocity[rover] * (1.0 - 0.25) + force / 1.0 * 0.1
        speed = math.hypot(new[0], new[1])
        if speed > 1.0:
            new = new / speed * 1.0
        velocity[rover] = new
        position[rover] = world.position[rover] + new * 0.1
    said: dict[int, int | None] = {tower: int(actions[tower]) for tower in TOWERS}
    after = replace(world, position=position, velocity=velocity, said=said)
    return Outcome(after, observations(after), rewards(after))
