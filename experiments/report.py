"""Tables of recorded runs: first and last returns, intervals over seeds, episodes to thresholds."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import xarray as xr
from rich.console import Console
from rich.table import Table

from experiments.figures import Panel, draw_all
from experiments.record import read_record
from experiments.references import References, references
from experiments.returns import first_and_last, windows
from mamt_jax.analysis.statistics import WINDOW, Summary, episodes_to_threshold, smooth
from mamt_jax.config import ConfigError, TrainConfig
from mamt_jax.errors import RunError
from mamt_jax.training.run_dir import RunDir, disk_errors


def report(paths: list[Path], figures: Path | None = None) -> tuple[list[Table], list[Path]]:
    """Tables and figures of runs, finished or not; each environment has tables of its own.

    Args:
        paths: Run directories, or files written by :mod:`experiments.record`.
        figures: Where the figures go; None for figures/ in the first run directory, or beside the
            first record.

    Raises:
        RunError: A path holds no run or no metrics.
        ConfigError: No path is given, or one twice.
    """
    if not paths:
        raise ConfigError("report needs at least one run directory.")
    for path, times in Counter(path.resolve() for path in paths).items():
        if times > 1:
            raise ConfigError(f"report was given {path} more than once.")
    opened = [open_run(path) for path in paths]
    panels = {}
    for env in dict.fromkeys(config.env for config, _ in opened):
        here = [index for index, (config, _) in enumerate(opened) if config.env == env]
        configs = [opened[index][0] for index in here]
        labels = _labels([paths[index] for index in here], configs)
        runs = {label: opened[index][1] for label, index in zip(labels, here, strict=True)}
        panels[env] = Panel(runs, merge_references(configs))
    tables = []
    for env, panel in panels.items():
        tables.append(returns_table(env, panel))
        if panel.references:
            tables.append(thresholds_table(env, panel))
    first = paths[0]
    figures = figures or (first.parent if first.is_file() else first) / "figures"
    with disk_errors(figures, "write the figures", "the runs are untouched"):
        return tables, draw_all(panels, figures)


def print_tables(*tables: Table) -> None:
    """Prints tables at their full width."""
    console = Console()
    # A pipe has no width of its own; a table cut to 80 columns would lose numbers.
    console = console if console.is_terminal else Console(width=200)
    console.print(*tables)


def open_run(path: Path) -> tuple[TrainConfig, xr.Dataset]:
    """Config and metrics of a run directory, or of a file by :mod:`experiments.record`.

    Raises:
        RunError: There is neither, or it cannot be read.
    """
    if path.is_file():
        return read_record(path)
    if not path.exists():
        raise RunError(f"{path} does not exist.")
    directory = RunDir(path)
    return directory.read_config(), directory.read_metrics()


def merge_references(configs: list[TrainConfig]) -> References | None:
    """Levels of all runs together; None where one run's environment has none."""
    merged = None
    for config in configs:
        found = references(config)
        if found is None:
            return None
        merged = merged._replace(paper=merged.paper | found.paper) if merged else found
    return merged


def returns_table(env: str, panel: Panel) -> Table:
    """First and last returns, one row per run, then one per reference level."""
    runs, known = panel
    title = f"Return per episode on {env}: mean ± std over seeds [95% interval of the mean]"
    shown = Table(title=title)
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
        paper = {f"paper's {name}": level for name, level in known.paper.items()}
        for name, level in (known.measured | paper).items():
            shown.add_row(name, "", "", "", f"{level:g}")
    return shown


def thresholds_table(env: str, panel: Panel) -> Table:
    """Episodes to each threshold, one row per run, of a panel with references."""
    runs, known = panel
    assert known is not None
    title = (
        f"Episodes until the return on {env} ({WINDOW}-point mean) stays above: "
        "mean curve (seeds' range)"
    )
    shown = Table(title=title, width=100)
    shown.add_column("run", no_wrap=True)
    for level in known.thresholds:
        shown.add_column(f"{level:g}", justify="right")
    for label, metrics in runs.items():
        shown.add_row(label, *(passed(metrics, level) for level in known.thresholds))
    return shown


def text(summary: Summary) -> str:
    """A summary as the tables show it."""
    return f"{summary.mean:.2f} ± {summary.std:.2f} [{summary.low:.2f}, {summary.high:.2f}]"


def _sizes(runs: dict[str, xr.Dataset], share: str) -> str:
    sizes = sorted({windows(metrics)[share == "last"] for metrics in runs.values()})
    return "/".join(f"{size:,}" for size in sizes)


def passed(metrics: xr.Dataset, level: float) -> str:
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
    reached = [found for found in each if found is not None]
    if not reached:
        return f"{of_mean:,.0f}"
    return f"{of_mean:,.0f} ({np.min(reached):,.0f} to {np.max(reached):,.0f})"


def _labels(paths: list[Path], configs: list[TrainConfig]) -> list[str]:
    """Algorithm names; where several runs share one, with what tells their paths apart."""
    names = [config.algorithm for config in configs]
    labels = []
    for name, path in zip(names, paths, strict=True):
        same = [other.resolve() for other, its in zip(paths, names, strict=True) if its == name]
        common = os.path.commonpath([other.parent for other in same])
        own = path.resolve().relative_to(common)
        labels.append(name if len(same) == 1 else f"{name} ({own})")
    return labels
