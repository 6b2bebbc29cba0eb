"""What an on-policy algorithm learns from: the newest rollout, whole and in order."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from mamt_jax.envs.base import EnvSpec
from mamt_jax.ops.masking import masked_mean, masked_var
from mamt_jax.training.replay import Replay, empty_transitions, to_batch_types
from mamt_jax.types import Batch, Transition


def make_rollout(steps: int, num_envs: int, spec: EnvSpec) -> Replay:
    """A store of exactly one rollout; its only sample is all of it.

    Args:
      steps: T, of every environment.
      num_envs: E.
      spec: the environment.
    """

    def init() -> Transition:
        ends = jnp.zeros((steps, num_envs), bool)
        return empty_transitions(spec, (steps, num_envs))._replace(finished=ends)

    return Replay(init, partial(_insert, steps), _sample)


def _insert(steps: int, state: Transition, new: Transition, inserted: jax.Array) -> Transition:
    at = inserted // len(new.reward) % steps
    return jax.tree.map(
        lambda kept, rows: jax.lax.dynamic_update_index_in_dim(
            kept, rows.astype(kept.dtype), at, axis=0
        ),
        state,
        new,
    )


def _sample(state: Transition, key: jax.Array, inserted: jax.Array) -> Batch:
    del key, inserted
    flat = state.reward.reshape(-1, state.reward.shape[-1]).T
    alive = None if state.alive is None else state.alive.reshape(flat.shape[::-1]).T
    mean, var = masked_mean(flat, alive, axis=1), masked_var(flat, alive, axis=1)
    return Batch(to_batch_types(state), mean, jnp.sqrt(var), None)
