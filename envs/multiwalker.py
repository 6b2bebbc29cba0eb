"""Multi-Walker with discrete torques: bipedal robots carry a package together."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from mamt_jax.envs.base import EnvSpec, check_at_least, check_flag, check_number
from mamt_jax.envs.bridge import not_installed, read_spec
from mamt_jax.envs.hosted import BadEnvironment, HostEnvironment, opened, words

NUM_JOINTS = 4
TORQUE_STEP = 0.2


def torques(actions: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Next torques [..., 4] after discrete `actions` [...] in 0..15.

    Bit b of an action moves the torque of joint b up or down by 0.2 from the previous torque; the
    result is clipped to [-1, 1].
    """
    bits = (np.asarray(actions)[..., None] >> np.arange(NUM_JOINTS)) & 1
    moved = previous + TORQUE_STEP * (2 * bits - 1)
    return np.clip(moved, -1.0, 1.0).astype(np.float32)


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
        chosen = {agent: torques(a, self._previous[agent]) for agent, a in actions.items()}
        self._previous |= chosen
        return self.env.step(chosen)


@dataclass(frozen=True)
class MultiWalker(HostEnvironment):
    """`multiwalker_v9` whose walkers choose among 16 changes of their four torques.

    All torques are 0 when an episode starts. The last step of an episode that is cut at
    `max_cycles` counts as truncated; PettingZoo itself reports a termination there.

    Attributes:
      max_cycles: steps until truncation.

    All other options are those of `multiwalker_v9`.
    """

    name: ClassVar[str] = "multiwalker"
    summary: ClassVar[str] = (
        "Multi-Walker: bipedal robots carry a package (PettingZoo, on the host)."
    )

    max_cycles: int = 500
    n_walkers: int = 3
    position_noise: float = 1e-3
    angle_noise: float = 1e-3
    forward_reward: float = 1.0
    terminate_reward: float = -100.0
    fall_reward: float = -10.0
    shared_reward: bool = True
    terminate_on_fall: bool = True
    remove_on_fall: bool = True
    terrain_length: int = 200

    def __post_init__(self) -> None:
        check_at_least("multiwalker", "max_cycles", self.max_cycles, 1)
        check_at_least("multiwalker", "n_walkers", self.n_walkers, 2)
        check_at_least("multiwalker", "terrain_length", self.terrain_length, 1)
        for option in ("position_noise", "angle_noise"):
            check_number("multiwalker", option, getattr(self, option))
            if getattr(self, option) < 0:
                raise ValueError(f"multiwalker: {option} must be 0 or greater.")
        for option in ("forward_reward", "terminate_reward", "fall_reward"):
            check_number("multiwalker", option, getattr(self, option))
        for option in ("shared_reward", "terminate_on_fall", "remove_on_fall"):
            check_flag("multiwalker", option, getattr(self, option))

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
            raise not_installed("multiwalker", error) from error
        except Exception as error:  # of bindings that do not fit
            raise BadEnvironment(f"multiwalker cannot be loaded: {words(error)}.") from error
        options = {option.name: getattr(self, option.name) for option in fields(self)}
        options["max_cycles"] = self.max_cycles + 1
        # Without the wrappers of `multiwalker_v9.parallel_env`, which check order and bounds of
        # what is in order and within bounds here, and take a fifth of the time of a step.
        with self.at_home():
            raw = multiwalker_v9.raw_env(**options, render_mode=render_mode)
        return DiscreteTorques(aec_to_parallel(raw))
