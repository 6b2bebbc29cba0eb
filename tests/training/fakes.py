"""A trainer with the interface of ``training.trainer``, small enough to know every number."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.algorithms import registry
from mamt_jax.algorithms.registry import Recipe
from mamt_jax.config import TrainConfig, make_config
from mamt_jax.quantities import QUANTITIES
from mamt_jax.training.prepare import PreparedTogether
from mamt_jax.types import Algorithm, Game

EVENTS, PER_EVENT, AGENTS = 3, 2, 2


class FakePlan(NamedTuple):
    points: int = 7
    episodes_per_point: int = 10
    events_per_point: int = EVENTS
    steps_per_point: int = 25
    updates_per_event: int = PER_EVENT
    updates_per_point: int = EVENTS * PER_EVENT
    capacity: int = 100


class FakeSeeds(NamedTuple):
    learner: dict[str, jax.Array]
    keys: jax.Array
    empty: jax.Array


class FakeState(NamedTuple):
    seeds: FakeSeeds
    updates: jax.Array

    @property
    def learner(self) -> dict[str, jax.Array]:
        return self.seeds.learner


class FakeOutput(NamedTuple):
    metrics: dict[str, jax.Array]
    updated: jax.Array
    return_sum: jax.Array
    episodes: jax.Array
    undecided: jax.Array


class FakeTrainer(NamedTuple):
    plan: FakePlan
    init: Any
    epoch: Any
    evaluate: Any
    game: Game = Game((12, 12), (5, 5), None, ("left", "right"))
    quantities: Any = QUANTITIES
    seeds: tuple[int, ...] = (0, 1, 2)
    seed_batch: int = 1
    mesh: None = None
    close: Any = lambda: None
    compile_ahead: Any = lambda state: None


def config(**options: Any) -> TrainConfig:
    small = {"seeds": 3, "episodes": 70, "checkpoint_interval": 2, "updates_per_event": PER_EVENT}
    small |= {"evaluation_interval": 3}
    return make_config(**small | options)


def algorithm() -> Algorithm:
    """Acts by the sign of a learned weight; its state is ``{"w": [4]}``."""

    def greedy(state: Any, obs: jax.Array) -> jax.Array:
        return jnp.full(obs.shape[:2], (state["w"].sum() > 0).astype(jnp.int32))

    def act(state: Any, key: jax.Array, obs: jax.Array) -> jax.Array:
        return jax.random.randint(key, obs.shape[:2], 0, 5)

    def init(key: jax.Array) -> dict[str, jax.Array]:
        return {"w": jax.random.normal(key, (4,))}

    return Algorithm("fake", init, act, greedy, lambda *_: (None, {}))


def recipe(made: Algorithm, like: str = "maac") -> Recipe:
    """A recipe of this algorithm, whatever the settings, which are those of another."""
    return Recipe(lambda game, settings: made, registry.get(like).settings)


def prepared(trainer: Any) -> Any:
    """What stands in for ``prepare_together`` where one such trainer is to run."""
    return lambda configs, objects: PreparedTogether(trainer, [algorithm()], list(configs))


@cache
def trainer(points: int = 7, nan_at: tuple[int, ...] = ()) -> FakeTrainer:
    """A random walk per seed; updates begin in the second event.

    Args:
        points: Logging points of the run.
        nan_at: For each of the first seeds, the update whose critic loss is NaN; 0 for never.
    """
    first_bad = jnp.zeros(8, jnp.int32).at[: len(nan_at)].set(jnp.asarray(nan_at, jnp.int32))

    def init(seeds: jax.Array) -> FakeState:
        keys = jax.vmap(jax.random.key)(seeds)
        learner = {"w": jax.vmap(algorithm().init)(keys)["w"]}
        return FakeState(FakeSeeds(learner, keys, jnp.zeros((seeds.shape[0], 0))), jnp.int32(0))

    def epoch(state: FakeState) -> tuple[FakeState, FakeOutput]:
        seeds = state.seeds.keys.shape[0]
        split = jax.vmap(jax.random.split)(state.seeds.keys)
        weights = state.learner["w"] + jax.vmap(lambda key: jax.random.normal(key, (4,)))(
            split[:, 1]
        )
        updated = (jnp.arange(EVENTS) >= 1) | (state.updates > 0)
        number = state.updates + jnp.cumsum(jnp.repeat(updated, PER_EVENT)).reshape(
            EVENTS, PER_EVENT
        )
        loss = weights.sum(1)[:, None, None, None] + number[None, :, :, None] * jnp.ones(AGENTS)
        bad = number == first_bad[:seeds, None, None]
        metrics = {
            "critic_loss": jnp.where(bad[..., None], jnp.nan, loss),
            "critic_grad_norm": jnp.where(updated[None, :, None], loss[..., 0], jnp.nan),
        }
        output = FakeOutput(
            metrics,
            updated,
            weights[:, :EVENTS] * 5,
            jnp.full((seeds, EVENTS), 5, jnp.int32),
            jnp.zeros((seeds, EVENTS), bool),
        )
        carried = FakeSeeds({"w": weights}, split[:, 0], state.seeds.empty)
        next_state = FakeState(carried, state.updates + updated.sum() * PER_EVENT)
        return next_state, output

    def evaluate(learners: Any, keys: jax.Array) -> jax.Array:
        return learners["w"] + jax.vmap(lambda key: jax.random.normal(key, (4,)))(keys)

    plan, donated = FakePlan(points=points), jax.jit(epoch, donate_argnums=0)
    return FakeTrainer(plan, jax.jit(init), donated, jax.jit(evaluate))
