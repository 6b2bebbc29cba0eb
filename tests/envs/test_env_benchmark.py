"""The throughput benchmark measures what it says."""

from __future__ import annotations

import jax
import numpy as np

from benchmarks import environments
from mamt_jax import envs


def test_throughput_counts_finished_episodes() -> None:
    found = environments.throughput("spread", num_envs=8, steps=25, repetitions=2)
    assert found["steps_per_second"] > 0.0
    assert found["episodes"] == 8 * 3  # the first, compiling run plays as well
    assert -100.0 < found["mean_return"] < -40.0


def test_random_actions_are_uniform() -> None:
    vector_env = envs.VectorEnv(envs.make("spread"), 50_000)
    actions = np.asarray(environments.random_actions(jax.random.key(0), vector_env))
    assert actions.shape == (50_000, 2)
    shares = np.bincount(actions.ravel(), minlength=5) / actions.size
    np.testing.assert_allclose(shares, 0.2, atol=0.006)  # 4.7 standard errors
