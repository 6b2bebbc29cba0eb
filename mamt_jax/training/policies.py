"""Trained policies, ready to act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import numpy as np

from mamt_jax.errors import ConfigError, not_finite
from mamt_jax.training.programs import Program
from mamt_jax.types import Algorithm, Game


@dataclass(frozen=True, eq=False, repr=False)
class Policies:
    """Trained policies of all seeds.

    Attributes:
        algorithm: The learning rule they come from.
        learner: Its state, stacked over seeds.
        seeds: Seed ids, in that order.
        game: Sizes of the environment, where they are known.
        points: Logging points done before they were as they are; -1 where that is not known.
    """

    algorithm: Algorithm
    learner: Any
    seeds: tuple[int, ...]
    game: Game | None = None
    points: int = -1

    def __repr__(self) -> str:
        return f"<Policies of {self.algorithm.name}, seeds: {', '.join(map(str, self.seeds))}>"

    @cached_property
    def _greedy(self) -> Program:
        return Program(_of_one_seed(self.algorithm.greedy))

    @cached_property
    def _sample(self) -> Program:
        return Program(_of_one_seed(self.algorithm.act))

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
            ConfigError: Wrong shape, numbers that are not finite, unknown seed, or
                sampling without a key or with something else.
            DivergedError: The policies are not finite there, as those of a seed that diverged.
        """
        try:
            obs = np.asarray(obs, np.float32)
        except (TypeError, ValueError) as error:
            raise ConfigError(f"obs must be an array of numbers: {error}.") from error
        if obs.ndim not in (2, 3):
            raise ConfigError(f"obs must be [n, O] or [E, n, O], got shape {obs.shape}.")
        if self.game and obs.shape[-2:] != (self.game.num_agents, self.game.obs_size):
            sizes = f"{self.game.num_agents}, {self.game.obs_size}"
            raise ConfigError(f"obs must be [{sizes}] or [E, {sizes}], got shape {obs.shape}.")
        if not np.isfinite(obs).all():
            raise ConfigError("obs must hold finite numbers, got NaN or infinity.")
        batched = obs if obs.ndim == 3 else obs[None]
        seed = self.seeds[0] if seed is None else seed
        self.check_seed(seed)
        index = self.seeds.index(seed)
        if greedy:
            actions = np.asarray(self._greedy(self.learner, index, batched))
        elif key is None:
            raise ConfigError("Sampling actions (greedy=False) needs a random key.")
        else:
            try:
                actions = np.asarray(self._sample(self.learner, index, key, batched))
            except (TypeError, ValueError) as error:
                if _is_key(key):
                    raise
                raise ConfigError(f"key must be one random key of JAX, got {key!r}.") from error
        if (actions < 0).any():
            raise not_finite(seed)
        return actions if obs.ndim == 3 else actions[0]

    def learner_of(self, seed: int) -> Any:
        """The algorithm's state of one seed; raises ConfigError unless there is one of that id."""
        self.check_seed(seed)
        index = self.seeds.index(seed)
        return jax.tree.map(lambda leaf: leaf[index], self.learner)

    def check_seed(self, seed: int) -> None:
        """Raises ConfigError unless there are policies of this seed."""
        if seed not in self.seeds:
            raise ConfigError(f"No seed {seed}; the run has {', '.join(map(str, self.seeds))}.")


def _is_key(key: Any) -> bool:
    try:
        jax.eval_shape(jax.random.bits, key)
    except (TypeError, ValueError):
        return False
    return True


def _of_one_seed(act: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """(states of all seeds, index of one, ...) -> its actions.

    The seed is chosen inside of the program: only what acting needs is ever looked up.
    """

    def chosen(learners: Any, index: jax.Array, *inputs: jax.Array) -> jax.Array:
        return act(jax.tree.map(lambda leaf: leaf[index], learners), *inputs)

    return chosen
