"""Greedy evaluation: the most probable action of every agent, whole episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.config import TrainConfig
from mamt_jax.envs.base import Environment
from mamt_jax.envs.hosted import HostEnvironment
from mamt_jax.envs.wrappers import VectorEnv, VectorState
from mamt_jax.training.programs import Program, as_written
from mamt_jax.types import Algorithm

_STREAM = 0xE7A1
"""Folded into every key of an evaluation, so that no training stream shares it."""


@as_written()
def evaluation_keys(trained: Sequence[int], seed: int = 0, point: int = 0) -> jax.Array:
    """Keys of an evaluation ``[S]``: a trained seed's are its own, whatever others there are.

    Args:
      trained: ids of the seeds whose policies play.
      seed: of the evaluation's own randomness.
      point: logging point that it belongs to; 0 for none.
    """
    stream = jax.random.fold_in(jax.random.key(seed), _STREAM)
    stream = jax.random.fold_in(stream, point)
    return jax.vmap(partial(jax.random.fold_in, stream))(jnp.asarray(trained, jnp.int32))


class _Played(NamedTuple):
    """Episodes side by side, of which the first in each environment counts."""

    state: VectorState
    returns: jax.Array
    done: jax.Array
    undecided: jax.Array
    """bool []: a policy was not finite."""


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
      (the algorithm's states, leaves ``[S, ...]``; keys [S], from which every seed draws starts of
      its own) -> float32 ``[S, episodes]``: undiscounted returns, averaged over agents; NaN for
      seeds whose policies are not finite.
    """
    if isinstance(env, HostEnvironment):
        from mamt_jax.training.bridged import make_bridged_evaluator

        return make_bridged_evaluator(algorithm, env, config, episodes)
    vector = VectorEnv(env, episodes)

    def play(learner: Any, key: jax.Array) -> jax.Array:
        reset_key, step_key = jax.random.split(key)

        def advance(carry: _Played, key: jax.Array) -> tuple[_Played, None]:
            action = algorithm.greedy(learner, carry.state.obs)
            state, step = vector.step(key, carry.state, jnp.maximum(action, 0))
            returns = jnp.where(carry.done, carry.returns, step.finished_return)
            undecided = carry.undecided | jnp.any(action < 0)
            return _Played(state, returns, carry.done | step.finished, undecided), None

        nothing = jnp.zeros(episodes, bool)
        start = _Played(vector.reset(reset_key), jnp.zeros(episodes), nothing, jnp.bool_(False))
        keys = jax.random.split(step_key, env.spec.episode_length)
        end, _ = jax.lax.scan(advance, start, keys)
        return jnp.where(end.undecided, jnp.nan, end.returns)

    return Program(lambda learners, keys: jax.lax.map(lambda one: play(*one), (learners, keys)))
