"""Multi-Walker as PettingZoo has it, on the host, with discrete torques."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.bridge import not_installed, read_spec
from mamt_jax.envs.hosted import BadEnvironment, HostEnvironment, opened, words
from mamt_jax.envs.walkers.options import NUM_JOINTS, Walkers, torques


class DiscreteTorques:
    """A continuous `multiwalker_v9` with the actions 0..15, see `torques`.

    A ParallelEnv in all but its base class, so that importing this file needs no PettingZoo.
    """

    def __init__(self, env: Any) -> None:
        self.env = env
        self._previous: dict[str, np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # also what unpickling asks for before there is an env
            raise AttributeError(name)
        return getattr(self.env, name)

    def action_space(self, agent: str) -> Any:
        """Discrete(16)."""
        del agent
        from gymnasium.spaces import Discrete

        return Discrete(2**NUM_JOINTS)

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> Any:
        """Starts an episode with all torques at 0."""
        self._previous = {agent: np.zeros(NUM_JOINTS) for agent in self.env.possible_agents}
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: dict[str, Any]) -> Any:
        """Moves the torques of all walkers by their actions."""
        chosen = {
            agent: torques(np.asarray(a), self._previous[agent]) for agent, a in actions.items()
        }
        self._previous |= chosen
        return self.env.step(chosen)


@dataclass(frozen=True)
class MultiWalkerHost(Walkers, HostEnvironment):
    """`multiwalker_v9` whose walkers choose among 16 changes of their four torques.

    All torques are 0 when an episode starts. The last step of an episode that is cut at
    `max_cycles` counts as truncated; PettingZoo itself reports a termination there.

    It is kept to compare `multiwalker` with, which is the same game in JAX.
    """

    name: ClassVar[str] = "multiwalker_host"
    summary: ClassVar[str] = "Multi-Walker in PettingZoo's own code, stepped on the host."

    @cached_property
    def spec(self) -> EnvSpec:
        """Static description, read from one open copy."""
        leave = not self.terminate_on_fall  # PettingZoo removes the fallen, whatever remove_on_fall
        with opened(self) as env:
            return read_spec(env, self.name, self.summary, self.max_cycles, leave)

    def parallel_env(self, render_mode: str | None = None) -> Any:
        """Opens a copy; its own time limit lies beyond `max_cycles`."""
        try:
            with self.at_home(), warnings.catch_warnings():
                # Box2D's bindings warn while they load, and crash where warnings are errors.
                warnings.simplefilter("ignore", DeprecationWarning)
                from pettingzoo.sisl import multiwalker_v9
                from pettingzoo.utils.conversions import aec_to_parallel
        except ImportError as error:
            raise not_installed(self.name, error) from error
        except Exception as error:  # of bindings that do not fit
            raise BadEnvironment(f"{self.name} cannot be loaded: {words(error)}.") from error
        options = {option.name: getattr(self, option.name) for option in fields(self)}
        options["max_cycles"] = self.max_cycles + 1
        # Without the wrappers of `multiwalker_v9.parallel_env`, which check order and bounds of
        # what is in order and within bounds here, and take a fifth of the time of a step.
        with self.at_home():
            raw = multiwalker_v9.raw_env(**options, render_mode=render_mode)
        return DiscreteTorques(aec_to_parallel(raw))
