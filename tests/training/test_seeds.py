"""Seeds are real: together they are what each is alone, and no two are alike."""

from __future__ import annotations

from functools import cache
from itertools import combinations
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.config import make_config
from mamt_jax.training.trainer import Trainer, make_trainer
from tests.networks import quick

SEEDS = 4


@cache
def make(count: int, batch: int) -> Trainer:
    env = envs.make("spread")
    config = make_config(
        algorithm="mamt", env="spread", seeds=count, seed_batch=batch, episodes=8, log_interval=4,
        num_envs=4, steps_per_update=25, updates_per_event=2, batch_size=16, hidden_size=8,
        attention_heads=2, old_policy_period=5,
    )  # fmt: skip
    return quick.trainer(make_trainer(config, env, registry.get("mamt")))


@cache
def train(batch: int, *seeds: int) -> tuple[Any, Any]:
    """State and metrics after two logging points, 16 updates."""
    trainer = make(len(seeds), batch)
    state, outputs = trainer.init(jnp.asarray(seeds)), []
    for _ in range(2):
        state, output = trainer.epoch(state)
        outputs.append(quick.plain(output))
    assert int(state.updates) == 16
    return quick.plain(state.seeds), outputs


@pytest.mark.parametrize(
    "batch", [4, pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_seeds_together_are_the_seeds_alone(batch: int) -> None:
    """Parameters, optimisers, replay, environments and metrics. Observed: within 3e-7."""
    together = train(batch, *range(SEEDS))
    for seed in range(SEEDS):
        alone = train(1, seed)
        for (path, many), one in zip(
            jax.tree_util.tree_leaves_with_path(together[0]),
            jax.tree.leaves(alone[0]),
            strict=True,
        ):
            name = jax.tree_util.keystr(path)
            np.testing.assert_allclose(many[seed], one[0], rtol=1e-5, atol=1e-5, err_msg=name)
        for many, one in zip(together[1], alone[1], strict=True):
            for name, values in many.metrics.items():
                np.testing.assert_allclose(
                    values[seed], one.metrics[name][0], rtol=1e-4, atol=1e-5, err_msg=name
                )
            np.testing.assert_array_equal(many.episodes[seed], one.episodes[0])
            np.testing.assert_allclose(many.return_sum[seed], one.return_sum[0], rtol=1e-5)


def test_any_two_seeds_differ_from_initialisation_on() -> None:
    """In every random parameter, in the first observations, in their keys, and ever after."""
    first = quick.plain(make(SEEDS, 4).init(jnp.arange(SEEDS)).seeds)
    last, _ = train(4, *range(SEEDS))
    for one, two in combinations(range(SEEDS), 2):
        for path, leaf in jax.tree_util.tree_leaves_with_path(first.learner.actor.params):
            assert (leaf[one] != leaf[two]).mean() > 0.99, jax.tree_util.keystr(path)
        critics = jax.tree.leaves(first.learner.critic.params)
        assert all((leaf[one] != leaf[two]).mean() > 0.99 for leaf in critics)
        assert (first.env.obs[one, :, :, 2:] != first.env.obs[two, :, :, 2:]).any(axis=(1, 2)).all()
        assert (first.key[one] != first.key[two]).any()
        assert (last.store.storage.action[one] != last.store.storage.action[two]).any()
        assert (last.env.obs[one] != last.env.obs[two]).any()


def test_a_seeds_name_is_what_counts_not_its_place() -> None:
    """Seed 3 alone, or fourth of four, starts from the same parameters; so does a run from 3 on."""
    four, two = (
        quick.plain(make(len(ids), batch).init(jnp.asarray(ids)).seeds.learner)
        for ids, batch in ((range(4), 4), ((3,), 1))
    )
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[3], b[0]), four, two)
