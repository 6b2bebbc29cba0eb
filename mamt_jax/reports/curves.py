"""Curves over episodes: smoothed means over seeds with bands, or with a thin line for each seed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence

import numpy as np
import xarray as xr

from mamt_jax.analysis.statistics import WINDOW, lognormal_moments, smooth
from mamt_jax.reports.plots import Axes, Figure, LogLocator

# Okabe and Ito's palette, readable with any colour vision, and three of Paul Tol's, so that the
# paper's ten algorithms have a colour each. Dashes help to tell them apart.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
COLOURS += ["#882255", "#999933", "#332288"]
DASHES = ("-", "--", ":", "-.")
SIZE = (7.2, 4.0)
"""Of a panel that is alone, inches."""
MAX_COLUMNS = 4
"""Panels side by side."""


def plain(text: str) -> str:
    """A name as Matplotlib shows it: dollars in it begin no formula."""
    return text.replace("$", r"\$")


def panel_axes(titles: Sequence[str], label: str, sharey: bool = True) -> Figure:
    """Axes side by side, in rows if they are many."""
    columns = min(len(titles), MAX_COLUMNS)
    rows = -(-len(titles) // columns)
    width = SIZE[0] if columns == 1 else 1.2 + 3.6 * columns
    figure = Figure((width, SIZE[1] * rows), layout="constrained")
    made = figure.subplots(rows, columns, sharey=sharey, squeeze=False)
    for row in made:
        row[0].set_ylabel(label)
    for axes, title in zip(made.flat, titles, strict=False):
        axes.set_title(textwrap.fill(plain(title), 70 if columns == 1 else 36), loc="left")
        axes.locator_params(axis="x", nbins=9 if columns == 1 else 5)
    for axes in made.flat[len(titles) :]:
        axes.remove()
    return figure


def log_scale(axes: Axes) -> None:
    """Logarithmic ordinate with a few labels, however many decades it covers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    low, high = axes.get_ylim()
    if high > 10 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter("")


def episodes(metrics: xr.Dataset) -> np.ndarray:
    """Episodes finished at every logging point ``[T]``, mean over seeds."""
    found: np.ndarray = metrics.episode_at_update.mean("seed").values
    return found


def seed_curve(
    axes: Axes, at: np.ndarray, values: np.ndarray, label: str, index: int, by_seed: bool = False
) -> None:
    """Mean and standard deviation of what every seed has, smoothed.

    Args:
        axes: Where.
        at: Episodes ``[T]``.
        values: ``[S, T]``.
        label: For the legend.
        index: Which colour.
        by_seed: Whether each seed has a line, in the place of the band.
    """
    smoothed = smooth(values)
    mean = smoothed.mean(axis=0)
    std = smoothed.std(axis=0, ddof=1) if len(smoothed) > 1 else np.full_like(mean, np.nan)
    _curve(axes, at, mean, std, label, index, smoothed if by_seed else None)


def moment_curve(
    axes: Axes,
    at: np.ndarray,
    values: xr.DataArray,
    label: str,
    index: int,
    logarithmic: bool = False,
    by_seed: np.ndarray | None = None,
) -> None:
    """Smoothed mean and standard deviation.

    For a logarithmic axis those of logarithms, as if the seeds were distributed lognormally.

    Args:
        axes: Where.
        at: Episodes ``[T]``.
        values: ``[moment, update]``.
        label: For the legend.
        index: Which colour.
        logarithmic: Whether the axis is to be.
        by_seed: ``[S, T]`` draws a line for each in the place of the band.
    """
    mean, std = values.sel(moment="mean").values, values.sel(moment="std").values
    if logarithmic:
        mean, std = lognormal_moments(mean, std)
    scale = np.exp if logarithmic else None
    each = None if by_seed is None else smooth(by_seed)
    _curve(axes, at, smooth(mean), smooth(std), label, index, each, scale)


def evaluated_curve(
    axes: Axes,
    at: np.ndarray,
    values: xr.DataArray,
    label: str,
    index: int,
    by_seed: np.ndarray | None = None,
) -> None:
    """What is known at some logging points alone ``[moment, update]``: marks, and no smoothing."""
    known = np.isfinite(values.sel(moment="mean").values)
    mean, std = (values.sel(moment=moment).values[known] for moment in ("mean", "std"))
    each = None if by_seed is None else by_seed[:, known]
    _curve(axes, at[known], mean, std, label, index, each, marker="o")


def _curve(
    axes: Axes,
    at: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    label: str,
    index: int,
    by_seed: np.ndarray | None = None,
    scale: Callable[[np.ndarray], np.ndarray] | None = None,
    marker: str = "",
) -> None:
    """A line with a band of one ``std`` (none where it is NaN); both ``scale``d, if given.

    Where no episode ended between logging points, the last of these points stands for all. Lines
    ``by_seed [S, T]`` are as they are, and take the place of the band.
    """
    known = np.isfinite(mean) & (np.append(np.diff(at), 1) > 0)
    at, mean, std = at[known], mean[known], std[known]
    level, low, high = (scale(each) if scale else each for each in (mean, mean - std, mean + std))
    colour, dash = COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)]
    if by_seed is not None and len(by_seed) > 1:
        axes.plot(at, by_seed[:, known].T, color=colour, lw=0.7, alpha=0.45, gid=f"{label}: seed")
    elif np.isfinite(std).any():
        axes.fill_between(at, low, high, color=colour, alpha=0.18, linewidth=0, gid=label)
    # Coinciding curves stay visible, because the later ones are dashed.
    (line,) = axes.plot(at, level, linestyle=dash, color=colour, label=label, lw=1.8)
    line.set(marker=marker, markersize=3.5)


def finish(figure: Figure, first: Sequence[str] = (), smoothed: bool = True) -> Figure:
    """Axes of episodes, and below them one legend, ``first`` first, for which the figure grows."""
    for axes in figure.axes:
        axes.set_xlabel(f"episodes ({WINDOW}-point mean)" if smoothed else "episodes")
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
    if not shown:
        return figure
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
