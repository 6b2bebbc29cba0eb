"""What a wider trust region does in one step: measured, next to what Eq. 8 believes.

    python -m mamt_jax.experiments.probe runs/mix --batches 16

Forks a run of a learned trust region at its newest checkpoint: one update is done with
each log δ_j a little larger and a little smaller, on the same batch with the same random numbers,
and D_i,ns is measured on another batch afterwards. Beside the measured slope ∂ΣD/∂log δ_j stand the
two terms of Eq. 8's gradient as the run computes them.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from mamt_jax.analysis.seeds import diverged
from mamt_jax.cli.guard import guarded
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.files import user_path
from mamt_jax.settings import LearnedRegion
from mamt_jax.settings.fields import check
from mamt_jax.training import checkpoint
from mamt_jax.training.learning import RunState
from mamt_jax.training.prepare import Prepared, prepare
from mamt_jax.training.programs import Program
from mamt_jax.training.resume import state_shapes
from mamt_jax.training.run_dir import RunDir
from mamt_jax.types import Algorithm, Batch

HALF_STEP = 0.5
"""Half the distance in log δ between the two updates that are compared."""


class Slopes(NamedTuple):
    """One column per agent j, ``[S, batches, n]`` each."""

    measured: jax.Array
    """∂ΣD/∂log δ_j after one update."""
    predicted: jax.Array
    """TRD-Net's ∂ΣKL/∂log δ_j."""
    value: jax.Array
    """∂V/∂log δ_j, value term of Eq. 8."""
    delta: jax.Array
    """δ_j."""
    weight: jax.Array
    """Σ_i C_ij: the weight of agent j in ΣD."""


def newest(directory: RunDir, what: str) -> tuple[Prepared, RunState]:
    """A run of a learned trust region at its newest checkpoint, which reports Eq. 8's terms.

    Args:
        directory: Of the run.
        what: Is done with it, for the errors.

    Raises:
        ConfigError: The run's algorithm learns no trust region.
        RunError: There is no run, or no checkpoint of it yet.
    """
    config = directory.read_config()
    if LearnedRegion not in config.settings:
        raise ConfigError(f"{config.algorithm} learns no trust region; {what} a run of mamt.")
    # Within a budget only these shares ask for the terms.
    config = replace(config, settings=config.settings.replace({"delta_shares": "trd_net"}))
    prepared = prepare(config)
    like = state_shapes(prepared.trainer, config.seeds)
    state = directory.newest_intact(lambda step: checkpoint.restore(step, like))
    if state is None:
        raise RunError(f"{directory.path} has no checkpoint to {what} yet.")
    return prepared, state


def slopes(directory: RunDir, batches: int) -> tuple[int, Slopes]:
    """Measures at the newest checkpoint of a run, for the seeds that have not diverged.

    Returns:
        Updates done, and the slopes.

    Raises:
        ConfigError: The run's algorithm learns no trust region, or no batch is asked for.
        RunError: There is no run, or no checkpoint of it yet.
    """
    check(batches > 0, "batches", batches, "greater than 0")
    (trainer, algorithm, config), state = newest(directory, "probe")
    period = config.settings[LearnedRegion].delta_period

    def one(inputs: tuple[Any, jax.Array]) -> Slopes:
        seed, key = inputs
        first, second, update = jax.random.split(key, 3)
        here = trainer.store.sample(seed.store, first, state.transitions)
        there = trainer.store.sample(seed.store, second, state.transitions)
        return fork(algorithm, seed.learner, (here, there), update, period)

    def all_batches(seed: Any) -> Slopes:
        keys = jax.random.split(jax.random.key(0), batches)
        return jax.lax.map(lambda key: one((seed, key)), keys)

    measure = Program(lambda seeds: jax.lax.map(all_batches, seeds))
    lost = diverged(directory.read_metrics()) if directory.metrics.exists() else {}
    ids = range(config.seed, config.seed + config.seeds)
    kept = np.array([index for index, seed in enumerate(ids) if seed not in lost], int)
    found = jax.device_get(measure(jax.tree.map(lambda leaf: leaf[kept], state.seeds)))
    return int(state.updates), found


def fork(
    algorithm: Algorithm,
    learner: Any,
    batches: tuple[Batch, Batch],
    key: jax.Array,
    delta_period: int,
) -> Slopes:
    """Slopes of one learner, from an update on the first batch and a look at the second.

    Args:
        algorithm: An algorithm whose learner has ``region.log_delta``.
        learner: Its state, for one seed.
        batches: Where the policies step, and where D is measured.
        key: Randomness that all forks share.
        delta_period: Updates per slow step on δ, so that the terms of Eq. 8 are computed here.
    """
    here, there = batches
    due = jnp.int32(delta_period - 1)
    region = learner.region

    def drift_after(shift: jax.Array) -> tuple[jax.Array, Any]:
        moved = region._replace(log_delta=region.log_delta + shift)
        stepped, metrics = algorithm.update(learner._replace(region=moved), key, here, due)
        _, after = algorithm.update(stepped, key, there, due)
        return jnp.sum(after["nonstationarity"]), metrics

    steps = HALF_STEP * jnp.eye(region.log_delta.shape[0])
    shifts = jnp.concatenate((steps, -steps, jnp.zeros((1, len(steps)))))
    drift, metrics = jax.lax.map(drift_after, shifts)
    wider, narrower = drift[: len(steps)], drift[len(steps) : -1]
    metrics = jax.tree.map(lambda leaf: leaf[-1], metrics)
    return Slopes(
        measured=(wider - narrower) / (2 * HALF_STEP),
        predicted=metrics["delta_grad_kl"],
        value=metrics["delta_grad_value"],
        delta=jnp.exp(region.log_delta),
        weight=jnp.sum(metrics["coordination_mean"], axis=0),
    )


def table(updates: int, found: Slopes) -> Table:
    """Means over seeds and batches, one column per agent; in brackets each seed's mean."""
    shown = Table(title=f"One step after {updates:,} updates: mean (each seed)")
    shown.add_column("", no_wrap=True)
    for agent in range(found.delta.shape[-1]):
        shown.add_column(f"agent {agent}", justify="right")
    rows = {
        "δ": found.delta,
        "Σ_i C_ij": found.weight,
        "∂ΣD/∂log δ, measured": found.measured,
        "∂ΣKL/∂log δ, TRD-Net": found.predicted,
        "∂V/∂log δ": found.value,
    }
    for name, values in rows.items():
        by_seed = np.asarray(values, np.float64).mean(axis=1)
        each = (", ".join(f"{value:.2g}" for value in column) for column in by_seed.T)
        cells = (f"{mean:.3g} ({seeds})" for mean, seeds in zip(by_seed.mean(0), each, strict=True))
        shown.add_row(name, *cells)
    return shown


def main() -> int:
    """Entry point of ``python -m mamt_jax.experiments.probe``."""
    parser = argparse.ArgumentParser(description="Measures what δ does in one update of a run.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--batches", type=int, default=16)
    chosen = parser.parse_args()

    def show() -> None:
        Console(width=140).print(table(*slopes(RunDir(user_path(chosen.run)), chosen.batches)))

    return guarded(show)


if __name__ == "__main__":
    raise SystemExit(main())
