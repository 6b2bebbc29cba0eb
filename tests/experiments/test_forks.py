"""Runs forked with other trust regions."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import ConfigError, RunError
from mamt_jax.experiments import forks
from mamt_jax.training.checkpoint import Meta
from mamt_jax.training.prepare import prepare
from mamt_jax.training.run_dir import RunDir
from tests.training import fakes


def test_forks_differ_in_delta_alone(tmp_path: Path) -> None:
    """From a checkpoint to the table; the fork that is left alone is the run itself, δ held."""
    config = fakes.config(
        algorithm="mamt", env="toy_matching", seeds=2, episodes=80, num_envs=4, batch_size=8,
        hidden_size=4, attention_heads=2, delta_period=2**30, delta_exploration=0.0,
    )  # fmt: skip
    directory = RunDir(tmp_path / "run")
    directory.create(config)
    trainer = prepare(config).trainer
    state = trainer.init(jnp.arange(2))
    with pytest.raises(RunError, match="no checkpoint to fork yet"):
        forks.fork(directory, [1], 4)
    state, _ = trainer.epoch(state)
    done = int(state.updates)
    directory.save_checkpoint(state, Meta(points=1, updates=done, seconds=0.0))
    updates, found = forks.fork(directory, [1], 4)
    assert updates == done and found.names[1:3] == ("all ÷ 2", "all × 2")
    assert len(found.names) == 3 + 2 * trainer.game.num_agents
    assert all(rows.shape == (1, len(found.names), 2) for rows in found.measured.values())
    _, output = trainer.epoch(state)
    alone = forks._read(jax.device_get(output))
    for name, values in alone.items():
        np.testing.assert_allclose(found.measured[name][0, 0], values, rtol=1e-4, err_msg=name)
    kl = found.measured["ΣKL"][0]
    assert (kl[1] != kl[0]).all() and (kl[2] != kl[0]).all()
    assert forks.table(updates, found).row_count == len(found.names)


@pytest.mark.parametrize("horizons", [[], [0], [20, 10]])
def test_horizons_rise(tmp_path: Path, horizons: list[int]) -> None:
    with pytest.raises(ConfigError, match="horizons must be numbers of updates in rising order"):
        forks.fork(RunDir(tmp_path), horizons, 1)


def test_only_learned_regions_are_forked(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config(algorithm="maac", env="toy_matching", batch_size=8))
    with pytest.raises(ConfigError, match="learns no trust region"):
        forks.fork(directory, [1], 1)
