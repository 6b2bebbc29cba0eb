"""Greedy evaluation: the most probable action of every agent, whole episodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from envs.base import Environment
from envs.bridge import HostEnvironment
from envs.wrappers import VectorEnv, VectorState
from mamt_jax.config import TrainConfig
from mamt_jax.types import Algorithm

_STREAM = 0xE7A1
"""Folded into every key of an evaluation, so that no training stream shares it."""


def evaluation_key(seed: int, point: int = 0) -> jax.Array:
    """Key of an evaluation, from its seed and the logging point that it belongs to."""
    stream = jax.random.fold_in(jax.random.key(seed), _STREAM)
    return jax.random.fold_in(stream, point)


def make_evaluator(
    algorithm: Algorithm, env: Environment | HostEnvironment, config: TrainConfig, episodes: int
) -> Callable[[Any, jax.Array], Any]:
    """Compiles, at its first call, a function that plays greedy episodes.

    Args:
      algorithm: whose policies act.
      env: where.
      config: of the run; for the workers of a host environment.
      episodes: per seed.

    Returns:
      (the algorithm's states, leaves ``[S, ...]``; a key, from which every seed draws starts of
      its own) -> float32 ``[S, episodes]``: undiscounted returns, averaged over agents.
    """
    if isinstance(env, HostEnvironment):
        from mamt_jax.training.bridged import make_bridged_evaluator

        return make_bridged_evaluator(algorithm, env, config, episodes)
    vector = VectorEnv(env, episodes)

    def play(learner: Any, key: jax.Array) -> jax.Array:
        reset_key, step_key = jax.random.split(key)

        def advance(
            carry: tuple[VectorState, jax.Array, jax.Array], key: jax.Array
        ) -> tuple[tuple[VectorState, jax.Array, jax.Array], None]:
            state, returns, done = carry
            state, step = vector.step(key, state, algorithm.greedy(learner, state.obs))
            returns = jnp.where(done, returns, step.finished_return)
            return (state, returns, done | step.finished), None

        start = (vector.reset(reset_key), jnp.zeros(episodes), jnp.zeros(episodes, bool))
        keys = jax.random.split(step_key, env.spec.episode_length)
        (_, returns, _), _ = jax.lax.scan(advance, start, keys)
        return returns

    def play_all(learners: Any, key: jax.Array) -> jax.Array:
        count = jax.tree.leaves(learners)[0].shape[0]
        return jax.lax.map(lambda one: play(*one), (learners, jax.random.split(key, count)))

    return jax.jit(play_all)
