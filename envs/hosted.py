"""Environments on the host: what they look like, and one open copy at play.

A `HostEnvironment` describes a `pettingzoo.ParallelEnv` and opens copies of it; `HostEpisodes`
plays one copy and holds it to what PettingZoo's API says. `mamt_jax.envs.workers` steps many
copies side by side in other processes; what is learned from, and how, does not differ from
environments in JAX.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, ClassVar, NamedTuple

import numpy as np

from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.leftovers import MARK, end_marked

QUIET = {"SDL_VIDEODRIVER": "dummy", "PYGAME_HIDE_SUPPORT_PROMPT": "1"}
"""Environment variables under which pygame opens no window and prints no greeting."""

OWN_MARK = uuid.uuid4().hex
"""Of what copies in this process start, see `mamt_jax.envs.leftovers`."""
_VARIABLES = QUIET | {MARK: OWN_MARK}
_PROCESS = os.getpid()
_LARGEST = float(np.finfo(np.float32).max)


class BadEnvironment(ValueError):
    """An environment cannot be used, or does not do what PettingZoo's API says: one sentence."""


class HostEnvironment(ABC):
    """A PettingZoo environment: what it looks like, and how to open one. Immutable, picklable."""

    name: ClassVar[str]
    summary: ClassVar[str]

    @property
    @abstractmethod
    def spec(self) -> EnvSpec:
        """Static description."""

    @property
    def time_limit(self) -> int:
        """Steps after which an episode is cut off, if the environment has not ended it before."""
        return self.spec.episode_length

    @property
    def found(self) -> dict[str, Any]:
        """Options that were left open and found out, for a run to record."""
        return {}

    @abstractmethod
    def parallel_env(self, render_mode: str | None = None) -> Any:
        """Opens a `pettingzoo.ParallelEnv`; without a render mode it cannot be looked at."""

    def load(self) -> None:  # noqa: B027 - for most there is nothing to import
        """Imports what copies need; only so that none of them has to wait for that."""

    def at_home(self) -> AbstractContextManager[None]:
        """Around every call of an open copy: what its code needs of this process, and no longer."""
        return quiet()


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

    An agent that is terminated or truncated is out until the next reset, whether or not the
    environment strikes it off its list of `agents`; so is one that the list lacks.

    Attributes:
      spec: its description.
      steps: steps since the reset.
      parallel_env: the open copy.
    """

    def __init__(
        self, env: HostEnvironment, render_mode: str | None = None, spec: EnvSpec | None = None
    ) -> None:
        """Opens a copy.

        Args:
          env: of what.
          render_mode: as PettingZoo's.
          spec: its description where `env.spec` is not known yet; no episode is cut off then.

        Raises:
          ValueError: it cannot be opened.
        """
        self.spec = spec or env.spec
        self.steps = 0
        self._limit = env.time_limit if spec is None else math.inf
        self._at_home = env.at_home
        self._out: set[Any] = set()
        self._present = np.zeros(self.spec.num_agents, bool)
        self.parallel_env = env.parallel_env(render_mode)
        try:
            self._read()
        except BaseException:
            self.close()
            raise

    def _read(self) -> None:
        """Agents in the order of the description: a set has another one in every process."""
        env, spec = self.parallel_env, self.spec
        agents = list(env.possible_agents)
        if sorted(map(str, agents)) == sorted(spec.agents):
            agents.sort(key=lambda agent: spec.agents.index(str(agent)))
        actions = {agent: env.action_space(agent) for agent in agents}
        self._index = {agent: i for i, agent in enumerate(agents)}
        self._first = {agent: int(space.start) for agent, space in actions.items()}
        self._boxes = {agent: env.observation_space(agent) for agent in agents}
        sizes = tuple(math.prod(box.shape) for box in self._boxes.values())
        counts = tuple(int(space.n) for space in actions.values())
        for what, here, there in (
            ("observations of sizes", sizes, spec.obs_sizes),
            ("actions in numbers of", counts, spec.action_counts),
        ):
            if here != there:
                raise self._bad(f"one copy has {what} {there}, another {here}")

    def reset(self, seed: int) -> np.ndarray:
        """Starts an episode: obs [n, O].

        Raises:
          BadEnvironment: what it returns is not what PettingZoo's API says.
        """
        with self._at_home():
            result = self.parallel_env.reset(seed=seed)
        if not (isinstance(result, tuple) and len(result) == 2):
            raise self._bad("reset must return two dicts by agent: observations and infos")
        self.steps = 0
        self._out = set()
        self._present = self._who_is_here()
        if not self._present.any():
            raise self._bad("no agent is there after reset: agents is empty")
        self._check_nobody_left()
        return self._pad(result[0], self._present, self._present)

    def step(self, actions: np.ndarray) -> Episode:
        """Moves all agents that are there by `actions` [n]. Never resets by itself.

        Raises:
          BadEnvironment: as `reset`.
        """
        alive, chosen = self._present, {}
        for agent in self.parallel_env.agents:
            chosen[agent] = int(actions[self._index[agent]]) + self._first[agent]
        with self._at_home():
            result = self.parallel_env.step(chosen)
        if not (isinstance(result, tuple) and len(result) == 5):
            raise self._bad(
                "step must return five dicts by agent: observations, rewards, terminations, "
                "truncations and infos"
            )
        obs, rewards, terminations, truncations, _ = result
        self.steps += 1
        reward = np.zeros(self.spec.num_agents, np.float32)
        terminated = np.zeros(self.spec.num_agents, bool)
        for agent, i in self._index.items():
            if not alive[i]:
                continue
            reward[i] = self._reward(rewards, agent)
            terminated[i] = self._flag(terminations, agent)
            if terminated[i] or self._flag(truncations, agent):
                self._out.add(agent)
        self._present = self._who_is_here()
        finished = self.steps >= self._limit or not self._present.any()
        if not finished:
            self._check_nobody_left()
        # Values of whoever is cut off are bootstrapped from what it sees last.
        padded = self._pad(obs, alive | self._present, (alive & ~terminated) | self._present)
        return Episode(padded, reward, alive, terminated, self._present, finished)

    def render(self) -> Any:
        """What the copy draws of itself."""
        with self._at_home():
            return self.parallel_env.render()

    def close(self) -> None:
        """Closes the copy, if it can be; whatever goes wrong then is its own."""
        _close(self.parallel_env, self._at_home)

    def _who_is_here(self) -> np.ndarray:
        """Agents that act next [n]."""
        agents = getattr(self.parallel_env, "agents", None)
        if agents is None:
            raise self._bad("it has no list of agents")
        present = np.zeros(self.spec.num_agents, bool)
        for agent in agents:
            if agent not in self._index:
                raise self._bad(f"agents holds {agent!r}, which possible_agents lacks")
            present[self._index[agent]] = agent not in self._out
        return present

    def _flag(self, flags: Any, agent: Any) -> bool:
        """Whether one agent's end is said, for itself or for all of them."""
        named = isinstance(flags, Mapping)
        said = False
        for value in (flags.get(agent), flags.get("__all__")) if named else (flags,):
            if value is None or value is False:
                continue
            flag = np.asarray(value)
            if flag.size != 1 or flag.dtype.kind not in "biuf" or flag.item() not in (0, 1):
                raise self._bad(
                    f"an agent's end must be said by True or False, terminations or truncations of "
                    f"{agent!r} hold {value!r}"
                )
            said |= bool(flag.item())
        return said

    def _reward(self, rewards: Any, agent: Any) -> float:
        found = rewards.get(agent, 0.0) if isinstance(rewards, Mapping) else None
        try:
            number = float(found if isinstance(found, float) else _only_number(found))
        except (TypeError, ValueError):
            number = math.nan
        if not abs(number) <= _LARGEST:
            raise self._bad(f"the reward of {agent!r} must be one finite number, got {found!r}")
        return number

    def _pad(self, obs: Any, shown: np.ndarray, needed: np.ndarray) -> np.ndarray:
        """Observations [n, O] of the agents `shown` [n]; those of `needed` [n] must be there."""
        if not isinstance(obs, Mapping):
            raise self._bad(f"observations must be a dict by agent, got {type(obs).__name__}")
        padded = np.zeros((self.spec.num_agents, self.spec.obs_size), np.float32)
        for agent, i in self._index.items():
            value = obs.get(agent) if shown[i] else None
            if value is not None:
                padded[i, : self.spec.obs_sizes[i]] = self._flat(agent, value)
            elif needed[i]:
                raise self._bad(
                    f"the observation of {agent!r} is missing; an agent needs one to act on, and "
                    f"one at its end unless it is terminated"
                )
        return padded

    def _flat(self, agent: Any, value: Any) -> np.ndarray:
        """An observation as its float32 numbers, one after another."""
        box, found = self._boxes[agent], np.zeros(0, object)
        with suppress(ValueError):  # rows of different lengths
            found = np.asarray(value)
        if found.dtype.kind not in "biuf":
            raise self._bad(f"the observation of {agent!r} must hold numbers, got {found.dtype}")
        if found.shape != box.shape and _long_axes(found.shape) != _long_axes(box.shape):
            raise self._bad(
                f"the observation of {agent!r} has shape {found.shape}, and its space {box.shape}"
            )
        if found.dtype != box.dtype and box.dtype.kind in "biu" and not _fits(found, box.dtype):
            raise self._bad(
                f"the observation of {agent!r} must hold {box.dtype} as its space does, got "
                f"numbers from {found.min()} to {found.max()} as {found.dtype}"
            )
        if found.dtype == np.float32:
            flat = found.ravel()
        else:
            with np.errstate(over="ignore"):
                flat = found.astype(np.float32).ravel()
        if found.dtype.kind == "f" and not np.isfinite(flat).all():
            raise self._bad(f"the observation of {agent!r} holds NaN or infinity")
        return flat

    def _check_nobody_left(self) -> None:
        if not self.spec.agents_may_leave and not self._present.all():
            raise self._bad(
                "an agent is out of an episode that goes on, and agents_may_leave is False"
            )

    def _bad(self, what: str) -> BadEnvironment:
        return BadEnvironment(f"{self.spec.name}: {what}.")


def words(error: BaseException) -> str:
    """What an error says, with its kind where that is not plain from the text."""
    text = str(error).rstrip(".")
    said = isinstance(error, ImportError | TypeError | AttributeError | ValueError) and text
    return text if said else f"{type(error).__name__}: {text}" if text else type(error).__name__


def _only_number(value: Any) -> Any:
    return np.asarray(value, np.float64).reshape(())


def _long_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in shape if size != 1)


def _fits(found: np.ndarray, dtype: np.dtype) -> bool:
    """Whether all numbers can be stored as whole numbers of that type."""
    low, high = (0, 1) if dtype.kind == "b" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    whole = found.dtype.kind != "f" or bool((found == np.rint(found)).all())
    return whole and bool((found >= low).all() and (found <= high).all())


@atexit.register
def end_started() -> None:
    """Ends the processes that copies in this process have started and left behind."""
    if os.getpid() == _PROCESS:  # not in what was forked
        end_marked(OWN_MARK)


@contextmanager
def quiet() -> Iterator[None]:
    """No window and no greeting of pygame, unless whoever runs this process wants them.

    Processes that are started meanwhile and never ended are ended with this one. Streams that are
    replaced meanwhile are put back.
    """
    streams = sys.stdout, sys.stderr
    added = [name for name in _VARIABLES if name not in os.environ]
    os.environ.update({name: _VARIABLES[name] for name in added})
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        for name in added:
            os.environ.pop(name, None)


def _close(copy: Any, at_home: Callable[[], AbstractContextManager[None]]) -> None:
    with suppress(Exception, SystemExit), at_home():
        copy.close()


@contextmanager
def opened(env: HostEnvironment) -> Iterator[Any]:
    """A copy to look at, closed afterwards."""
    copy = env.parallel_env()
    try:
        with env.at_home():
            yield copy
    finally:
        _close(copy, env.at_home)
