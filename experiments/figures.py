"""Figures of recorded runs, as PNG files. Every curve: mean over seeds, shaded by one std."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from experiments.references import References
from mamt_jax.analysis.statistics import WINDOW, smooth

matplotlib.use("Agg")

# Okabe and Ito's palette, readable with any colour vision; dashes tell apart what comes after it.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = ("-", "--", ":", "-.")
_GREYS = {"random": "#999999", "greedy": "#444444"}
_SIZE = (7.2, 4.0)
_DPI = 150
_MOST_PAIRED = 4  # agents whose pairs are drawn as curves

PER_AGENT = {
    "delta": ("delta.png", "Local trust regions", "δᵢ (nat)"),
    "local_kl": ("local_kl.png", "Local KL to the old policy", "KL(πᵢ ‖ πᵢ,old) (nat)"),
    "nonstationarity": ("nonstationarity.png", "Modelled non-stationarity", "Dᵢ,ns (nat)"),
}
"""Quantities with one curve per agent: file, title, label of the axis."""


def draw_all(
    runs: Mapping[str, xr.Dataset], references: References | None, directory: Path
) -> list[Path]:
    """Draws every figure the recorded quantities allow.

    Args:
        runs: Metrics by label; runs share the learning curve and get a panel each elsewhere.
        references: Levels to compare returns with, if there are any for this environment.
        directory: Where the PNG files go; created if missing.

    Returns:
        The files written.
    """
    directory.mkdir(parents=True, exist_ok=True)
    written = [_save(learning_curve(runs, references), directory / "learning_curve.png")]
    for name, (file, title, label) in PER_AGENT.items():
        having = {run: metrics for run, metrics in runs.items() if name in metrics}
        if having:
            figure = _panels(having, title, label)
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


def learning_curve(runs: Mapping[str, xr.Dataset], references: References | None) -> Figure:
    """Return against episodes, one curve per run, with the reference levels as lines."""
    figure = Figure(_SIZE, layout="constrained")
    axes = figure.subplots()
    for index, (label, metrics) in enumerate(runs.items()):
        _curve(axes, metrics.return_mean, label, index)
    if references:
        for index, (name, level) in enumerate(references.levels.items()):
            style = DASHES[1 + index % 3]
            colour = _GREYS.get(name, "#CC79A7")
            axes.axhline(level, linestyle=style, color=colour, label=f"{name} ({level:g})", lw=1.2)
    seeds = sorted({metrics.sizes["seed"] for metrics in runs.values()})
    axes.set_title(f"Return while learning, {'/'.join(map(str, seeds))} seeds", loc="left")
    axes.set_ylabel("return per episode (mean over agents)")
    return _finish(figure)


def _panels(runs: Mapping[str, xr.Dataset], title: str, label: str) -> Figure:
    width = _SIZE[0] if len(runs) == 1 else 1.2 + 3.6 * len(runs)
    figure = Figure((width, _SIZE[1]), layout="constrained")
    panels = np.atleast_1d(figure.subplots(1, len(runs), sharey=True))
    panels[0].set_ylabel(label)
    for axes, run in zip(panels, runs, strict=True):
        axes.set_title(f"{title}: {run}" if axes is panels[0] else run, loc="left")
    return figure


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
    figure = _panels(runs, "Coordination coefficients", "Cᵢⱼ")
    for axes, metrics in zip(figure.axes, runs.values(), strict=True):
        _pairs(axes, metrics)
        axes.set_ylim(-0.03, 1.03)
    return _finish(figure)


def _coordination_matrices(runs: Mapping[str, xr.Dataset]) -> Figure:
    """All pairs in the last tenth of each run: more curves than these nobody could tell apart."""
    figure = _panels(runs, "C, last tenth", "agent i")
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


def _finish(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.set_xlabel(f"episodes ({WINDOW}-point mean)")
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter("{x:,.0f}")
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", frameon=False)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    figure.savefig(path, dpi=_DPI)
    return path
