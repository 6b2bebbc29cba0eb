"""The measurement of what δ does in one step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import ConfigError, RunError
from mamt_jax.algorithms import registry
from mamt_jax.experiments import probe
from mamt_jax.training.checkpoint import Meta
from mamt_jax.training.prepare import prepare
from mamt_jax.training.run_dir import RunDir
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import quick
from tests.training import fakes

OBS, ACTIONS = (3, 2, 3), (3, 3, 3)


def test_measured_slope_is_that_of_the_policy_step() -> None:
    """None while π is π_old and the penalty has no gradient; afterwards, downhill or up."""
    algorithm = registry.make("mamt", Game(OBS, ACTIONS), tiny.settings(coordination_threshold=0.0))
    batches = tuple(tiny.batch(OBS, ACTIONS, size=12, seed=seed) for seed in range(2))

    @quick.jit
    def measure(learner: Any) -> probe.Slopes:
        return probe.fork(algorithm, learner, batches, jax.random.key(1), 2)

    start = quick.jit(algorithm.init)(jax.random.key(0))
    still, moved = measure(start), measure(tiny.grown(algorithm))
    np.testing.assert_allclose(still.measured, 0, atol=1e-6)
    assert (np.abs(moved.measured) > 1e-6).all()
    assert still.delta.tolist() == [1, 1, 1]
    np.testing.assert_allclose(moved.weight.sum(), 3, rtol=1e-5)  # each row of C sums to one


@pytest.mark.parametrize(
    ("algorithm", "error"), [("maac", "learns no trust region"), ("mamt", "no checkpoint")]
)
def test_runs_that_cannot_be_probed(tmp_path: Path, algorithm: str, error: str) -> None:
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config(algorithm=algorithm, env="toy_matching", batch_size=8))
    with pytest.raises((ConfigError, RunError), match=error):
        probe.slopes(directory, 1)
    with pytest.raises(ConfigError, match="batches must be greater than 0"):
        probe.slopes(directory, 0)


def test_a_run_is_probed_at_its_checkpoint(tmp_path: Path) -> None:
    """From a checkpoint to the table, also of a finished run."""
    config = fakes.config(
        algorithm="mamt", env="toy_matching", seeds=2, episodes=80, num_envs=4, batch_size=8,
        hidden_size=4, attention_heads=2,
    )  # fmt: skip
    directory = RunDir(tmp_path / "run")
    directory.create(config)
    state = prepare(config).trainer.init(jnp.arange(2))
    learner = state.learner  # with policies that have moved, and a TRD-Net that knows δ
    region = learner.region
    region = region._replace(target_trd=jax.tree.map(lambda x: x + 0.05, region.target_trd))
    old = jax.tree.map(lambda x: 1.5 * x, learner.old_actor)
    seeds = state.seeds._replace(learner=learner._replace(region=region, old_actor=old))
    state = state._replace(seeds=seeds, transitions=jnp.int32(40), updates=jnp.int32(12))
    with pytest.raises(RunError, match="no checkpoint to probe yet"):
        probe.slopes(directory, 2)
    directory.save_checkpoint(state, Meta(points=1, updates=12, seconds=0.0))
    updates, found = probe.slopes(directory, 2)
    assert updates == 12
    assert all(np.isfinite(values).all() and values.shape == (2, 2, 2) for values in found)
    assert (found.value != 0).any() and (found.predicted != 0).any()  # also within a budget
    assert probe.table(updates, found).row_count == len(probe.Slopes._fields)
