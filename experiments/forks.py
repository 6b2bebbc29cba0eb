"""What a wider trust region does in the long run: one run, forked with other δ.

    python -m mamt_jax.experiments.forks runs/mix --horizons 120 480 1980

Goes on from the newest checkpoint of a run of a learned trust region, several times side by side:
with δ as it is, with all δ halved and doubled, and with one agent's. δ then stays where it was put,
and all forks of a seed draw the same random numbers. What comes of it is measured after each
horizon: differences to the fork whose δ was left alone, with standard errors over seeds. It is what
Eq. 8's two terms estimate; :mod:`mamt_jax.experiments.probe` shows those terms, and one step.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from mamt_jax.cli.guard import guarded
from mamt_jax.config import TrainConfig
from mamt_jax.experiments.probe import newest
from mamt_jax.files import user_path
from mamt_jax.settings.fields import check
from mamt_jax.training.learning import EpochOutput, RunState
from mamt_jax.training.prepare import prepare
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.trainer import Trainer

FACTOR = 2.0
"""By which δ is multiplied and divided."""
STILL = {"delta_period": 2**30, "delta_exploration": 0.0}
"""Settings under which δ stays as it is and is felt as it is."""


class Forks(NamedTuple):
    """What was measured: one row per fork, ``[H, F, S]`` each, H horizons."""

    names: tuple[str, ...]
    """Of the forks; the first has its δ left alone."""
    horizons: tuple[int, ...]
    """Updates from the checkpoint to each measurement."""
    measured: dict[str, np.ndarray]
    """By what it is."""


def fork(directory: RunDir, horizons: Sequence[int], episodes: int) -> tuple[int, Forks]:
    """Forks a run at its newest checkpoint.

    Args:
        directory: Of the run; nothing is written into it.
        horizons: Updates until measurements, rounded up to logging points, in rising order.
        episodes: Greedy episodes of each fork and seed at each horizon.

    Returns:
        Updates before the forks, and what was measured.

    Raises:
        ConfigError: The run's algorithm learns no trust region, or the horizons do not rise.
        RunError: There is no run, or no checkpoint of it yet.
    """
    rising = list(horizons) == sorted(set(horizons)) and min(horizons, default=0) > 0
    check(rising, "horizons", list(horizons), "numbers of updates in rising order")
    (trainer, _, config), state = newest(directory, "fork")
    names, shifts = _variants(trainer.game.num_agents)
    side_by_side = _beside(config, len(names), episodes)
    state = _forked(state, shifts)
    return int(state.updates), Forks(names, *_measure(side_by_side, state, horizons, len(names)))


def _variants(num_agents: int) -> tuple[tuple[str, ...], np.ndarray]:
    """Names of the forks, and what each adds to log δ ``[F, n]``."""
    whose = [
        ("all", np.ones(num_agents)),
        *((f"δ_{i}", row) for i, row in enumerate(np.eye(num_agents))),
    ]
    names, shifts = ["as it is"], [np.zeros(num_agents)]
    for name, row in whose:
        names += [f"{name} ÷ {FACTOR:g}", f"{name} × {FACTOR:g}"]
        shifts += [-np.log(FACTOR) * row, np.log(FACTOR) * row]
    return tuple(names), np.stack(shifts).astype(np.float32)


def _beside(config: TrainConfig, forks: int, episodes: int) -> Trainer:
    """Training of all forks of all seeds, with δ held."""
    execution = replace(config.execution, evaluation_episodes=episodes)
    settings = config.settings.replace(STILL)
    many = replace(config, seeds=config.seeds * forks, execution=execution, settings=settings)
    return prepare(many).trainer


def _forked(state: RunState, shifts: np.ndarray) -> RunState:
    """The state with a row for each fork of each seed, fork-major."""
    forks = len(shifts)
    seeds = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * forks), state.seeds)
    region = seeds.learner.region
    moved = region.log_delta + np.repeat(shifts, len(region.log_delta) // forks, axis=0)
    region = region._replace(log_delta=moved, offset=jnp.zeros_like(region.offset))
    return state._replace(seeds=seeds._replace(learner=seeds.learner._replace(region=region)))


def _measure(
    trainer: Trainer, state: Any, horizons: Sequence[int], forks: int
) -> tuple[tuple[int, ...], dict[str, np.ndarray]]:
    start, reached, found = int(state.updates), [], []
    for horizon in horizons:
        output = None
        while int(state.updates) - start < horizon:
            state, output = trainer.epoch(state)
        assert output is not None
        keys = jax.random.split(jax.random.key(horizon), len(trainer.seeds) // forks)
        greedy = trainer.evaluate(state.learner, jnp.concatenate([keys] * forks))
        measured = _read(jax.device_get(output)) | {
            "greedy return": np.asarray(greedy).mean(axis=1)
        }
        reached.append(int(state.updates) - start)
        found.append({name: row.reshape(forks, -1) for name, row in measured.items()})
    return tuple(reached), {name: np.stack([each[name] for each in found]) for name in found[0]}


def _read(output: EpochOutput) -> dict[str, np.ndarray]:
    """What a logging point says of each row: sums over agents, means over updates."""
    sums = {"Q": "q_mean", "ΣD": "nonstationarity", "ΣKL": "local_kl", "entropy": "entropy"}
    measured = {"return": np.sum(output.return_sum, axis=1) / np.sum(output.episodes, axis=1)}
    for name, metric in sums.items():
        values = np.asarray(output.metrics[metric], np.float64).sum(axis=-1)
        measured[name] = values.mean(axis=tuple(range(1, values.ndim)))
    return measured


def table(updates: int, forks: Forks) -> Table:
    """Differences to the fork that was left alone, mean ± standard error over seeds."""
    shown = Table(title=f"Forks after {updates:,} updates: difference to δ as it is")
    for column in ("updates later", "fork", *forks.measured):
        shown.add_column(column, justify="right")
    for at, horizon in enumerate(forks.horizons):
        for index, name in enumerate(forks.names):
            cells = [_cell(values[at], index) for values in forks.measured.values()]
            shown.add_row(f"{horizon:,}", name, *cells)
    return shown


def _cell(values: np.ndarray, index: int) -> str:
    """Of the first fork its mean, of the others how they differ."""
    apart = values[index] - (values[0] if index else 0.0)
    error = f" ± {np.std(apart, ddof=1) / np.sqrt(len(apart)):.2g}" if len(apart) > 1 else ""
    return f"{np.mean(apart):{'+' if index else ''}.3g}{error}"


def main() -> int:
    """Entry point of ``python -m mamt_jax.experiments.forks``."""
    parser = argparse.ArgumentParser(description="Forks a run with other trust regions.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--horizons", type=int, nargs="+", default=[120, 480, 1980])
    parser.add_argument("--episodes", type=int, default=200)
    chosen = parser.parse_args()

    def show() -> None:
        found = fork(RunDir(user_path(chosen.run)), chosen.horizons, chosen.episodes)
        Console(width=160).print(table(*found))

    return guarded(show)


if __name__ == "__main__":
    raise SystemExit(main())
