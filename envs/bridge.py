"""PettingZoo environments by name: any ParallelEnv with Discrete actions and Box observations."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Set
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from mamt_jax.envs.base import EnvSpec, check_at_least
from mamt_jax.envs.hosted import BadEnvironment, HostEnvironment, HostEpisodes, opened, quiet, words

_ENDLESS = 10_000  # steps after which an episode is cut off that nothing else ends
_LONGEST_COUNT = 60.0  # seconds that one episode may take to be counted
_MAX_LAYERS = 50  # of wrappers that are looked into


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
    typical_length: int | None
    agents_may_leave: bool
    options: dict[str, Any]
    folder: str

    def __init__(
        self,
        /,
        module: str = "",
        episode_length: int | None = None,
        typical_length: int | None = None,
        agents_may_leave: bool = True,
        **options: Any,
    ) -> None:
        """Opens one copy to look at its spaces.

        Args:
          module: where `parallel_env` is found.
          episode_length: steps until truncation; by default the environment's own `max_cycles`,
            and where it has none episodes end by themselves (or after 10,000 steps).
          typical_length: steps of an episode that ends by itself, by which runs are planned; by
            default those of one episode of random actions.
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
            ("typical_length", typical_length),
            ("agents_may_leave", agents_may_leave),
            ("options", options),
            ("folder", os.getcwd()),
        ):
            object.__setattr__(self, field, value)
        if not isinstance(agents_may_leave, bool):
            raise ValueError(
                f"pettingzoo: agents_may_leave must be True or False, got {agents_may_leave!r}."
            )
        for name, length in (
            ("episode_length", episode_length),
            ("typical_length", typical_length),
        ):
            if length is not None:
                check_at_least("pettingzoo", name, length, 1)
        _ = self.spec  # refuses at once what cannot be trained on

    @property
    def spec(self) -> EnvSpec:
        """Static description, read from one open copy."""
        return self._found[0]

    @property
    def time_limit(self) -> int:
        """As given, or the environment's own `max_cycles`; far away where it has none."""
        return self._found[1]

    @property
    def found(self) -> dict[str, Any]:
        """The length of a typical episode, where it was counted."""
        ends_by_itself = self.time_limit > self.spec.episode_length
        return {"typical_length": self.spec.episode_length} if ends_by_itself else {}

    @cached_property
    def _found(self) -> tuple[EnvSpec, int]:
        """Description and time limit."""
        with _reading(self.module), opened(self) as env:
            limit = self.episode_length or _own_limit(env, self.options)
            length = limit or self.typical_length or 1
            spec = read_spec(env, self.name, self.module, length, self.agents_may_leave)
        if limit or self.typical_length:
            return spec, limit or _ENDLESS
        return replace(spec, episode_length=self._count(spec)), _ENDLESS

    def _count(self, spec: EnvSpec) -> int:
        """Steps of one episode of random actions, to its own end."""
        random, end = np.random.default_rng(0), time.monotonic() + _LONGEST_COUNT
        with _reading(self.module), closing(HostEpisodes(self, spec=spec)) as episodes:
            episodes.reset(0)
            while episodes.steps < _ENDLESS and time.monotonic() < end:
                if episodes.step(random.integers(0, spec.action_counts)).finished:
                    return episodes.steps
        raise BadEnvironment(
            f"pettingzoo: {self.module} does not say how long its episodes are, and one was not "
            f"over after {episodes.steps:,} steps; give the steps as episode_length."
        )

    def load(self) -> None:
        """Imports the module; whoever opens a copy says what is wrong with it."""
        with suppress(Exception, SystemExit), self.at_home():
            import_module(self.module)

    def parallel_env(self, render_mode: str | None = None) -> Any:
        """Opens a copy."""
        if not isinstance(self.module, str) or not self.module:
            raise BadEnvironment(
                "pettingzoo: module must name a module with a function parallel_env, such as "
                f"mpe2.simple_reference_v3, got {self.module!r}."
            )
        more = {} if render_mode is None else {"render_mode": render_mode}
        with self.at_home():
            try:
                make = import_module(self.module).parallel_env
            except (Exception, SystemExit) as error:  # whatever foreign code raises
                raise BadEnvironment(
                    f"pettingzoo: cannot use module {self.module!r}: {words(error)}"
                    f"{self._hidden()}."
                ) from error
            try:
                return make(**self.options | more)
            except (Exception, SystemExit) as error:
                raise BadEnvironment(
                    f"pettingzoo: {self.module} cannot be opened: {words(error)}."
                ) from error

    def _hidden(self) -> str:
        """Says so where another package has the name of the user's own."""
        top = self.module.partition(".")[0]
        here = os.path.join(self.folder, top)
        taken = getattr(sys.modules.get(top), "__file__", None) or here
        for theirs in (here, f"{here}.py") if not taken.startswith(here) else ():
            if os.path.exists(theirs):
                return f"; {top!r} is the name of an installed package, too: rename {theirs}"
        return ""

    @contextmanager
    def at_home(self) -> Iterator[None]:
        """Modules of the user are found where they worked when this was made, after all others."""
        with quiet():
            sys.path.append(self.folder)
            try:
                yield
            finally:
                with suppress(ValueError):  # taken away by what was called
                    del sys.path[len(sys.path) - 1 - sys.path[::-1].index(self.folder)]


@contextmanager
def _reading(module: str) -> Iterator[None]:
    """Whatever foreign code raises while it is looked at becomes one sentence."""
    try:
        yield
    except BadEnvironment:
        raise
    except (Exception, SystemExit) as error:
        raise BadEnvironment(f"pettingzoo: {module} cannot be read: {words(error)}.") from error


def _own_limit(env: Any, options: Mapping[str, Any]) -> int | None:
    """The time limit that an environment keeps, in itself or in what it wraps, or was given."""
    waiting, seen = [env], set[int]()
    found = [options.get("max_cycles")]
    while waiting and len(seen) < _MAX_LAYERS:
        layer = waiting.pop(0)
        if layer is None or id(layer) in seen:
            continue
        seen.add(id(layer))
        waiting += [_kept(layer, name) for name in ("unwrapped", "env", "aec_env", "par_env")]
        found.append(_kept(layer, "max_cycles"))
        found.append(_kept(_kept(layer, "spec"), "max_episode_steps"))
    for limit in found:
        if isinstance(limit, int | np.integer) and not isinstance(limit, bool) and limit > 0:
            return int(limit)
    return None


def _kept(layer: Any, name: str) -> Any:
    """What an environment keeps under a name, if anything: to ask may fail in any way."""
    with suppress(Exception):
        return getattr(layer, name, None)
    return None


def not_installed(name: str, error: ImportError) -> ValueError:
    """What to raise where an environment's packages are missing."""
    return ValueError(f'{name} needs more packages: pip install "mamt-jax[pettingzoo]" ({error}).')


def read_spec(
    env: Any, name: str, summary: str, episode_length: int, agents_may_leave: bool
) -> EnvSpec:
    """Reads the description of an open ParallelEnv from its spaces.

    Raises:
      BadEnvironment: it has fewer than two agents or does not name them, or an agent's actions are
        not Discrete, or its observations no Box.
    """
    from gymnasium.spaces import Box, Discrete

    agents = getattr(env, "possible_agents", None)
    if agents is None:
        raise BadEnvironment(
            f"{name}: {summary} has no possible_agents, which must list its agents by name."
        )
    agents = sorted(agents, key=str) if isinstance(agents, Set) else list(agents)
    if len(agents) < 2:
        raise BadEnvironment(f"{name}: {summary} has {len(agents)} agent; at least 2 are needed.")
    if len(set(agents)) < len(agents):
        raise BadEnvironment(f"{name}: possible_agents of {summary} names an agent twice.")
    for agent in agents:
        if not isinstance(env.action_space(agent), Discrete):
            raise BadEnvironment(
                f"{name}: actions must be Discrete, {agent} has {env.action_space(agent)}."
            )
        box = env.observation_space(agent)
        if not isinstance(box, Box):
            raise BadEnvironment(f"{name}: observations must be a Box, {agent} has {box}.")
        if not np.prod(box.shape):
            raise BadEnvironment(
                f"{name}: observations must hold at least one number, {agent} has {box}."
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
