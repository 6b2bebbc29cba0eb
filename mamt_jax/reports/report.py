"""Tables of recorded runs: first and last returns over seeds, episodes to thresholds."""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path

import xarray as xr
from rich.console import Console
from rich.table import Table

from mamt_jax.analysis.returns import first_and_last, windows
from mamt_jax.analysis.statistics import WINDOW
from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError
from mamt_jax.experiments.references import References, references
from mamt_jax.files import user_path
from mamt_jax.reports.figures import Panel, draw_all
from mamt_jax.reports.sources import find_runs, open_run
from mamt_jax.reports.tasks import task
from mamt_jax.reports.texts import PASSING, SPREAD, passed, seeds, text
from mamt_jax.training.run_dir import disk_errors


def report(paths: list[Path], figures: Path | None = None) -> tuple[list[Table], list[Path]]:
    """Tables and figures of runs, finished or not; each task has tables of its own.

    Args:
        paths: Run directories, files written by ``mamt report --keep``, or folders of
            these.
        figures: Where the figures go; None for figures/ in the first path, or beside the first
            record.

    Raises:
        RunError: A path holds no run or no metrics.
        ConfigError: No path is given, or a run is named twice.
    """
    if not paths:
        raise ConfigError("report needs at least one run directory, record or folder of these.")
    paths = [user_path(path) for path in paths]
    runs = find_runs(paths)
    times = Counter(path.resolve() for path in runs)
    for path in runs:
        if times[path.resolve()] > 1:
            raise ConfigError(f"report was given {path} more than once.")
    panels = _panels(runs)
    tables = []
    for name, panel in panels.items():
        tables.append(returns_table(name, panel))
        if panel.references:
            tables.append(thresholds_table(name, panel))
    explained = set()
    for table in tables:  # once for all tables of a kind
        if table.caption in explained:
            table.caption = None
        explained.add(table.caption)
    first = paths[0]
    figures = (
        user_path(figures) if figures else (first.parent if first.is_file() else first) / "figures"
    )
    with disk_errors(figures, "write the figures", "the runs are untouched"):
        return tables, draw_all(panels, figures)


def _panels(paths: list[Path]) -> dict[str, Panel]:
    """Runs by task, opened and labelled."""
    opened = [(path, *open_run(path)) for path in paths]
    panels = {}
    for name in dict.fromkeys(task(config) for _, config, _ in opened):
        here = [each for each in opened if task(each[1]) == name]
        configs = [config for _, config, _ in here]
        labels = _labels([path for path, _, _ in here], configs)
        runs = {label: metrics for label, (_, _, metrics) in zip(labels, here, strict=True)}
        panels[name] = Panel(runs, merge_references(configs))
    return panels


def print_tables(*tables: Table) -> None:
    """Prints tables at their full width."""
    console = Console()
    # A pipe has no width of its own; a table cut to 80 columns would lose numbers.
    console = console if sys.stdout.isatty() else Console(width=200)
    console.print(*tables)


def merge_references(configs: list[TrainConfig]) -> References | None:
    """Levels of all runs together; None where one run's environment has none."""
    merged = None
    for config in configs:
        found = references(config)
        if found is None:
            return None
        merged = merged._replace(paper=merged.paper | found.paper) if merged else found
    return merged


def returns_table(task_name: str, panel: Panel) -> Table:
    """First and last returns, one row per run, then one per reference level."""
    runs, known = panel
    title = f"Return per episode on {task_name}: mean ± std over seeds [95% interval of the mean]"
    shown = Table(title=title, caption=SPREAD)
    shown.add_column("run", no_wrap=True)
    shown.add_column("seeds", justify="right")
    shown.add_column("episodes", justify="right")
    for share in ("first", "last"):
        shown.add_column(f"{share} {_sizes(runs, share)}", justify="right")
    for label, metrics in runs.items():
        early, late = first_and_last(metrics)
        episodes = f"{metrics.episodes.sum('event').mean().item():,.0f}"
        shown.add_row(label, seeds(metrics), episodes, text(early), text(late))
    if known:
        shown.add_section()
        paper = {f"paper's {name}": level for name, level in known.paper.items()}
        for name, level in (known.measured | paper).items():
            shown.add_row(name, "", "", "", f"{level:g}")
    return shown


def thresholds_table(task_name: str, panel: Panel) -> Table:
    """Episodes to each threshold, one row per run, of a panel with references."""
    runs, known = panel
    assert known is not None
    title = f"Episodes until the return on {task_name} ({WINDOW}-point mean) stays above a level"
    shown = Table(title=title, caption=PASSING, min_width=100)
    shown.add_column("run", no_wrap=True)
    shown.add_column("seeds", justify="right")
    for level in known.thresholds:
        shown.add_column(f"{level:g}", justify="right")
    for label, metrics in runs.items():
        times = (passed(metrics, level) for level in known.thresholds)
        shown.add_row(label, seeds(metrics), *times)
    return shown


def _sizes(runs: dict[str, xr.Dataset], share: str) -> str:
    sizes = sorted({windows(metrics)[share == "last"] for metrics in runs.values()})
    return "/".join(f"{size:,}" for size in sizes)


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
