"""Training where agents leave a JAX environment: what is stored, and that it is learned."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms import registry
from mamt_jax.config import make_config
from mamt_jax.envs.toy import ToyElimination
from mamt_jax.training.prepare import make_algorithm
from mamt_jax.training.trainer import Trainer, make_trainer
from mamt_jax.types import Algorithm
from tests.networks import quick

ENVS = 8


def trained(algorithm: str, **options: Any) -> tuple[Trainer, Algorithm]:
    sizes: dict[str, Any] = {
        "env": "toy_elimination", "seeds": 1, "episodes": 400, "log_interval": 80, "num_envs": ENVS,
        "steps_per_update": 40, "updates_per_event": 8, "batch_size": 64, "hidden_size": 16,
        "attention_heads": 2, "discount": 0.5, "target_tau": 0.02, "old_policy_period": 20,
        "learning_rate": 1e-2,
    }  # fmt: skip
    config = make_config(algorithm=algorithm, **sizes | options)
    rule, env = make_algorithm(config)
    return quick.trainer(make_trainer(config, env, registry.get(config.algorithm))), rule


def rows_of(trainer: Trainer, state: Any) -> Any:
    """Stored transitions of the only seed, ``[T, E, ...]``."""
    stored = int(state.transitions)
    assert stored <= trainer.plan.capacity
    return jax.tree.map(
        lambda leaf: np.asarray(leaf)[0, :stored].reshape(-1, ENVS, *leaf.shape[2:]),
        state.seeds.store.storage,
    )


@pytest.mark.parametrize("algorithm", ["maac", pytest.param("mamt", marks=pytest.mark.slow)])
def test_stored_as_played_and_learned(algorithm: str) -> None:
    """From 0.5 by chance to the optimum of 5."""
    trainer, rule = trained(algorithm)
    state, outputs = trainer.init(jnp.arange(1)), []
    for _ in range(trainer.plan.points):
        state, output = trainer.epoch(state)
        outputs.append(output)
    rows, env = rows_of(trainer, state), ToyElimination()
    context = rows.obs.argmax(axis=-1).max(axis=-1)  # who is there sees it
    hit = rows.action == (context[..., None] + np.arange(2)) % 3
    alive = rows.alive
    assert 0.01 < (~alive).mean() < 0.9
    np.testing.assert_array_equal(rows.reward[alive], hit[alive])
    np.testing.assert_array_equal(rows.terminated[alive], ~hit[alive])
    assert not rows.reward[~alive].any() and not rows.obs[~alive].any()
    # Who missed is gone in the next step, unless that is another episode's, where all are there.
    stays = alive & hit
    same = (alive[1:] == stays[:-1]).all(axis=-1)
    assert (same | alive[1:].all(axis=-1)).all()
    over = ~stays.any(axis=-1)
    assert alive[1:][over[:-1]].all()
    returns = [o.return_sum.sum() / o.episodes.sum() for o in outputs]
    assert returns[-1] > 0.9 * env.optimal_return > 2 * returns[0], returns


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["mappo", "mamt_ppo"])
def test_learned_from_rollouts(algorithm: str) -> None:
    sizes = {"rollout_size": 80, "ppo_epochs": 8, "ppo_minibatches": 2, "ppo_clip": 0.4}
    trainer, _ = trained(algorithm, episodes=800, learning_rate=3e-3, **sizes | REPLAY)
    state, outputs = trainer.init(jnp.arange(1)), []
    for _ in range(trainer.plan.points):
        state, output = trainer.epoch(state)
        outputs.append(output)
    returns = [o.return_sum.sum() / o.episodes.sum() for o in outputs]
    assert returns[-1] > 0.9 * ToyElimination().optimal_return, returns


REPLAY = {"steps_per_update": 100, "updates_per_event": 4, "batch_size": 1024}
"""Defaults: an on-policy algorithm goes by none of these."""
