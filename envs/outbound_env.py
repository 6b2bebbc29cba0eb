"""The class behind `to_pettingzoo`; imports PettingZoo, so it is imported only when called for."""

from __future__ import annotations

import operator
import secrets
from collections.abc import Mapping
from typing import Any

import gymnasium
import jax
import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray
from pettingzoo import ParallelEnv

from mamt_jax.envs import drawing
from mamt_jax.envs.base import Environment
from mamt_jax.envs.wrappers import advance, start

Observations = dict[str, NDArray[np.float32]]
Infos = dict[str, dict[str, Any]]

_SEEDS = 2**32  # JAX takes larger seeds modulo this number
_RENDER_MODES = ("rgb_array",)


class OutboundEnv(ParallelEnv[str, NDArray[np.float32], int]):
    """One of our environments as a `pettingzoo.ParallelEnv`.

    Observations are float32 of each agent's own size, without padding. All randomness comes from
    one key, `jax.random.key(seed)`, as `mamt_jax.envs.wrappers.start` and `advance` take it on.
    """

    def __init__(self, env: Environment, render_mode: str | None = None) -> None:
        spec = env.spec
        if render_mode is not None and render_mode not in _RENDER_MODES:
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}.")
        if render_mode is not None and not hasattr(env, "render"):
            raise ValueError(f"{spec.name} has no render method; use render_mode=None.")
        self.env = env
        self.render_mode = render_mode
        self.metadata = {
            "name": spec.name,
            "render_modes": list(_RENDER_MODES) if hasattr(env, "render") else [],
            "render_fps": 1000 // drawing.milliseconds_per_frame(spec.episode_length),
            "is_parallelizable": True,
        }
        self.possible_agents = list(spec.agents)
        self.agents: list[str] = []
        low, high = spec.obs_bounds
        sizes = dict(zip(self.possible_agents, spec.obs_sizes, strict=True))
        counts = dict(zip(self.possible_agents, spec.action_counts, strict=True))
        self.observation_spaces = {
            agent: Box(low, high, (size,), np.float32) for agent, size in sizes.items()
        }
        self.action_spaces = {agent: Discrete(count) for agent, count in counts.items()}
        self.state_space = Box(low, high, (sum(spec.obs_sizes),), np.float32)
        self._key: jax.Array | None = None
        self._env_state: Any = None
        self._obs: NDArray[np.float32] = np.zeros((0, 0), np.float32)  # [n, O], padded

    def observation_space(self, agent: str) -> Box:
        """Space of one agent's observations, always the same object."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Discrete:
        """Space of one agent's actions, always the same object."""
        return self.action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observations, Infos]:
        """Starts an episode.

        Args:
          seed: in 0 to 2**32 - 1; the same one starts the same stream of episodes. Without it the
            stream goes on, and the first one of all is random.
          options: ignored; PettingZoo asks for it.

        Raises:
          ValueError: the seed is out of range.
        """
        del options
        if seed is not None or self._key is None:
            self._key = jax.random.key(_checked_seed(seed))
        self._key, self._env_state, obs = start(self.env, self._key)
        self._obs = np.asarray(obs)
        self.agents = self.possible_agents[:]
        return self._observations(), {agent: {} for agent in self.agents}

    def step(
        self, actions: Mapping[str, int]
    ) -> tuple[Observations, dict[str, float], dict[str, bool], dict[str, bool], Infos]:
        """Moves all agents: (observations, rewards, terminations, truncations, infos).

        `agents` are those that act next: none after the end of an episode.

        Raises:
          ValueError: an action is missing, unknown or out of range, or no episode is running.
        """
        if not self.agents:
            raise ValueError(f"No episode of {self} is running; call reset first.")
        chosen = self._checked(actions)
        self._key, result = advance(self.env, self._key, self._env_state, chosen)
        self._env_state = result.state
        self._obs, reward, terminated, truncated = jax.device_get(result[1:5])
        terminated = np.broadcast_to(terminated, reward.shape)
        alive = ~terminated if result.alive is None else np.asarray(result.alive) & ~terminated
        acted = self.agents
        rows = {agent: i for i, agent in enumerate(self.possible_agents) if agent in acted}
        self.agents = [] if truncated else [agent for agent, i in rows.items() if alive[i]]
        observations = self._observations()
        return (
            {agent: observations[agent] for agent in acted},
            {agent: float(reward[i]) for agent, i in rows.items()},
            {agent: bool(terminated[i]) for agent, i in rows.items()},
            # Who is gone without being terminated was cut off.
            {
                agent: bool(truncated or not (alive[i] or terminated[i]))
                for agent, i in rows.items()
            },
            {agent: {} for agent in acted},
        )

    def render(self) -> drawing.Frame | None:
        """Picture of the current state, uint8 [H, W, 3]; None without a `render_mode`.

        Raises:
          ValueError: nothing was reset yet.
        """
        if self.render_mode is None:
            gymnasium.logger.warn(f"{self} was made without a render_mode, so it renders nothing.")
            return None
        if self._env_state is None:
            raise ValueError(f"{self} has no state to render yet; call reset first.")
        return self.env.render(self._env_state)

    def state(self) -> NDArray[np.float32]:
        """Observations of all agents one after another, [sum of their sizes].

        Raises:
          ValueError: nothing was reset yet.
        """
        if self._env_state is None:
            raise ValueError(f"{self} has no state yet; call reset first.")
        return np.concatenate(list(self._observations().values()))

    def _observations(self) -> Observations:
        """Copies of the current observations, without padding."""
        rows = zip(self.possible_agents, self._obs, self.env.spec.obs_sizes, strict=True)
        return {agent: row[:size].copy() for agent, row, size in rows}

    def _checked(self, actions: Mapping[str, int]) -> NDArray[np.int32]:
        """Actions in the order of the agents [n]; 0 for those that have left."""
        if not isinstance(actions, Mapping):
            raise ValueError(f"Actions of {self} must be a dict by agent, got {actions!r}.")
        missing = [agent for agent in self.agents if agent not in actions]
        unknown = [agent for agent in actions if agent not in self.action_spaces]
        if missing or unknown:
            problem = "No action of" if missing else "No agent is called"
            names = ", ".join(map(str, missing or unknown))
            raise ValueError(f"{problem} {names}; {self} steps {', '.join(self.agents)} at once.")
        chosen = np.zeros(len(self.possible_agents), np.int32)
        for i, agent in enumerate(self.possible_agents):
            if agent in self.agents:
                chosen[i] = self._checked_action(agent, actions[agent])
        return chosen

    def _checked_action(self, agent: str, action: Any) -> int:
        count = int(self.action_spaces[agent].n)
        try:
            number = operator.index(action)
        except TypeError:
            number = -1
        if not 0 <= number < count:
            raise ValueError(
                f"Action of {agent} must be an integer in 0 to {count - 1}, got {action!r}."
            )
        return number


def _checked_seed(seed: int | None) -> int:
    if seed is None:
        return secrets.randbelow(_SEEDS)
    try:
        number = operator.index(seed)
    except TypeError:
        number = -1
    if not 0 <= number < _SEEDS:
        raise ValueError(f"seed must be an integer in 0 to 2**32 - 1, got {seed!r}.")
    return number
