"""Runs that never were, and their records."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xarray as xr

from mamt_jax.config import make_config
from mamt_jax.quantities import QUANTITIES
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.run_dir import RunDir

SIZES = {"agent": 3, "opponent": 3, "head": 2}


def write_record(file: Path, returns: dict[str, list[float]], **config: object) -> Path:
    """A record with the given returns at logging points of 600 episodes each."""
    last = {"mean": -36.0, "std": 1.0, "low": -37.0, "high": -35.0, "iqm": -36.5}
    points = len(next(iter(returns.values())))
    summary = {
        "config": make_config(seeds=len(returns), **config).to_dict(),
        "first_return": last,
        "last_return": last,
        "episode": [600 * (point + 1) for point in range(points)],
        "update": list(range(points)),
        "return_mean": returns,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(summary))
    return file


def made_up(names: set[str], seeds: int = 4, points: int = 30) -> xr.Dataset:
    """Returns that rise from −67 to about −37, and for every other quantity seed + 1 throughout."""
    recorder = Recorder(list(range(seeds)), updates_per_event=4)
    for point in range(points):
        metrics = {}
        for name in names:
            sizes = [SIZES[dim] for dim in QUANTITIES[name].dims]
            metrics[name] = np.broadcast_to(
                1.0 + np.arange(seeds).reshape(seeds, 1, 1, *[1] * len(sizes)),
                (seeds, 2, 4, *sizes),
            )
        level = -37 - 30 * np.exp(-point / 5) + np.arange(seeds) / 10
        returns = np.repeat(level[:, None], 2, axis=1)
        recorder.append(
            SimpleNamespace(
                metrics=metrics,
                updated=np.full(2, point > 0),
                return_sum=returns * 50,
                episodes=np.full((seeds, 2), 50),
                undecided=np.zeros((seeds, 2), bool),
            )
        )
    return recorder.to_dataset()


def diverging(metrics: xr.Dataset, updates: dict[int, int]) -> xr.Dataset:
    """The same, some of its seeds lost at an update, after which they are NaN."""
    at = [updates.get(seed, np.nan) for seed in metrics.seed.values.tolist()]
    spoilt = metrics.where(~np.isfinite(xr.DataArray(at, dims="seed")))
    return spoilt.assign(diverged_at_update=("seed", np.array(at)))


def write_run(path: Path, metrics: xr.Dataset, **config: object) -> Path:
    """A run directory with the given metrics and no checkpoints."""
    directory = RunDir(path)
    directory.create(make_config(seeds=metrics.sizes["seed"], **config))
    directory.write_metrics(metrics)
    return path
