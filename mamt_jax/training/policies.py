"""Trained policies, ready to act."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import numpy as np
import xarray as xr

from mamt_jax.errors import ConfigError, not_finite
from mamt_jax.training.asking import as_observations, check_says, checked, named
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
        obs = as_observations(self.game, obs, most=3)
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

    def says(self, what: str, obs: Any, actions: Any, seed: int | None = None) -> xr.DataArray:
        """What the algorithm says where agents observe this and act so.

        Args:
            what: An entry of ``Algorithm.inspect``.
            obs: float ``[..., n, O]``.
            actions: int ``[..., n]``, -1 of agents that have left; None where nothing depends on
                them.
            seed: Which seed's algorithm is asked; the first by default.

        Returns:
            ``[..., n, ...]``, with names.

        Raises:
            ConfigError: The algorithm does not say that; as :meth:`act`; or there are no such
                actions.
            DivergedError: What it says is not finite.
        """
        seed = self.seeds[0] if seed is None else seed
        asked, learner = checked(self.game, obs, actions), self.learner_of(seed)
        check_says(self.algorithm, learner, asked, what)
        program = self._saying(what)
        values = np.asarray(program(learner, asked.obs, asked.actions, asked.alive))
        there = values if asked.alive is None else values[asked.alive.all(axis=-1)]
        if not np.isfinite(there).all():
            raise not_finite(seed)
        return named(what, values, asked, self.game.agents if self.game else ())

    @cached_property
    def _saying(self) -> Callable[[str], Program]:
        return lru_cache(8)(partial(_said, self.algorithm))

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


def _said(algorithm: Algorithm, what: str) -> Program:
    """(state of one seed, ...) -> one entry of ``inspect``; only what it needs is computed."""
    inspect = algorithm.inspect
    assert inspect is not None
    return Program(lambda *inputs: inspect(*inputs)[what])


def _of_one_seed(act: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    """(states of all seeds, index of one, ...) -> its actions.

    The seed is chosen inside of the program: only what acting needs is ever looked up.
    """

    def chosen(learners: Any, index: jax.Array, *inputs: jax.Array) -> jax.Array:
        return act(jax.tree.map(lambda leaf: leaf[index], learners), *inputs)

    return chosen
