"""What a run's policies are asked to play: returns of episodes, or trajectories."""

from __future__ import annotations

from copy import copy
from functools import lru_cache, partial
from numbers import Integral

import numpy as np

from mamt_jax.config import MAX_EVALUATION_EPISODES
from mamt_jax.errors import not_finite
from mamt_jax.settings.fields import check
from mamt_jax.training.policies import Policies
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.stage.base import Stage
from mamt_jax.trajectories.trajectory import Trajectory


class Playing:
    """Policies on a stage. Programs are kept for as many episodes as were asked for lately.

    Args:
        stage: Where.
        policies: Who acts.
    """

    def __init__(self, stage: Stage, policies: Policies) -> None:
        self.policies, self.stage = policies, stage
        self._evaluator = lru_cache(4)(partial(stage.evaluator, policies.algorithm))
        self._player = lru_cache(4)(partial(stage.player, policies.algorithm))

    def by(self, policies: Policies) -> Playing:
        """The same programs for other policies of the same algorithm."""
        other = copy(self)
        other.policies = policies
        return other

    def evaluate(self, episodes: int, seed: int) -> np.ndarray:
        """As :meth:`mamt_jax.training.result.Run.evaluate`."""
        _check_episodes(episodes)
        _check_key("seed", seed)
        policies, evaluate = self.policies, self._evaluator(int(episodes))
        return np.asarray(evaluate(policies.learner, evaluation_keys(policies.seeds, seed)))

    def play(self, episodes: int, seed: int | None, greedy: bool, key: int) -> Trajectory:
        """As :meth:`mamt_jax.training.result.Run.play`."""
        _check_episodes(episodes)
        _check_key("key", key)
        check(isinstance(greedy, bool), "greedy", greedy, "True or False")
        seed = self.policies.seeds[0] if seed is None else seed
        learner, (one,) = self.policies.learner_of(seed), evaluation_keys([seed], key)
        trajectory = self._player(int(episodes), greedy)(learner, one)
        if trajectory.undecided:
            raise not_finite(seed)
        return trajectory


def _check_episodes(episodes: object) -> None:
    whole = isinstance(episodes, Integral) and 1 <= int(episodes) <= MAX_EVALUATION_EPISODES
    check(whole, "episodes", episodes, f"an integer in 1 to {MAX_EVALUATION_EPISODES:,}")


def _check_key(name: str, value: object) -> None:
    whole = isinstance(value, Integral) and 0 <= int(value) < 2**31
    check(whole, name, value, "an integer in 0 to 2**31 - 1")
