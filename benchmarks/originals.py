"""The environments that ours follow, stepped the way that they come: one process, a Python loop.

Rover-Tower's first implementation is not on any package index; its place is taken by the NumPy
version that the tests compare with.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks import numpy_rover_tower


def pursuit() -> Callable[[np.random.Generator], bool]:
    """PettingZoo's pursuit_v5 with the paper's rewards."""
    from pettingzoo.sisl import pursuit_v5

    return _parallel(pursuit_v5.parallel_env(shared_reward=False, urgency_reward=0.0))


def multiwalker() -> Callable[[np.random.Generator], bool]:
    """PettingZoo's multiwalker_v9 with discrete torques, in one process."""
    from pettingzoo.sisl import multiwalker_v9

    from mamt_jax.envs.multiwalker_host import DiscreteTorques

    return _parallel(DiscreteTorques(multiwalker_v9.parallel_env()))


def rover_tower() -> Callable[[np.random.Generator], bool]:
    """Rover-Tower in NumPy."""
    worlds = [numpy_rover_tower.draw(np.random.default_rng(0))]
    steps = [0]

    def step(random: np.random.Generator) -> bool:
        worlds[0] = numpy_rover_tower.step(worlds[0], random.integers(0, 5, 8)).world
        steps[0] = (steps[0] + 1) % 25
        if steps[0]:
            return False
        worlds[0] = numpy_rover_tower.draw(random)
        return True

    return step


def _parallel(env: Any) -> Callable[[np.random.Generator], bool]:
    env.reset(seed=0)
    counts = {agent: int(env.action_space(agent).n) for agent in env.possible_agents}

    def step(random: np.random.Generator) -> bool:
        env.step({agent: int(random.integers(counts[agent])) for agent in env.agents})
        if env.agents:
            return False
        env.reset()
        return True

    return step


ORIGINALS = {
    "pursuit": pursuit,
    "rover_tower": rover_tower,
    "multiwalker": multiwalker,
    "multiwalker_host": multiwalker,
}


def steps_per_second(step: Callable[[np.random.Generator], bool], seconds: float) -> float:
    """Environment steps a second under random actions, resets included, over ``seconds``."""
    random, count = np.random.default_rng(0), 0
    begin = time.perf_counter()
    while (spent := time.perf_counter() - begin) < seconds:
        step(random)
        count += 1
    return count / spent
