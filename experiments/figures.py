"""Figures of recorded runs, as PNG files. Every curve: mean over seeds, shaded by one std."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.references import References
from mamt_jax.analysis.statistics import WINDOW, smooth

matplotlib.use("Agg")

# Okabe and Ito's palette, readable with any colour vision, and three of Paul Tol's, so that the
# paper's ten algorithms have a colour each. Dashes help to tell them apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
COLOURS += ["#882255", "#999933", "#332288"]
DASHES = ("-", "--", ":", "-.")
_GREYS = {"random": "#999999", "greedy": "#444444"}
_SIZE = (7.2, 4.0)
_DPI = 150
_MOST_PAIRED = 4  # agents whose pairs are drawn as curves
_MOST_LEVELS = 3  # of the paper, drawn as lines; more would hide the curves
_MOST_BANDS = 5  # at full strength; more would hide the curves, too

PER_AGENT = {
    "delta": ("delta.png", "Local trust regions", "δᵢ (nat)"),
    "local_kl": ("local_kl.png", "Local KL to the old policy", "KL(πᵢ ‖ πᵢ,old) (nat)"),
    "nonstationarity": ("nonstationarity.png", "Modelled non-stationarity", "Dᵢ,ns (nat)"),
}
"""Quantities with one curve per agent: file, title, label of the axis."""


class Panel(NamedTuple):
    """Runs in one environment."""

    runs: dict[str, xr.Dataset]
    """Metrics by label; runs of one label look alike in every panel."""
    references: References | None
    """Levels to compare returns with, if there are any for this environment."""


def draw_all(panels: Mapping[str, Panel], directory: Path) -> list[Path]:
    """Draws every figure the recorded quantities allow.

    Args:
        panels: By environment, one panel each in the learning curve; elsewhere one for every run.
        directory: Where the PNG files go; created if missing.

    Returns:
        The files written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = [_save(learning_curve(panels), directory / "learning_curve.png")]
    runs = {
        label if len(panels) == 1 else f"{label}, {env}": metrics
        for env, panel in panels.items()
        for label, metrics in panel.runs.items()
    }
    for name, (file, title, label) in PER_AGENT.items():
        having = {run: metrics for run, metrics in runs.items() if name in metrics}
        if having:
            figure = _per_run(having, title, label)
            for axes, metrics in zip(figure.axes, having.values(), strict=True):
                _agents(axes, metrics[name], logarithmic=name == "delta")
                if name == "delta":
                    _log_scale(axes)
            written.append(_save(_finish(figure), directory / file))
    having = {run: metrics for run, metrics in runs.items() if "coordination_mean" in metrics}
    if having:
        few = all(metrics.sizes["agent"] <= _MOST_PAIRED for metrics in having.values())
        figure = _coordination_curves(having) if few else _coordination_matrices(having)
        written.append(_save(figure, directory / "coordination.png"))
    return written


def learning_curve(panels: Mapping[str, Panel]) -> Figure:
    """Return against episodes, one curve per run, with the reference levels as lines."""
    titles = [f"{env}, {_seeds(panel.runs)}" for env, panel in panels.items()]
    figure = _panels(titles, "return per episode (mean over agents)", sharey=False)
    labels = list(dict.fromkeys(label for panel in panels.values() for label in panel.runs))
    for axes, panel in zip(figure.axes, panels.values(), strict=True):
        for label, metrics in panel.runs.items():
            _curve(axes, metrics.return_mean, label, labels.index(label))
        if len(panel.runs) > _MOST_BANDS:
            for band in axes.collections:
                band.set_alpha(0.07)
        if panel.references:
            _levels(axes, panel.references)
    return _finish(figure, labels)


def _levels(axes: Axes, references: References) -> None:
    levels = references.measured
    if len(references.paper) <= _MOST_LEVELS:
        levels = levels | {f"paper's {name}": level for name, level in references.paper.items()}
    for index, (name, level) in enumerate(levels.items()):
        style, colour = DASHES[1 + index % 3], _GREYS.get(name, "#CC79A7")
        axes.axhline(level, linestyle=style, color=colour, label=f"{name} ({level:g})", lw=1.2)


def _seeds(runs: Mapping[str, xr.Dataset]) -> str:
    sizes = sorted({metrics.sizes["seed"] for metrics in runs.values()})
    return f"{'/'.join(map(str, sizes))} seed{'' if sizes == [1] else 's'}"


def _panels(titles: Sequence[str], label: str, sharey: bool = True) -> Figure:
    width = _SIZE[0] if len(titles) == 1 else 1.2 + 3.6 * len(titles)
    figure = Figure((width, _SIZE[1]), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(titles), sharey=sharey))
    panels[0].set_ylabel(label)
    for axes, title in zip(panels, titles, strict=True):
        axes.set_title(title, loc="left")
    return figure


def _per_run(runs: Mapping[str, xr.Dataset], title: str, label: str) -> Figure:
    first, *others = runs
    return _panels([f"{title}: {first}", *others], label)


def _log_scale(axes: Axes) -> None:
    """Logarithmic ordinate with a few labels, however many decades it covers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    low, high = axes.get_ylim()
    if high > 10 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter("")


def _agents(axes: Axes, values: xr.DataArray, logarithmic: bool) -> None:
    for agent in range(values.sizes["agent"]):
        _curve(axes, values.isel(agent=agent), f"agent {agent}", agent, logarithmic)


def _coordination_curves(runs: Mapping[str, xr.Dataset]) -> Figure:
    """Every pair against episodes."""
    figure = _per_run(runs, "Coordination coefficients", "Cᵢⱼ")
    for axes, metrics in zip(figure.axes, runs.values(), strict=True):
        _pairs(axes, metrics)
        axes.set_ylim(-0.03, 1.03)
    return _finish(figure)


def _coordination_matrices(runs: Mapping[str, xr.Dataset]) -> Figure:
    """All pairs in the last tenth of each run: more curves than these nobody could tell apart."""
    figure = _per_run(runs, "C, last tenth", "agent i")
    figure.set_size_inches(0.8 + 4.6 * len(runs), 4.2)
    for axes, metrics in zip(figure.axes, runs.values(), strict=True):
        late = metrics.coordination_mean.isel(
            update=slice(-(-metrics.sizes["update"] * 9 // 10), None)
        )
        mean = late.mean(("seed", "update")).values
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
        _curve(axes, values, f"$C_{{{i},{j}}}$", index)


def _curve(
    axes: Axes, values: xr.DataArray, label: str, index: int, logarithmic: bool = False
) -> None:
    """Mean over seeds with a band of one standard deviation; ``values`` is [seed, update].

    Both are of logarithms if ``logarithmic``. Where no episode ended between logging points, the
    last of these points stands for all.
    """
    episodes = values.episode_at_update.values.mean(axis=0)
    smoothed = smooth(np.log(values.values) if logarithmic else values.values)
    known = np.isfinite(smoothed).all(axis=0) & (np.append(np.diff(episodes), 1) > 0)
    mean = smoothed[:, known].mean(axis=0)
    std = smoothed[:, known].std(axis=0, ddof=min(1, len(smoothed) - 1))
    level, low, high = mean, mean - std, mean + std
    if logarithmic:
        level, low, high = np.exp(level), np.exp(low), np.exp(high)
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    # Coinciding curves stay visible, because the later ones are dashed.
    axes.plot(episodes[known], level, linestyle=dash, color=colour, label=label, lw=1.8)
    axes.fill_between(episodes[known], low, high, color=colour, alpha=0.18, linewidth=0)


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
