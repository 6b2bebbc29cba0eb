"""Tables of recorded runs: first and last returns, intervals over seeds, episodes to thresholds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import xarray as xr
from rich.table import Table

from experiments.figures import draw_all
from experiments.record import read_record
from experiments.references import References, references
from experiments.returns import first_and_last, windows
from mamt_jax.analysis.statistics import WINDOW, Summary, episodes_to_threshold, smooth
from mamt_jax.config import ConfigError, TrainConfig
from mamt_jax.training.run_dir import RunDir, disk_errors


def report(paths: list[Path], figures: Path | None = None) -> tuple[list[Table], list[Path]]:
    """Tables and figures of runs, finished or not.

    Args:
        paths: Run directories, or files written by :mod:`experiments.record`.
        figures: Where the figures go; None for figures/ in the first run directory, or beside the
            first record.

    Raises:
        RunError: A path holds no run or no metrics.
        ConfigError: No path is given.
    """
    if not paths:
        raise ConfigError("report needs at least one run directory.")
    twice = [str(path) for path in paths if paths.count(path) > 1]
    if twice:
        raise ConfigError(f"report was given {twice[0]} more than once.")
    opened = [read_record(path) if path.is_file() else _open(RunDir(path)) for path in paths]
    configs = [config for config, _ in opened]
    labels = _labels(paths, configs)
    runs = {label: metrics for label, (_, metrics) in zip(labels, opened, strict=True)}
    known = merge_references(configs)
    tables = [returns_table(runs, known)]
    if known:
        tables.append(thresholds_table(runs, known))
    first = paths[0]
    figures = figures or (first.parent if first.is_file() else first) / "figures"
    with disk_errors(figures, "write the figures", "the runs are untouched"):
        return tables, draw_all(runs, known, figures)


def _open(directory: RunDir) -> tuple[TrainConfig, xr.Dataset]:
    return directory.read_config(), directory.read_metrics()


def merge_references(configs: list[TrainConfig]) -> References | None:
    """Levels of all runs together; None where one run's environment has none."""
    found = [references(config) for config in configs]
    levels: dict[str, float] = {}
    for each in found:
        if each is None:
            return None
        levels |= each.levels
    return References(levels, found[0].thresholds) if found and found[0] else None


def returns_table(runs: Mapping[str, xr.Dataset], known: References | None) -> Table:
    """First and last returns, one row per run, then one per reference level."""
    shown = Table(title="Return per episode: mean ± std over seeds [95% interval of the mean]")
    shown.add_column("run", no_wrap=True)
    shown.add_column("seeds", justify="right")
    shown.add_column("episodes", justify="right")
    for share in ("first", "last"):
        shown.add_column(f"{share} {_sizes(runs, share)}", justify="right")
    for label, metrics in runs.items():
        early, late = first_and_last(metrics)
        episodes = f"{metrics.episodes.sum('event').mean().item():,.0f}"
        shown.add_row(label, str(metrics.sizes["seed"]), episodes, text(early), text(late))
    if known:
        shown.add_section()
        for name, level in known.levels.items():
            shown.add_row(name, "", "", "", f"{level:g}")
    return shown


def thresholds_table(runs: Mapping[str, xr.Dataset], known: References) -> Table:
    """Episodes to each threshold, one row per run."""
    title = (
        f"Episodes until the return ({WINDOW}-point mean) stays above: mean curve (seeds' range)"
    )
    shown = Table(title=title, width=100)
    shown.add_column("run", no_wrap=True)
    for level in known.thresholds:
        shown.add_column(f"{level:g}", justify="right")
    for label, metrics in runs.items():
        shown.add_row(label, *(_passed(metrics, level) for level in known.thresholds))
    return shown


def text(summary: Summary) -> str:
    """A summary as the tables show it."""
    return f"{summary.mean:.2f} ± {summary.std:.2f} [{summary.low:.2f}, {summary.high:.2f}]"


def _sizes(runs: Mapping[str, xr.Dataset], share: str) -> str:
    sizes = sorted({windows(metrics)[share == "last"] for metrics in runs.values()})
    return "/".join(f"{size:,}" for size in sizes)


def _passed(metrics: xr.Dataset, level: float) -> str:
    """Episodes until the smoothed mean over seeds stays above a level, and each seed's range."""
    smoothed = smooth(metrics.return_mean.values)
    episodes = metrics.episode_at_update.values
    of_mean = episodes_to_threshold(smoothed.mean(axis=0), episodes.mean(axis=0), level)
    if of_mean is None:
        return "never"
    each = [
        episodes_to_threshold(curve, count, level)
        for curve, count in zip(smoothed, episodes, strict=True)
    ]
    passed = [found for found in each if found is not None]
    if not passed:
        return f"{of_mean:,.0f}"
    return f"{of_mean:,.0f} ({np.min(passed):,.0f} to {np.max(passed):,.0f})"


def _labels(paths: list[Path], configs: list[TrainConfig]) -> list[str]:
    """Algorithm names, made unique by the directory where they are not."""
    names = [config.algorithm for config in configs]
    if len(set(names)) == len(names):
        return names
    return [f"{name} ({path})" for name, path in zip(names, paths, strict=True)]
