"""PettingZoo environments, stepped on the host: any ParallelEnv with Box observations.

A `HostEnvironment` describes an environment and opens copies of it. `envs.workers` steps many
copies side by side in other processes; what is learned from, and how, does not differ from the
environments in JAX.
"""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import numpy as np

from envs.base import EnvSpec, check_at_least

# Before pygame is imported: no window, no greeting.
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")


class HostEnvironment(ABC):
    """A PettingZoo environment: what it looks like, and how to open one. Immutable, picklable."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @property
    @abstractmethod
    def spec(self) -> EnvSpec:
        """Static description."""

    @abstractmethod
    def parallel_env(self, render_mode: str | None = None) -> Any:
        """Opens a `pettingzoo.ParallelEnv`; without a render mode it cannot be looked at."""


class Episode(NamedTuple):
    """What one step of one environment produced; n agents, O numbers for the widest."""

    obs: np.ndarray  # [n, O] float32, zeros for agents that were not there
    reward: np.ndarray  # [n] float32, 0 for agents that were not there
    alive: np.ndarray  # [n] bool, agents that acted
    terminated: np.ndarray  # [n] bool, of those: nothing follows
    present: np.ndarray  # [n] bool, agents that act next
    finished: bool  # nobody is left, or the time is up


class HostEpisodes:
    """One open environment and the episodes that it plays, one after another.

    Attributes:
      spec: its description.
      steps: steps since the reset.
    """

    def __init__(self, env: HostEnvironment, render_mode: str | None = None) -> None:
        self.spec = env.spec
        self.steps = 0
        self.parallel_env = env.parallel_env(render_mode)
        self._agents: list[str] = list(self.parallel_env.possible_agents)
        self._index = {agent: i for i, agent in enumerate(self._agents)}
        self._first = [int(self.parallel_env.action_space(agent).start) for agent in self._agents]

    def reset(self, seed: int) -> np.ndarray:
        """Starts an episode: obs [n, O]."""
        obs, _ = self.parallel_env.reset(seed=seed)
        self.steps = 0
        self._check_nobody_left()
        return self._pad(obs)

    def step(self, actions: np.ndarray) -> Episode:
        """Moves all agents that are there by `actions` [n]. Never resets by itself."""
        acting, alive = list(self.parallel_env.agents), self._present()
        chosen = {}
        for agent in acting:
            i = self._index[agent]
            chosen[agent] = int(actions[i]) + self._first[i]
        obs, rewards, terminations, _, _ = self.parallel_env.step(chosen)
        self.steps += 1
        reward = np.zeros(self.spec.num_agents, np.float32)
        terminated = np.zeros(self.spec.num_agents, bool)
        for agent in acting:
            i = self._index[agent]
            reward[i] = rewards.get(agent, 0.0)
            terminated[i] = terminations.get(agent, False)
        finished = not self.parallel_env.agents or self.steps >= self.spec.episode_length
        if not finished:
            self._check_nobody_left()
        return Episode(self._pad(obs), reward, alive, terminated, self._present(), finished)

    def _present(self) -> np.ndarray:
        present = np.zeros(self.spec.num_agents, bool)
        present[[self._index[agent] for agent in self.parallel_env.agents]] = True
        return present

    def _pad(self, obs: Mapping[str, Any]) -> np.ndarray:
        padded = np.zeros((self.spec.num_agents, self.spec.obs_size), np.float32)
        for agent, value in obs.items():
            i = self._index[agent]
            padded[i, : self.spec.obs_sizes[i]] = np.ravel(value)
        return padded

    def _check_nobody_left(self) -> None:
        if not self.spec.agents_may_leave and len(self.parallel_env.agents) < len(self._agents):
            raise ValueError(
                f"{self.spec.name}: an agent is out of an episode that goes on, and "
                f"agents_may_leave is False."
            )


@dataclass(frozen=True, eq=False)
class PettingZoo(HostEnvironment):
    """A PettingZoo environment by the name of its module, such as "mpe2.simple_reference_v3".

    The module has a function `parallel_env`, as those of PettingZoo and its companions do.
    Observations are flattened; agents need not be alike.

    A time limit that the environment itself calls a termination is believed; `episode_length` below
    that limit turns it into the truncation that it is.
    """

    name: ClassVar[str] = "pettingzoo"
    summary: ClassVar[str] = "Any PettingZoo ParallelEnv: module=NAME and the options it takes."

    module: str
    episode_length: int | None
    agents_may_leave: bool
    options: dict[str, Any]

    def __init__(
        self,
        module: str = "",
        episode_length: int | None = None,
        agents_may_leave: bool = True,
        **options: Any,
    ) -> None:
        """Opens one copy to look at its spaces.

        Args:
          module: where `parallel_env` is found.
          episode_length: steps until truncation; by default the environment's own `max_cycles`.
          agents_may_leave: whether an agent may be out of an episode that goes on. False saves the
            bookkeeping.
          **options: passed to `parallel_env`.

        Raises:
          ValueError: no such module, options that it does not take, or spaces that are not
            Discrete actions and Box observations.
        """
        for field, value in (
            ("module", module),
            ("episode_length", episode_length),
            ("agents_may_leave", agents_may_leave),
            ("options", options),
        ):
            object.__setattr__(self, field, value)
        if not isinstance(agents_may_leave, bool):
            raise ValueError(
                f"pettingzoo: agents_may_leave must be True or False, got {agents_may_leave!r}."
            )
        if episode_length is not None:
            check_at_least("pettingzoo", "episode_length", episode_length, 1)
        _ = self.spec  # refuses at once what cannot be trained on

    @cached_property
    def spec(self) -> EnvSpec:
        """Static description, read from one open copy."""
        env = self.parallel_env()
        length = self.episode_length or getattr(env.unwrapped, "max_cycles", None)
        spec = read_spec(env, self.name, self.module, int(length or 0), self.agents_may_leave)
        if spec.episode_length < 1:
            raise ValueError(
                f"pettingzoo: {self.module} does not say how long its episodes are; give the steps "
                f"as episode_length."
            )
        return spec

    def parallel_env(self, render_mode: str | None = None) -> Any:
        """Opens a copy."""
        if not isinstance(self.module, str) or not self.module:
            raise ValueError(
                "pettingzoo: module must name a module with a function parallel_env, such as "
                f"mpe2.simple_reference_v3, got {self.module!r}."
            )
        more = {} if render_mode is None else {"render_mode": render_mode}
        with _working_directory_importable():
            try:
                make = import_module(self.module).parallel_env
            except Exception as error:  # whatever foreign code raises
                raise ValueError(
                    f"pettingzoo: cannot use module {self.module!r}: {error}."
                ) from error
            try:
                return make(**self.options | more)
            except Exception as error:
                raise ValueError(f"pettingzoo: {self.module} cannot be opened: {error}.") from error


@contextmanager
def _working_directory_importable() -> Iterator[None]:
    """Lets modules of the user be found where they work, after all others."""
    here = os.getcwd()
    sys.path.append(here)
    try:
        yield
    finally:
        del sys.path[len(sys.path) - 1 - sys.path[::-1].index(here)]


def not_installed(name: str, error: ImportError) -> ValueError:
    """What to raise where an environment's packages are missing."""
    return ValueError(f'{name} needs more packages: pip install "mamt-jax[pettingzoo]" ({error}).')


def read_spec(
    env: Any, name: str, summary: str, episode_length: int, agents_may_leave: bool
) -> EnvSpec:
    """Reads the description of an open ParallelEnv from its spaces.

    The copy that was opened to be read is not closed: some quit pygame for all others then.

    Raises:
      ValueError: an agent's actions are not Discrete, or its observations no Box.
    """
    from gymnasium.spaces import Box, Discrete

    agents = list(env.possible_agents)
    if len(agents) < 2:
        raise ValueError(f"{name}: {summary} has {len(agents)} agent; at least 2 are needed.")
    for agent in agents:
        if not isinstance(env.action_space(agent), Discrete):
            raise ValueError(
                f"{name}: actions must be Discrete, {agent} has {env.action_space(agent)}."
            )
        if not isinstance(env.observation_space(agent), Box):
            raise ValueError(
                f"{name}: observations must be a Box, {agent} has {env.observation_space(agent)}."
            )
    boxes = [env.observation_space(agent) for agent in agents]
    low = min(float(box.low.min()) for box in boxes)
    high = max(float(box.high.max()) for box in boxes)
    return EnvSpec(
        name=name,
        num_agents=len(agents),
        obs_sizes=tuple(int(np.prod(box.shape)) for box in boxes),
        action_counts=tuple(int(env.action_space(agent).n) for agent in agents),
        episode_length=episode_length,
        summary=summary,
        obs_bounds=(min(low, 0.0), max(high, 0.0)),  # absent agents and padding read as zeros
        obs_dtype="uint8" if all(box.dtype == np.uint8 for box in boxes) else "float32",
        agents_may_leave=agents_may_leave,
        agents=tuple(map(str, agents)),
    )
