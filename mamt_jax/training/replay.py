"""Uniform replay with exact running reward moments, as a record of functions.

Observations and actions are stored in the smallest type that holds them exactly, and leave the
replay as float32 and int32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.envs.base import EnvSpec
from mamt_jax.ops import moments
from mamt_jax.types import Batch, Transition


class ReplayState(NamedTuple):
    """Contents of one seed's replay. How many there are is the caller's unbatched counter."""

    storage: Transition
    """Leaves ``[capacity, ...]``."""
    reward: moments.Moments
    """Of the stored rewards, per agent; not of steps that it took no part in."""


class Replay(NamedTuple):
    """A buffer of fixed capacity; the oldest transitions are overwritten. Or, on-policy, one
    rollout (:mod:`mamt_jax.training.rollout`).

    ``inserted`` below is the number of transitions ever inserted, int32 [], the same for all seeds:
    kept outside the state, so that it stays a scalar when seeds are vmapped.
    """

    init: Callable[[], Any]
    """() -> state."""
    insert: Callable[[Any, Transition, jax.Array], Any]
    """(state, E transitions, inserted) -> state. E must divide the capacity."""
    sample: Callable[[Any, jax.Array, jax.Array], Batch]
    """(state, key, inserted) -> batch."""


def make_replay(capacity: int, batch_size: int, recent: int, spec: EnvSpec) -> Replay:
    """Uniform replay.

    Args:
      capacity: transitions kept.
      batch_size: B.
      recent: newest transitions that ``Batch.recent`` is drawn from; 0 for no such batch.
      spec: the environment whose transitions they are.
    """
    return Replay(
        partial(_init, capacity, spec),
        partial(_insert, capacity),
        partial(_sample, capacity, batch_size, recent),
    )


def empty_transitions(spec: EnvSpec, lead: tuple[int, ...]) -> Transition:
    """Room for transitions ``[*lead, ...]`` in the smallest types that hold them."""
    agents = (*lead, spec.num_agents)
    obs = jnp.zeros((*agents, spec.obs_size), spec.obs_dtype)
    return Transition(
        obs=obs,
        action=jnp.zeros(agents, jnp.uint8 if spec.num_actions <= 256 else jnp.int32),
        reward=jnp.zeros(agents, jnp.float32),
        next_obs=jnp.copy(obs),
        terminated=jnp.zeros(agents, bool),
        alive=jnp.zeros(agents, bool) if spec.agents_may_leave else None,
    )


def to_batch_types(stored: Transition) -> Transition:
    """Stored transitions as updates want them: float32 and int32."""
    return stored._replace(
        obs=stored.obs.astype(jnp.float32),
        action=stored.action.astype(jnp.int32),
        next_obs=stored.next_obs.astype(jnp.float32),
    )


def _init(capacity: int, spec: EnvSpec) -> ReplayState:
    moment = moments.init_moments((spec.num_agents,))
    return ReplayState(empty_transitions(spec, (capacity,)), moment)


def _insert(capacity: int, state: ReplayState, new: Transition, inserted: jax.Array) -> ReplayState:
    start, new = inserted % capacity, new._replace(finished=None)
    old = jax.tree.map(
        lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, len(new.reward)), state.storage
    )
    has, had = new.alive, old.alive
    if has is None or had is None:
        has = jnp.ones_like(new.reward, bool)
        had = jnp.full_like(has, inserted >= capacity)
    reward = moments.replace(state.reward, new.reward, old.reward, has, had)
    storage = jax.tree.map(
        lambda kept, rows: jax.lax.dynamic_update_slice_in_dim(
            kept, rows.astype(kept.dtype), start, axis=0
        ),
        state.storage,
        new,
    )
    return ReplayState(storage, reward)


def _sample(
    capacity: int,
    batch_size: int,
    recent: int,
    state: ReplayState,
    key: jax.Array,
    inserted: jax.Array,
) -> Batch:
    size = jnp.minimum(inserted, capacity)
    key, recent_key = jax.random.split(key)

    def take(index: jax.Array) -> Transition:
        return to_batch_types(jax.tree.map(lambda leaf: leaf[index], state.storage))

    index = jax.random.randint(key, (batch_size,), 0, size)
    newest = None
    if recent:
        age = jax.random.randint(recent_key, (batch_size,), 0, jnp.minimum(size, recent))
        newest = take((inserted - 1 - age) % capacity)
    mean, std = moments.mean_and_std(state.reward)
    return Batch(take(index), mean, std, newest)
