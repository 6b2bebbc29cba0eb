"""Figures of recorded runs, as PNG files.

Every curve is a mean over seeds, shaded by their sample standard deviation where there are several.
Metrics are laid out as :func:`~mamt_jax.analysis.seeds.over_seeds` does it: returns are smoothed by
seed, of other quantities mean and deviation are, and so run directories and records look the same.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from mamt_jax.analysis.statistics import WINDOW, lognormal_moments, smooth
from mamt_jax.experiments.references import References
from mamt_jax.reports.plots import Axes, Figure, LogLocator, default_style

# Okabe and Ito's palette, readable with any colour vision, and three of Paul Tol's, so that the
# paper's ten algorithms have a colour each. Dashes help to tell them apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
COLOURS += ["#882255", "#999933", "#332288"]
DASHES = ("-", "--", ":", "-.")
_GREYS = {"random": "#999999", "greedy": "#444444"}
_SIZE = (7.2, 4.0)
_DPI = 150
_MAX_COLUMNS = 4  # of panels
_MAX_PAIRED = 4  # agents whose pairs are drawn as curves
_MAX_LEVELS = 3  # of the paper, drawn as lines; more would hide the curves
_MAX_BANDS = 5  # at full strength; more would hide the curves, too

PER_AGENT = {
    "delta": ("delta.png", "Local trust regions", "δᵢ (nat)"),
    "local_kl": ("local_kl.png", "Local KL to the old policy", "KL(πᵢ ‖ πᵢ,old) (nat)"),
    "nonstationarity": ("nonstationarity.png", "Modelled non-stationarity", "Dᵢ,ns (nat)"),
}
"""Quantities with one curve per agent: file, title, label of the axis."""


class Panel(NamedTuple):
    """Runs on one task, see :func:`mamt_jax.reports.tasks.task`."""

    runs: dict[str, xr.Dataset]
    """Metrics by label; runs of one label look alike in every panel."""
    references: References | None
    """Levels to compare returns with, if there are any for this task."""


@default_style()
def draw_all(panels: Mapping[str, Panel], directory: Path) -> list[Path]:
    """Draws every figure the recorded quantities allow.

    Args:
        panels: By task, one panel each in the learning curve; elsewhere one for every run.
        directory: Where the PNG files go; created if missing.

    Returns:
        The files written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = [_save(learning_curve(panels), directory / "learning_curve.png")]
    runs = {
        label if len(panels) == 1 else f"{label}, {name}": metrics
        for name, panel in panels.items()
        for label, metrics in panel.runs.items()
    }
    for name, (file, title, label) in PER_AGENT.items():
        having = {run: metrics for run, metrics in runs.items() if name in metrics}
        if having:
            figure = _per_run(having, title, label, sharey=len(panels) == 1)
            for axes, metrics in zip(figure.axes, having.values(), strict=True):
                _agents(axes, metrics, name, logarithmic=name == "delta")
            written.append(_save(_finish(figure), directory / file))
    having = {run: metrics for run, metrics in runs.items() if "coordination_mean" in metrics}
    if having:
        few = all(metrics.sizes["agent"] <= _MAX_PAIRED for metrics in having.values())
        figure = _coordination_curves(having) if few else _coordination_matrices(having)
        written.append(_save(figure, directory / "coordination.png"))
    return written


def learning_curve(panels: Mapping[str, Panel]) -> Figure:
    """Return against episodes, one curve per run, with the reference levels as lines."""
    titles = [f"{name}, {_seeds(panel.runs)}" for name, panel in panels.items()]
    figure = _panels(titles, "return per episode (mean over agents)", sharey=False)
    labels = list(dict.fromkeys(label for panel in panels.values() for label in panel.runs))
    for axes, panel in zip(figure.axes, panels.values(), strict=True):
        for label, metrics in panel.runs.items():
            _return_curve(axes, metrics, label, labels.index(label))
        if len(panel.runs) > _MAX_BANDS:
            for band in axes.collections:
                band.set_alpha(0.07)
        if panel.references:
            _levels(axes, panel.references)
    return _finish(figure, labels)


def _levels(axes: Axes, references: References) -> None:
    levels = references.measured
    if len(references.paper) <= _MAX_LEVELS:
        levels = levels | {f"paper's {name}": level for name, level in references.paper.items()}
    for index, (name, level) in enumerate(levels.items()):
        style, colour = DASHES[1 + index % 3], _GREYS.get(name, "#CC79A7")
        axes.axhline(level, linestyle=style, color=colour, label=f"{name} ({level:g})", lw=1.2)


def _seeds(runs: Mapping[str, xr.Dataset]) -> str:
    sizes = sorted({metrics.sizes["seed"] for metrics in runs.values()})
    return f"{'/'.join(map(str, sizes))} seed{'' if sizes == [1] else 's'}"


def _panels(titles: Sequence[str], label: str, sharey: bool = True) -> Figure:
    """Axes side by side, in rows if they are many."""
    columns = min(len(titles), _MAX_COLUMNS)
    rows = -(-len(titles) // columns)
    width = _SIZE[0] if columns == 1 else 1.2 + 3.6 * columns
    figure = Figure((width, _SIZE[1] * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=sharey, squeeze=False)
    for row in panels:
        row[0].set_ylabel(label)
    for axes, title in zip(panels.flat, titles, strict=False):
        axes.set_title(textwrap.fill(title, 70 if columns == 1 else 36), loc="left")
        axes.locator_params(axis="x", nbins=9 if columns == 1 else 5)
    for axes in panels.flat[len(titles) :]:
        axes.remove()
    return figure


def _per_run(runs: Mapping[str, xr.Dataset], title: str, label: str, sharey: bool = True) -> Figure:
    first, *others = runs
    return _panels([f"{title}: {first}", *others], label, sharey)


def _log_scale(axes: Axes) -> None:
    """Logarithmic ordinate with a few labels, however many decades it covers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    low, high = axes.get_ylim()
    if high > 10 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter("")


def _agents(axes: Axes, metrics: xr.Dataset, name: str, logarithmic: bool) -> None:
    for agent in range(metrics.sizes["agent"]):
        values = metrics[name].isel(agent=agent)
        known = "agent" in values.coords  # old records do not have the names
        label = str(values.agent.item()) if known else f"agent {agent}"
        _moment_curve(axes, _episodes(metrics), values, label, agent, logarithmic)
    if logarithmic:
        _log_scale(axes)


def _coordination_curves(runs: Mapping[str, xr.Dataset]) -> Figure:
    """Every pair against episodes."""
    figure = _per_run(runs, "Coordination coefficients", "Cᵢⱼ")
    for axes, metrics in zip(figure.axes, runs.values(), strict=True):
        _pairs(axes, metrics)
        axes.set_ylim(-0.03, 1.03)
    return _finish(figure)


def _coordination_matrices(runs: Mapping[str, xr.Dataset]) -> Figure:
    """All pairs in the last tenth of each run: more curves than these nobody could tell apart."""
    figure = _per_run(runs, "C, last tenth", "agent i", sharey=False)
    columns = min(len(runs), _MAX_COLUMNS)
    figure.set_size_inches(0.8 + 4.6 * columns, 4.2 * -(-len(runs) // columns))
    for axes, metrics in zip(figure.axes, runs.values(), strict=True):
        late = metrics.coordination_mean.isel(
            update=slice(-(-metrics.sizes["update"] * 9 // 10), None)
        )
        mean = late.sel(moment="mean").mean("update").values
        image = axes.imshow(mean, cmap="viridis", vmin=0.0)
        for (i, j), value in np.ndenumerate(mean):
            light = value < 0.6 * mean.max()
            text = f"{value:.2f}".removeprefix("0")
            axes.text(j, i, text, ha="center", va="center", color="w" if light else "k", size=8)
        axes.set_xlabel("opponent j")
        axes.set_xticks(range(len(mean)))
        axes.set_yticks(range(len(mean)))
        figure.colorbar(image, ax=axes, shrink=0.85)
    return figure


def _pairs(axes: Axes, metrics: xr.Dataset) -> None:
    agents = metrics.sizes["agent"]
    pairs = [(i, j) for i in range(agents) for j in range(agents) if i != j]
    for index, (i, j) in enumerate(pairs):
        values = metrics.coordination_mean.isel(agent=i, opponent=j)
        _moment_curve(axes, _episodes(metrics), values, f"$C_{{{i},{j}}}$", index)


def _episodes(metrics: xr.Dataset) -> np.ndarray:
    """Episodes finished at every logging point ``[T]``, mean over seeds."""
    found: np.ndarray = metrics.episode_at_update.mean("seed").values
    return found


def _return_curve(axes: Axes, metrics: xr.Dataset, label: str, index: int) -> None:
    """Mean and standard deviation of the smoothed returns of every seed."""
    smoothed = smooth(metrics.return_mean.values)
    mean = smoothed.mean(axis=0)
    std = smoothed.std(axis=0, ddof=1) if len(smoothed) > 1 else np.full_like(mean, np.nan)
    _curve(axes, _episodes(metrics), mean, std, label, index)


def _moment_curve(
    axes: Axes,
    episodes: np.ndarray,
    values: xr.DataArray,
    label: str,
    index: int,
    logarithmic: bool = False,
) -> None:
    """Smoothed mean and standard deviation, ``values [moment, update]``.

    For a logarithmic axis those of logarithms, as if the seeds were distributed lognormally.
    """
    mean, std = values.sel(moment="mean").values, values.sel(moment="std").values
    if logarithmic:
        mean, std = lognormal_moments(mean, std)
    _curve(axes, episodes, smooth(mean), smooth(std), label, index, np.exp if logarithmic else None)


def _curve(
    axes: Axes,
    episodes: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    label: str,
    index: int,
    scale: Callable[[np.ndarray], np.ndarray] | None = None,
) -> None:
    """A line with a band of one ``std`` (no band where it is NaN); both ``scale``d, if given.

    Where no episode ended between logging points, the last of these points stands for all.
    """
    known = np.isfinite(mean) & (np.append(np.diff(episodes), 1) > 0)
    episodes, mean, std = episodes[known], mean[known], std[known]
    level, low, high = (scale(each) if scale else each for each in (mean, mean - std, mean + std))
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    # Coinciding curves stay visible, because the later ones are dashed.
    axes.plot(episodes, level, linestyle=dash, color=colour, label=label, lw=1.8)
    if np.isfinite(std).any():
        axes.fill_between(episodes, low, high, color=colour, alpha=0.18, linewidth=0)


def _finish(figure: Figure, first: Sequence[str] = ()) -> Figure:
    """Axes of episodes, and below them one legend, ``first`` first, for which the figure grows."""
    for axes in figure.axes:
        axes.set_xlabel(f"episodes ({WINDOW}-point mean)")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    shown = {
        label: handle
        for axes in figure.axes
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    shown = dict(sorted(shown.items(), key=lambda each: each[0] not in first))
    width, height = figure.get_size_inches()
    columns = max(1, int(width / (0.7 + 0.077 * max(map(len, shown)))))  # inches per entry
    rows = -(-len(shown) // columns)
    figure.set_size_inches(width, height + 0.22 * rows)
    figure.legend(
        shown.values(),
        shown,
        loc="outside lower center",
        ncols=min(columns, len(shown)),
        frameon=False,
    )
    return figure


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=_DPI)
    return path
