"""Trained policies, ready to act."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import jax
import numpy as np

from mamt_jax.config import ConfigError
from mamt_jax.errors import DivergedError
from mamt_jax.training.programs import Program
from mamt_jax.types import Algorithm


@dataclass(frozen=True, eq=False)
class Policies:
    """Trained policies of all seeds.

    Attributes:
        algorithm: The learning rule they come from.
        learner: Its state, stacked over seeds.
        seeds: Seed ids, in that order.
    """

    algorithm: Algorithm
    learner: Any = field(repr=False)
    seeds: tuple[int, ...]

    @cached_property
    def _greedy(self) -> Program:
        return Program(self.algorithm.greedy)

    @cached_property
    def _sample(self) -> Program:
        return Program(self.algorithm.act)

    def act(
        self,
        obs: Any,
        seed: int | None = None,
        *,
        greedy: bool = True,
        key: jax.Array | None = None,
    ) -> np.ndarray:
        """Actions of all agents.

        Args:
            obs: float ``[n, O]`` or ``[E, n, O]``.
            seed: Which seed's policies act; the first by default.
            greedy: Most probable actions; otherwise sampled, which needs ``key``.
            key: Random key for sampling.

        Returns:
            int32 ``[n]`` or ``[E, n]``.

        Raises:
            ConfigError: Wrong number of axes, numbers that are not finite, unknown seed, or
                sampling without a key.
            DivergedError: The policies are not finite there, as those of a seed that diverged.
        """
        obs = np.asarray(obs, np.float32)
        if obs.ndim not in (2, 3):
            raise ConfigError(f"obs must be [n, O] or [E, n, O], got shape {obs.shape}.")
        if not np.isfinite(obs).all():
            raise ConfigError("obs must hold finite numbers, got NaN or infinity.")
        batched = obs if obs.ndim == 3 else obs[None]
        seed = self.seeds[0] if seed is None else seed
        state = self._of_seed(seed)
        if greedy:
            actions = np.asarray(self._greedy(state, batched))
        elif key is None:
            raise ConfigError("Sampling actions (greedy=False) needs a random key.")
        else:
            actions = np.asarray(self._sample(state, key, batched))
        if (actions < 0).any():
            raise DivergedError(
                f"The policies of seed {seed} are NaN or infinite at these observations; if it "
                f"diverged in training (metrics.diverged_at_update), ask those of another seed."
            )
        return actions if obs.ndim == 3 else actions[0]

    def check_seed(self, seed: int) -> None:
        """Raises ConfigError unless there are policies of this seed."""
        if seed not in self.seeds:
            raise ConfigError(f"No seed {seed}; the run has {', '.join(map(str, self.seeds))}.")

    def _of_seed(self, seed: int) -> Any:
        self.check_seed(seed)
        index = self.seeds.index(seed)
        return jax.tree.map(lambda leaf: leaf[index], self.learner)
