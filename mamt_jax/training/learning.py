"""What one seed learns between collections, and what it carries from one to the next.

collect -> event -> logging point -> seeds: an event collects until ``steps_per_update`` more
transitions are stored and then updates; a logging point is a scan over events; seeds are mapped
around it. Off-policy algorithms draw batches from a replay; for on-policy ones an event collects
a rollout, which takes the replay's place, and makes one update. Counters are the same for all seeds
and stay outside the mapped state, so that every condition on them remains one branch, not a select.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.algorithms.registry import Recipe
from mamt_jax.settings import Settings
from mamt_jax.training import packing
from mamt_jax.training.plan import Plan
from mamt_jax.training.store import Store
from mamt_jax.types import Algorithm, Batch, Game, Metrics

COLLECT, UPDATES = "collect", "updates"
"""Scopes in which environments are stepped and learners updated, as profiles name them."""


class SeedState(NamedTuple):
    """What one seed carries through training."""

    learner: Any
    store: Any
    """What it stores: a replay, or an on-policy algorithm's rollout."""
    env: Any
    """``VectorState``; nothing where the environments are on the host."""
    key: jax.Array


class RunState(NamedTuple):
    """A whole run: seeds stacked, counters shared."""

    seeds: SeedState
    """Leaves ``[S, ...]``."""
    transitions: jax.Array
    """int32 []: environment transitions stored so far, per seed."""
    updates: jax.Array
    """int32 []: updates done, per seed."""

    @property
    def learner(self) -> Any:
        """The algorithm's state, leaves ``[S, ...]``."""
        return self.seeds.learner


class EpochOutput(NamedTuple):
    """What one logging point hands to the host."""

    metrics: Metrics
    """``[S, events, updates_per_event, ...]``, of every update."""
    updated: jax.Array
    """bool [events]: False while the store holds less than a batch; such rows mean nothing."""
    return_sum: jax.Array
    """float32 [S, events]: returns (mean over agents) of the episodes finished in each event."""
    episodes: jax.Array
    """int32 [S, events]: their number."""
    undecided: jax.Array
    """bool [S, events]: an action was asked of a policy that is not finite."""


class Collected(NamedTuple):
    """What a seed's environments say of some steps, each []."""

    return_sum: jax.Array
    episodes: jax.Array
    undecided: jax.Array
    """As in :class:`EpochOutput`."""


class Carry(NamedTuple):
    """One seed between events, with its view of the shared counters."""

    seed: SeedState
    transitions: jax.Array
    updates: jax.Array


@dataclass(frozen=True)
class Rule:
    """A learning rule before its numbers are known; equal ones make the same programs."""

    recipe: Recipe
    game: Game
    structure: Settings
    """Settings whose numbers are the recipe's defaults, whatever those of the run are."""

    def algorithm(self, settings: Settings | None = None) -> Algorithm:
        """The algorithm, with these numbers.

        Args:
            settings: Of this structure, with arrays in the place of numbers; the recipe's defaults
                where nothing that is asked depends on them.
        """
        return self.recipe(self.game, self.structure if settings is None else settings)


@dataclass(frozen=True)
class UpdateEvent:
    """What one seed does between collections, wherever its transitions come from."""

    plan: Plan
    store: Store
    algorithm: Algorithm
    """Built in the trace that the event is part of, or in one around it."""

    def learn(self, carry: Carry) -> tuple[Carry, Metrics, jax.Array]:
        """Updates if the store holds a batch.

        Returns:
          The seed, metrics ``[updates_per_event, ...]``, and whether there were updates, bool [].
        """
        ready = carry.transitions >= self.plan.batch_size
        shapes = jax.eval_shape(self._updates, carry)[1]
        nothing = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        carry, metrics = jax.lax.cond(ready, self._updates, lambda kept: (kept, nothing), carry)
        return carry, metrics, ready

    def _updates(self, carry: Carry) -> tuple[Carry, Metrics]:
        """``updates_per_event`` updates, metrics ``[updates_per_event, ...]``."""
        key, keys, batches = self.draw(carry.seed.key, carry.seed.store, carry.transitions)
        learner, metrics = self.update(carry.seed.learner, keys, batches, carry.updates)
        seed = carry.seed._replace(learner=learner, key=key)
        return Carry(seed, carry.transitions, carry.updates + len(keys)), metrics

    def draw(
        self, key: jax.Array, stored: Any, transitions: jax.Array
    ) -> tuple[jax.Array, jax.Array, Batch]:
        """What an event's updates take: the next key; a key and a batch each, ``[U, ...]``."""
        keys = jax.random.split(key, self.plan.updates_per_event + 1)
        both = jax.vmap(jax.random.split)(keys[1:])
        sample = jax.vmap(lambda key: self.store.sample(stored, key, transitions))
        return keys[0], both[:, 1], sample(both[:, 0])

    def update(
        self, learner: Any, keys: jax.Array, batches: Batch, count: jax.Array
    ) -> tuple[Any, Metrics]:
        """Updates one after another, metrics ``[U, ...]``; ``count`` is that of earlier ones."""

        def one(learner: Any, inputs: tuple[Any, ...]) -> tuple[Any, Metrics]:
            return self.algorithm.update(learner, *inputs)

        counts = count + jnp.arange(len(keys), dtype=count.dtype)
        with jax.named_scope(UPDATES):
            return packing.scan(one, learner, (keys, batches, counts))
