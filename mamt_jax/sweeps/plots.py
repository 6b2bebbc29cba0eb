"""Figures of a sweep: what each setting does, and who went on at each rung.

Not Optuna's own: its ticks overlap where values are few, its legends name trials by number, and its
importances leave out all trials that were stopped.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mamt_jax.files import write_whole
from mamt_jax.reports.curves import COLOURS, MAX_COLUMNS, plain
from mamt_jax.reports.plots import Axes, Figure, default_style
from mamt_jax.sweeps.results import Row, Sweep
from mamt_jax.training.run_dir import disk_errors

_DPI = 150
_NAMED = 5  # settings that have a colour each and stand in the legend
_GREY = "#BBBBBB"


@default_style()
def draw(found: Sweep) -> list[Path]:
    """Draws the figures of a sweep into ``OUT/figures``.

    Returns:
        The files written.

    Raises:
        RunError: The disk is full or refuses.
    """
    figures = {"settings": settings_figure(found), "rungs": rungs_figure(found)}
    folder, written = found.out / "figures", []
    with disk_errors(found.out, "write the figures", "the study is kept"):
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            if figure is not None:
                content = io.BytesIO()
                figure.savefig(content, dpi=_DPI, format="png")
                write_whole(folder / f"{name}.png", content.getvalue())
                written.append(folder / f"{name}.png")
    return written


def settings_figure(found: Sweep) -> Figure | None:
    """What every setting's values were worth at the first rung, where all were judged."""
    first = found.grid.rungs[0]
    rows = [row for row in found.rows if first in row.rungs]
    if not rows:
        return None
    names = list(found.grid.axes)
    columns = min(len(names), MAX_COLUMNS)
    lines = -(-len(names) // columns)
    figure = Figure((1.6 + 2.9 * columns, 3.4 * lines + 0.4), layout="constrained")
    panels = figure.subplots(lines, columns, sharey=True, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=False):
        _setting(axes, name, found.grid.axes[name], rows, first)
    for line in panels:
        line[0].set_ylabel(f"return after {first:,} episodes")
    for axes in panels.flat[len(names) :]:
        axes.remove()
    counted = (
        f"{len(rows)} settings of {found.task}; the line joins the means of all that share a value"
    )
    figure.suptitle(plain(counted), fontsize=10, x=0.01, ha="left")
    return figure


def _setting(axes: Axes, name: str, values: Sequence[Any], rows: Sequence[Row], first: int) -> None:
    """One setting: a mark for each point at its value, and their means."""
    order = sorted(values) if _are_numbers(values) else list(values)
    worth = [[row.rungs[first] for row in rows if row.values[name] == value] for value in order]
    for place, each in enumerate(worth):
        # Side by side, so that equal ones are seen: always in the same places.
        aside = np.linspace(-0.12, 0.12, len(each)) if len(each) > 1 else np.zeros(len(each))
        axes.plot(place + aside, each, "o", color=COLOURS[0], alpha=0.45, markersize=4, mew=0)
    known = [place for place, each in enumerate(worth) if each]
    means = [np.mean(worth[place]) for place in known]
    axes.plot(known, means, "-", color=COLOURS[1], lw=1.8, marker="_", markersize=14, mew=2)
    share = explained([each for each in worth if each])
    axes.set_title(f"{plain(name)}\n{share:.0%} of the variance", loc="left", fontsize=10)
    axes.set_xticks(range(len(order)), [_label(value) for value in order])
    axes.set_xlim(-0.5, len(order) - 0.5)
    axes.grid(axis="y", alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def explained(worth: Sequence[Sequence[float]]) -> float:
    """Share of the variance between points that a setting's means explain (η², one-way ANOVA).

    Args:
        worth: Of each value of the setting, what the points that have it were worth.
    """
    every = np.concatenate([np.asarray(each, np.float64) for each in worth])
    total = float(((every - every.mean()) ** 2).sum())
    between = sum(len(each) * (np.mean(each) - every.mean()) ** 2 for each in worth)
    return float(between) / total if total else 0.0


def rungs_figure(found: Sweep) -> Figure | None:
    """What every point was worth at each rung that it reached; None where there is one rung."""
    rungs = found.grid.rungs
    rows = [row for row in found.rows if row.rungs]
    if len(rungs) < 2 or not rows:
        return None
    figure = Figure((7.2, 4.4 + 0.2 * min(len(rows), _NAMED)), layout="constrained")
    axes = figure.subplots()
    for place, row in reversed(list(enumerate(rows))):
        at, values = list(row.rungs), list(row.rungs.values())
        is_named = place < _NAMED
        label = ", ".join(f"{name}={_label(value)}" for name, value in row.values.items())
        axes.plot(
            at,
            values,
            color=COLOURS[place] if is_named else _GREY,
            label=plain(label) if is_named else None,
            marker="o",
            markersize=4.5 if is_named else 3,
            lw=1.8 if is_named else 0.9,
            zorder=3 if is_named else 2,
        )
    axes.set_xticks(rungs, [f"{episodes:,}" for episodes in rungs])
    axes.set_xlabel("episodes")
    axes.set_ylabel("return of the last episodes")
    named = min(len(rows), _NAMED)
    title = f"{found.task}: {len(rows)} settings at the rungs they reached, the best {named} named"
    axes.set_title(plain(title), loc="left", fontsize=10)
    axes.grid(alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles[::-1], labels[::-1], loc="outside lower left", frameon=False, fontsize=9, ncols=1
    )
    return figure


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(each, int | float) and not isinstance(each, bool) for each in values)


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
