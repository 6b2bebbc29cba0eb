"""Tables of recorded runs: first and last returns over seeds, episodes to thresholds."""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Sequence
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
from mamt_jax.reports.sources import find_runs, open_run, open_seeds
from mamt_jax.reports.tasks import task
from mamt_jax.reports.texts import PASSING, SPREAD, passed, seeds, text
from mamt_jax.training.run_dir import RunDir, disk_errors


def report(
    paths: list[Path], figures: Path | None = None, per_seed: bool = False
) -> tuple[list[Table], list[Path]]:
    """Tables and figures of runs, finished or not; each task has tables of its own.

    Args:
        paths: As for :func:`open_panels`.
        figures: Where the figures go, see :func:`figures_folder`.
        per_seed: A line for each seed in the place of bands.

    Raises:
        RunError: A path holds no run or no metrics, or the figures cannot be written.
        ConfigError: No path is given, or a run is named twice.
    """
    folder, panels = figures_folder(figures), open_panels(paths, per_seed)
    return tables(panels), draw(panels, folder)


def open_panels(paths: list[Path], per_seed: bool = False) -> dict[str, Panel]:
    """Runs by task, opened and labelled.

    Args:
        paths: Run directories, files written by ``mamt report --keep``, or folders of these, at
            any depth.
        per_seed: Also opens what every seed has; of a record that is the returns alone.

    Raises:
        RunError: A path holds no run or no metrics.
        ConfigError: No path is given, or a run is named twice.
    """
    if not paths:
        raise ConfigError("Name at least one run directory, record or folder of these.")
    runs = find_runs([user_path(path) for path in paths])
    times = Counter(path.resolve() for path in runs)
    for path in runs:
        if times[path.resolve()] > 1:
            raise ConfigError(f"{path} is given more than once.")
    opened = [(path, *open_run(path)) for path in runs]
    panels = {}
    for name in dict.fromkeys(task(config) for _, config, _ in opened):
        here = [each for each in opened if task(each[1]) == name]
        configs = [config for _, config, _ in here]
        labels = _labels([path for path, _, _ in here], configs)
        labelled = {label: metrics for label, (_, _, metrics) in zip(labels, here, strict=True)}
        seeds = {}
        if per_seed:
            seeds = {
                label: open_seeds(path) for label, (path, _, _) in zip(labels, here, strict=True)
            }
        panels[name] = Panel(labelled, merge_references(configs), seeds)
    return panels


def tables(panels: dict[str, Panel]) -> list[Table]:
    """All tables; what each kind shows is explained once."""
    found = []
    for name, panel in panels.items():
        found.append(returns_table(name, panel))
        if panel.references:
            found.append(thresholds_table(name, panel))
    explained = set()
    for table in found:
        if table.caption in explained:
            table.caption = None
        explained.add(table.caption)
    return found


def draw(
    panels: dict[str, Panel], folder: Path, quantities: Sequence[str] = (), kind: str = "png"
) -> list[Path]:
    """As :func:`~mamt_jax.reports.figures.draw_all`; raises RunError where the disk refuses."""
    with disk_errors(folder, "write the figures", "the runs are untouched"):
        return draw_all(panels, folder, quantities, kind)


def figures_folder(asked: Path | None = None) -> Path:
    """Where figures go: as asked, else ``figures`` in the working directory.

    Nothing is written into a run unless it is asked for: whoever is in one finds them beside it.
    """
    if asked is not None:
        return user_path(asked)
    here = user_path(".")
    runs = [each for each in (here, *here.parents) if RunDir(each).holds_run()]
    return (runs[-1].parent if runs else here) / "figures"


def print_tables(*shown: Table) -> None:
    """Prints tables at their full width, names as they are, whatever brackets are in them."""
    # A pipe has no width of its own; a table cut to 80 columns would lose numbers.
    width = None if sys.stdout.isatty() else 200
    console = Console(width=width, markup=False, emoji=False)
    console.print(*shown)


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
    runs, known, _ = panel
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
    runs, known, _ = panel
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
