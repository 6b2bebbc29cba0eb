"""What an off-policy algorithm learns from: a uniform replay with exact running reward moments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.envs.base import EnvSpec
from mamt_jax.ops import moments
from mamt_jax.training.transitions import empty_transitions, to_batch_types
from mamt_jax.types import Batch, Transition


class ReplayState(NamedTuple):
    """Contents of one seed's replay. How many there are is the caller's unbatched counter."""

    storage: Transition
    """Leaves ``[capacity, ...]``."""
    reward: moments.Moments
    """Of the stored rewards, per agent; not of steps that it took no part in."""


@dataclass(frozen=True)
class Replay:
    """A :class:`~mamt_jax.training.store.Store` that overwrites its oldest transitions.

    Attributes:
      capacity: transitions kept.
      batch_size: B.
      recent: newest transitions that ``Batch.recent`` is drawn from; 0 for no such batch.
      spec: the environment whose transitions they are.
    """

    capacity: int
    batch_size: int
    recent: int
    spec: EnvSpec

    def init(self) -> ReplayState:
        """Holds nothing."""
        moment = moments.init_moments((self.spec.num_agents,))
        return ReplayState(empty_transitions(self.spec, (self.capacity,)), moment)

    def insert(self, state: ReplayState, new: Transition, inserted: jax.Array) -> ReplayState:
        """Stores E transitions ``[E, ...]``; E must divide the capacity."""
        start, new = inserted % self.capacity, new._replace(finished=None)
        old = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, len(new.reward)), state.storage
        )
        has, had = new.alive, old.alive
        if has is None or had is None:
            has = jnp.ones_like(new.reward, bool)
            had = jnp.full_like(has, inserted >= self.capacity)
        reward = moments.replace(state.reward, new.reward, old.reward, has, had)
        storage = jax.tree.map(lambda kept, rows: _with_rows(kept, rows, start), state.storage, new)
        return ReplayState(storage, reward)

    def sample(self, state: ReplayState, key: jax.Array, inserted: jax.Array) -> Batch:
        """B transitions drawn uniformly, and B of the newest where those are asked for."""
        size = jnp.minimum(inserted, self.capacity)
        key, recent_key = jax.random.split(key)

        def take(index: jax.Array) -> Transition:
            return to_batch_types(jax.tree.map(lambda leaf: _rows(leaf, index), state.storage))

        index = jax.random.randint(key, (self.batch_size,), 0, size)
        newest = None
        if self.recent:
            within = jnp.minimum(size, self.recent)
            age = jax.random.randint(recent_key, (self.batch_size,), 0, within)
            newest = take((inserted - 1 - age) % self.capacity)
        mean, std = moments.mean_and_std(state.reward)
        return Batch(take(index), mean, std, newest)


def _flat(leaf: jax.Array) -> jax.Array:
    """A transition in one row: an accelerator would else keep agents outermost while it trains.

    That is how an update wants its batches, and costs a copy of the whole replay at both ends.
    """
    return leaf.reshape(len(leaf), -1)


def _rows(leaf: jax.Array, index: jax.Array) -> jax.Array:
    """``leaf[index]``."""
    return _flat(leaf)[index].reshape(len(index), *leaf.shape[1:])


def _with_rows(leaf: jax.Array, rows: jax.Array, start: jax.Array) -> jax.Array:
    """The leaf with these rows from ``start`` on."""
    new = _flat(rows.astype(leaf.dtype))
    return jax.lax.dynamic_update_slice_in_dim(_flat(leaf), new, start, axis=0).reshape(leaf.shape)
