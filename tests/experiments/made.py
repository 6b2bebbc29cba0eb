"""Recorded runs that never were, as tables and claims take them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import xarray as xr

from mamt_jax.analysis.seeds import over_seeds
from mamt_jax.config import make_config
from mamt_jax.experiments.budgets import planned
from mamt_jax.experiments.runs import Opened, Places, find
from tests.reports.records import made_up, write_record


def opened(variant: str, env: str, metrics: xr.Dataset, budget: str = "cpu") -> Opened:
    """A run with given metrics ``[seed, update, ...]``."""
    run = planned(variant, env, budget)
    config = make_config(**run.options()).settled()
    summary = {"versions": {"git_commit": "0123456789", "device_kind": "cpu"}}
    return Opened(run, Path("x.json"), config, over_seeds(metrics), summary, None)


def with_quantities(**values: Any) -> xr.Dataset:
    """Made-up metrics in which some quantities have these values, as numbers or arrays."""
    metrics = made_up(set(values))
    for name, value in values.items():
        metrics[name] = metrics[name] * 0 + value
    return metrics


def returning(levels: list[float]) -> xr.Dataset:
    """As many seeds, each at its level throughout; 3,000 episodes."""
    metrics = made_up(set(), seeds=len(levels))
    each = xr.DataArray(levels, dims="seed")
    metrics["return_mean"] = metrics.return_mean * 0 + each
    metrics["return_sum"] = metrics.episodes * each
    return metrics


def recorded(folder: Path, record: str, returns: dict[str, list[float]], **config: Any) -> Path:
    """A file with the record of such a run."""
    return write_record(folder / f"{record}.json", returns, **config)


def found(folder: Path, variant: str, env: str, budget: str = "cpu") -> Opened:
    """The record of a planned run in a folder."""
    one = find(planned(variant, env, budget), Places(folder / "out", (folder,)))
    assert one is not None
    return one


def described(file: Path, **more: Any) -> None:
    """Adds to a record what real ones have."""
    file.write_text(json.dumps(json.loads(file.read_text()) | more))
