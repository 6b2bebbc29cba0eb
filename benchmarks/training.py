"""Time of training as users run it: whole logging points of the compiled program."""

from __future__ import annotations

import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp

import envs
from mamt_jax.algorithms.registry import make
from mamt_jax.config import make_config
from mamt_jax.training.off_policy import make_trainer, seed_batch

WARM_UP = 5
"""Logging points before timing: the first fill the replay to a batch and compile."""


def update_time(
    algorithm: str, env: str, seeds: int = 8, repetitions: int = 5, **options: Any
) -> dict[str, Any]:
    """Milliseconds per update and seed, collection included, warm.

    Args:
      algorithm: registered algorithm.
      env: registered environment.
      seeds: trained together.
      repetitions: timed logging points.
      **options: any setting of the config.

    Returns:
      Median, minimum and maximum over the repetitions, what was run, and the first call's seconds.
    """
    settings = {"log_interval": 24, "episodes": 10_000} | options
    config = make_config(algorithm=algorithm, env=env, seeds=seeds, **settings)
    environment = envs.make(env, **config.env_options)
    spec = environment.spec
    learner = make(algorithm, spec.obs_sizes, spec.action_counts, config.hyper)
    trainer = make_trainer(config, environment, learner)
    begin = time.perf_counter()
    state = jax.block_until_ready(trainer.init(jnp.arange(seeds)))
    state, output = trainer.epoch(state)
    jax.block_until_ready(output)
    first = time.perf_counter() - begin
    for _ in range(WARM_UP):
        state, output = trainer.epoch(state)
    jax.block_until_ready(output)
    times = []
    for _ in range(repetitions):
        begin = time.perf_counter()
        state, output = trainer.epoch(state)
        jax.block_until_ready(output)
        times.append(time.perf_counter() - begin)
    scale = 1e3 / (trainer.plan.updates_per_point * seeds)
    return {
        "algorithm": algorithm,
        "env": env,
        "seeds": seeds,
        "seed_batch": seed_batch(config),
        "batch_size": config.batch_size,
        "hidden_size": config.hyper.hidden_size,
        "updates_timed_per_repetition": trainer.plan.updates_per_point,
        "repetitions": repetitions,
        "ms_per_update_and_seed": {
            "median": round(statistics.median(times) * scale, 2),
            "min": round(min(times) * scale, 2),
            "max": round(max(times) * scale, 2),
        },
        "first_call_seconds": round(first, 1),
    }
