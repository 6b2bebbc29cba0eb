"""Where a seed's transitions go until an update takes them."""

from __future__ import annotations

from typing import Any, Protocol

import jax

from mamt_jax.envs.base import EnvSpec
from mamt_jax.settings import ReplayModelling, Settings
from mamt_jax.training.plan import Plan
from mamt_jax.training.replay import Replay
from mamt_jax.training.rollout import Rollout
from mamt_jax.types import Batch, Transition


class Store(Protocol):
    """A record of pure functions of one seed's stored transitions: a replay, or one rollout.

    ``inserted`` below is the number of transitions ever inserted, int32 [], the same for all seeds:
    kept outside the state, so that it stays a scalar when seeds are vmapped.
    """

    def init(self) -> Any:
        """Its state with nothing in it."""
        ...

    def insert(self, state: Any, new: Transition, inserted: jax.Array) -> Any:
        """The state with E transitions ``[E, ...]`` more."""
        ...

    def sample(self, state: Any, key: jax.Array, inserted: jax.Array) -> Batch:
        """What one update sees; the state must hold a batch."""
        ...


def make_store(plan: Plan, settings: Settings, spec: EnvSpec) -> Store:
    """A replay, or an on-policy algorithm's rollout."""
    if plan.on_policy:
        return Rollout(plan.collect[0], plan.num_envs, spec)
    modelling = ReplayModelling in settings
    recent = settings[ReplayModelling].modelling_recent if modelling else 0
    return Replay(plan.capacity, plan.batch_size, recent, spec)
