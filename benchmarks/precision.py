"""What less precise matrix products do to the numbers that MAMT is made of.

C compares Q_i(a\\j) with Q_i(a): a small difference of numbers that are alike. A learner is trained
in full float32, then asked about the same steps with every precision. The reference is float32 on
the same device; on a CPU all precisions are that, and deviations are 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import jax
import jax.numpy as jnp

from mamt_jax.backend import Precision, chosen
from mamt_jax.config import make_config
from mamt_jax.training.prepare import make_env, make_recipe
from mamt_jax.training.programs import Program, as_written
from mamt_jax.training.trainer import make_trainer

ASKED = ("q", "advantage", "coordination", "nonstationarity", "probability")


def deviations(
    env: str = "spread3_mix", algorithm: str = "mamt", seeds: int = 8, points: int = 40, **more: Any
) -> list[dict[str, Any]]:
    """Of each precision, what it changes after some logging points of training.

    Args:
      env: a JAX environment.
      algorithm: one that learns from a replay and can be inspected.
      seeds: S.
      points: logging points of training before.
      **more: settings.

    Returns:
      Rows with, by quantity, the root mean square of the change over that of the quantity's own
      spread in the batch: 1 would be as large as what is to be told apart.
    """
    config = make_config(algorithm=algorithm, env=env, seeds=seeds, **more)
    recipe = make_recipe(config)
    trainer = make_trainer(config, make_env(config), recipe)
    state = trainer.init(jnp.arange(seeds, dtype=jnp.int32))
    for _ in range(points):
        state, _ = trainer.epoch(state)
    stored = state.seeds.store.storage
    size = min(trainer.plan.batch_size, points * trainer.plan.steps_per_point * config.num_envs)
    obs, action = stored.obs[:, :size].astype(jnp.float32), stored.action[:, :size]
    found = {}
    for precision in get_args(Precision):
        with as_written():
            made = replace(recipe, precision=precision)(trainer.game, config.settings)
            assert made.inspect is not None
            program = Program(jax.vmap(made.inspect, in_axes=(0, 0, 0, None)))
            said = program(state.learner, obs, action.astype(jnp.int32), None)
            found[precision] = {name: said[name] for name in ASKED if name in said}
    exact = found["float32"]
    return [
        {
            "env": env,
            "algorithm": algorithm,
            "precision": precision,
            "products": chosen().products[precision],
            "deviation": {name: _relative(values[name], exact[name]) for name in values},
        }
        for precision, values in found.items()
    ]


def _relative(values: jax.Array, exact: jax.Array) -> float:
    """RMS of the change over the standard deviation of what is compared, over steps."""
    change = jnp.sqrt(jnp.nanmean(jnp.square(values - exact)))
    spread = jnp.sqrt(jnp.nanmean(jnp.square(exact - jnp.nanmean(exact, axis=1, keepdims=True))))
    return float(change / jnp.maximum(spread, 1e-30))
