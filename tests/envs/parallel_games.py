"""Small PettingZoo games with known behaviour, good and bad, for tests of the bridge."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import threading
import time
from functools import cache
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Dict, Discrete
from pettingzoo import ParallelEnv


class Dwindling(ParallelEnv):
    """Three agents; "b" dies in step 2, "c" is cut off alone in step 3, "a" dies in step 5.

    Agents see (draw of the seed, steps, own last action) and "c" one number more. Rewards are the
    action plus ten times the step. Options break it on purpose at a step.
    """

    metadata = {"name": "dwindling", "render_modes": ["rgb_array"]}
    possible_agents = ["a", "b", "c"]

    def __init__(
        self,
        fail: str = "",
        fail_step: int = 2,
        space: str = "",
        max_cycles: int | None = 10,
        render_mode: str | None = None,
    ) -> None:
        self._fail, self._fail_step, self._space = fail, fail_step, space
        self.max_cycles = max_cycles
        self.render_mode = render_mode

    @cache  # noqa: B019 - PettingZoo wants the same object every time
    def observation_space(self, agent: str) -> Any:
        if self._space == "dict":
            return Dict({"x": Box(0, 1)})
        return Box(0.0, 1000.0, (4 if agent == "c" else 3,), np.float32)

    @cache  # noqa: B019
    def action_space(self, agent: str) -> Any:
        if self._space == "continuous":
            return Box(-1.0, 1.0, (2,))
        return Discrete(3, start=5 if agent == "b" else 0)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents = self.possible_agents[:]
        self._steps = 0
        self._draw = float(np.random.default_rng(seed).integers(1000))
        self._last = dict.fromkeys(self.agents, 0)
        return self._observe(self.agents), {agent: {} for agent in self.agents}

    def _observe(self, agents: list[str]) -> dict[str, np.ndarray]:
        seen = {}
        for agent in agents:
            values = [self._draw, self._steps, self._last[agent]] + [7.0] * (agent == "c")
            seen[agent] = np.array(values, np.float32)
        return seen

    def step(self, actions: dict[str, Any]) -> Any:
        self._steps += 1
        if self._fail and self._steps == self._fail_step:
            self._break()
        acting = self.agents
        assert set(actions) == set(acting)
        for agent, action in actions.items():
            assert self.action_space(agent).contains(action), (agent, action)
        self._last |= actions
        rewards = {agent: float(actions[agent]) + 10.0 * self._steps for agent in acting}
        ends = {"b": 2, "a": 5}
        terminations = {agent: self._steps >= ends.get(agent, 99) for agent in acting}
        truncations = {agent: agent == "c" and self._steps >= 3 for agent in acting}
        self.agents = [a for a in acting if not (terminations[a] or truncations[a])]
        return self._observe(acting), rewards, terminations, truncations, {a: {} for a in acting}

    def _break(self) -> None:
        if self._fail == "raise":
            raise RuntimeError("the lantern went out")
        if self._fail == "quit":
            raise SystemExit(1)
        if self._fail == "hang":
            time.sleep(3600)
        if self._fail == "exit":
            os._exit(3)
        if self._fail == "abort":
            os.abort()

    def render(self) -> np.ndarray:
        return np.full((8, 8, 3), self._steps, np.uint8)

    def close(self) -> None:
        pass


class Matching(ParallelEnv):
    """Two agents see a one-hot context and are paid 1 where both answer with its number."""

    metadata = {"name": "matching"}
    possible_agents = ["left", "right"]
    max_cycles = 5

    def __init__(self, fail: str = "", fail_step: int = 0) -> None:
        self._fail, self._fail_step, self._all_steps = fail, fail_step, 0

    @cache  # noqa: B019 - PettingZoo wants the same object every time
    def observation_space(self, agent: str) -> Any:
        return Box(0, 1, (3,), np.uint8)

    @cache  # noqa: B019
    def action_space(self, agent: str) -> Any:
        return Discrete(3)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if seed is not None:
            self._random = np.random.default_rng(seed)
        self.agents = self.possible_agents[:]
        self._steps = 0
        return self._draw(), {agent: {} for agent in self.agents}

    def _draw(self) -> dict[str, np.ndarray]:
        self._context = int(self._random.integers(3))
        return {agent: np.eye(3, dtype=np.uint8)[self._context] for agent in self.possible_agents}

    def step(self, actions: dict[str, Any]) -> Any:
        self._steps += 1
        self._all_steps += 1
        if self._fail and self._all_steps == self._fail_step:
            raise RuntimeError(self._fail)
        hit = float(all(action == self._context for action in actions.values()))
        over = self._steps >= self.max_cycles
        everyone = self.possible_agents
        self.agents = [] if over else everyone[:]
        return (
            self._draw(),
            dict.fromkeys(everyone, hit),
            dict.fromkeys(everyone, False),
            dict.fromkeys(everyone, over),
            {agent: {} for agent in everyone},
        )

    def close(self) -> None:
        pass


class Simulated(Matching):
    """The matching game with a process of its own beside it, as simulators have one.

    Options: seconds that opening takes, seconds that closing takes, lines printed in every step,
    restart the process in reset, a step that hangs or raises or ends the process.
    """

    metadata = {"name": "simulated"}

    def __init__(
        self,
        opening: float = 0.0,
        closing: float = 0.0,
        lines: int = 0,
        restart: bool = False,
        stubborn: bool = False,
        thread: bool = False,
        fork: bool = False,
        session: bool = False,
        step: str = "",
    ) -> None:
        super().__init__()
        if thread:  # that nobody ends
            threading.Thread(target=time.sleep, args=(600,)).start()
        self._forked: Any = None
        if fork:
            self._forked = multiprocessing.get_context("fork").Process(
                target=time.sleep, args=(600,), daemon=True
            )
            self._forked.start()
        time.sleep(opening)
        self._closing, self._lines, self._restart, self._way = closing, lines, restart, step
        self._command = ["sleep", "600"]
        if stubborn:  # does not care for polite signals, and is not ended by close
            self._command = ["sh", "-c", "trap '' TERM INT HUP; sleep 600 & wait; wait"]
        self._stubborn = stubborn
        self._simulator = subprocess.Popen(self._command, start_new_session=session)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        if self._restart:
            self._simulator.terminate()
            self._simulator.wait()
            self._simulator = subprocess.Popen(self._command)
        return super().reset(seed, options)

    def step(self, actions: dict[str, Any]) -> Any:
        for line in range(self._lines):
            print(f"step {self._steps}, line {line}: " + "x" * 1000)
        if self._way == "hang":
            time.sleep(3600)
        if self._way == "raise":
            raise ConnectionResetError("the simulator is gone")
        if self._way == "exit":
            os._exit(3)
        return super().step(actions)

    def close(self) -> None:
        time.sleep(self._closing)
        if self._forked:
            self._forked.terminate()
            self._forked.join()
        if not self._stubborn:
            self._simulator.kill()
            self._simulator.wait()


def exported(env: str, cycles: int) -> ParallelEnv:
    """One of our environments, with episodes of so many steps."""
    from mamt_jax import envs  # with JAX, which the others do without

    return envs.to_pettingzoo(envs.make(env, episode_length=cycles))


_GAMES = {
    "exported": exported,
    "dwindling": Dwindling,
    "matching": Matching,
    "simulated": Simulated,
}


def parallel_env(game: str = "dwindling", **options: Any) -> ParallelEnv:
    made: ParallelEnv = _GAMES[game](**options)
    return made
