"""What an on-policy algorithm learns from: the newest rollout, whole and in order."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from mamt_jax.envs.base import EnvSpec
from mamt_jax.ops.masking import masked_mean, masked_var
from mamt_jax.training.transitions import empty_transitions, to_batch_types
from mamt_jax.types import Batch, Transition


@dataclass(frozen=True)
class Rollout:
    """A :class:`~mamt_jax.training.store.Store` of exactly one rollout; its only sample is all.

    Attributes:
      steps: T, of every environment.
      num_envs: E.
      spec: the environment.
    """

    steps: int
    num_envs: int
    spec: EnvSpec

    def init(self) -> Transition:
        """Leaves ``[T, E, ...]``."""
        lead = (self.steps, self.num_envs)
        return empty_transitions(self.spec, lead)._replace(finished=jnp.zeros(lead, bool))

    def insert(self, state: Transition, new: Transition, inserted: jax.Array) -> Transition:
        """Stores the next step of all E environments."""
        at = inserted // len(new.reward) % self.steps
        return jax.tree.map(
            lambda kept, rows: jax.lax.dynamic_update_index_in_dim(
                kept, rows.astype(kept.dtype), at, axis=0
            ),
            state,
            new,
        )

    def sample(self, state: Transition, key: jax.Array, inserted: jax.Array) -> Batch:
        """The rollout; there is nothing to draw."""
        del key, inserted
        flat = state.reward.reshape(-1, state.reward.shape[-1]).T
        alive = None if state.alive is None else state.alive.reshape(flat.shape[::-1]).T
        mean, var = masked_mean(flat, alive, axis=1), masked_var(flat, alive, axis=1)
        return Batch(to_batch_types(state), mean, jnp.sqrt(var), None)
