"""What on-policy algorithms learn from: whole rollouts, in order, each once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mamt_jax
from mamt_jax import envs
from mamt_jax.cli import main as cli
from mamt_jax.config import make_config
from mamt_jax.envs.base import EnvSpec
from mamt_jax.errors import ConfigError
from mamt_jax.training.rollout import Rollout
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.trainer import make_trainer
from mamt_jax.types import Algorithm, Batch, Transition
from tests.networks import quick
from tests.training import fakes

STEPS, ENVS, SEEDS = 4, 3, 2


def test_a_rollout_comes_back_whole_and_in_order() -> None:
    """Two rollouts one after another: the second replaces the first; moments are its own."""
    store = Rollout(STEPS, ENVS, EnvSpec("", 2, (1, 1), (3, 3), 5, agents_may_leave=True))
    state, rng = store.init(), np.random.default_rng(0)
    for rollout in range(2):
        rows = Transition(
            rng.normal(size=(STEPS, ENVS, 2, 1)).astype(np.float32),
            rng.integers(0, 3, (STEPS, ENVS, 2)),
            rng.normal(size=(STEPS, ENVS, 2)).astype(np.float32),
            rng.normal(size=(STEPS, ENVS, 2, 1)).astype(np.float32),
            *(rng.random((2, STEPS, ENVS, 2)) < 0.5),
            rng.random((STEPS, ENVS)) < 0.5,
        )
        for t in range(STEPS):
            new = jax.tree.map(lambda leaf, t=t: jnp.asarray(leaf[t]), rows)
            state = store.insert(state, new, jnp.int32((rollout * STEPS + t) * ENVS))
    batch = store.sample(state, jax.random.key(0), jnp.int32(0))
    jax.tree.map(np.testing.assert_array_equal, batch.sample, rows)
    assert rows.alive is not None
    for agent in range(2):
        there = rows.reward[..., agent][rows.alive[..., agent]]
        np.testing.assert_allclose(batch.reward_mean[agent], there.mean(), rtol=1e-5)
        np.testing.assert_allclose(batch.reward_std[agent], there.std(), rtol=1e-5)


def watching() -> Algorithm:
    """On-policy; counts its updates, acts by that count, and reports what a rollout looks like."""

    def act(state: jax.Array, key: jax.Array, obs: jax.Array) -> jax.Array:
        return jnp.full(obs.shape[:2], state % 5)

    def update(state: jax.Array, key: jax.Array, batch: Batch, count: jax.Array) -> Any:
        rows = batch.sample
        assert rows.finished is not None
        follows = jnp.all(rows.next_obs[:-1] == rows.obs[1:], axis=(2, 3))
        return state + 1, {
            "size": jnp.array(rows.obs.shape[:2]),
            "by the newest policy": jnp.all(rows.action == state % 5),
            "in order": jnp.all(follows | rows.finished[:-1]),
            "ends": jnp.sum(rows.finished),
            "count": count,
        }

    return Algorithm("watching", lambda key: jnp.int32(0), act, act_nothing, update)


def act_nothing(state: Any, obs: jax.Array) -> jax.Array:
    return jnp.zeros(obs.shape[:2], jnp.int32)


@pytest.mark.parametrize("env", ["spread", "pettingzoo"])
def test_every_rollout_is_one_update_of_what_the_newest_policies_did(env: str) -> None:
    """Native and hosted. 40 transitions of 3 environments are 14 steps: 42."""
    options = {"module": "tests.envs.parallel_games", "game": "matching"}
    environment = envs.make(env, **(options if env == "pettingzoo" else {}))
    length = environment.spec.episode_length
    config = make_config(
        algorithm="mappo",
        env=env,
        seeds=SEEDS,
        num_envs=ENVS,
        rollout_size=40,
        episodes=6 * 42 // length,
        env_workers=1,
    )
    trainer = make_trainer(config, environment, fakes.recipe(watching(), "mappo"))
    trainer = quick.trainer(trainer) if env == "spread" else trainer
    assert trainer.plan.collect == (14,) * trainer.plan.events_per_point
    assert trainer.plan.updates_per_event == 1
    state, ends, counts = trainer.init(jnp.arange(SEEDS)), 0, []
    for _ in range(trainer.plan.points):
        state, output = trainer.epoch(state)
        seen = output.metrics
        assert (np.asarray(seen["size"]) == (14, ENVS)).all() and np.all(output.updated)
        assert np.all(seen["by the newest policy"]) and np.all(seen["in order"])
        counts += np.asarray(seen["count"])[0].ravel().tolist()
        ends += int(np.sum(seen["ends"]))
    assert counts == list(range(len(counts))) and len(counts) >= 6
    assert ends == SEEDS * ENVS * (len(counts) * 14 // length)
    assert int(state.updates) == len(counts) and int(state.transitions) == len(counts) * 42


def test_sizes_of_the_other_regime_are_refused_and_its_own_recorded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {"seeds": 1, "episodes": 200, "num_envs": 12}
    run = mamt_jax.train(
        "mappo", "toy_matching", out=tmp_path / "run", seeds=1, episodes=20, num_envs=4,
        rollout_size=40, ppo_epochs=1, hidden_size=8, attention_heads=2,
    )  # fmt: skip
    recorded = json.loads((tmp_path / "run/config.json").read_text())
    assert recorded["settings"]["on-policy"]["rollout_size"] == 40
    assert "replay" not in recorded["settings"]
    assert recorded["settings"]["learning"]["critic_weight_decay"] == 0.0
    assert RunDir(tmp_path / "run").read_config() == run.config
    line = ["train", "--resume", "--out", str(tmp_path / "run"), "--rollout-size", "80"]
    assert cli.main(line) == 1
    assert "rollout_size (run: 40, asked: 80)" in capsys.readouterr().err
    for name, value in (("batch_size", 64), ("buffer_size", 5000), ("updates_per_event", 2)):
        with pytest.raises(ConfigError, match=f"mappo has no {name}; its settings are hidden_size"):
            make_config(algorithm="mappo", env="spread", **sizes | {name: value})


def test_a_rollout_too_small_for_its_minibatches_is_refused() -> None:
    with pytest.raises(ConfigError, match="rollout_size must be at least 2 for each of 8 ppo_min"):
        make_config(algorithm="mappo", rollout_size=12, ppo_minibatches=8)
