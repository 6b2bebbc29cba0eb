"""Greedy evaluation: the most probable action of every agent, whole episodes."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from envs.base import Environment
from envs.wrappers import VectorEnv, VectorState
from mamt_jax.types import Algorithm


def evaluate(
    algorithm: Algorithm, env: Environment, learners: Any, key: jax.Array, episodes: int
) -> jax.Array:
    """Plays ``episodes`` greedy episodes with each seed's policies, the same ones for all seeds.

    Args:
      algorithm: whose policies act.
      env: where.
      learners: the algorithm's states, leaves ``[S, ...]``.
      key: draws the starts.
      episodes: per seed.

    Returns:
      float32 ``[S, episodes]``: undiscounted returns, averaged over agents.
    """
    vector = VectorEnv(env, episodes)

    def play(learner: Any) -> jax.Array:
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

    return jax.jit(lambda states: jax.lax.map(play, states))(learners)
