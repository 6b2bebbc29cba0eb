"""A plot for each kind of measurement."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from mamt_jax.errors import OutputError

Rows = list[dict[str, Any]]
COLOURS = {"mamt_jax": "C0", "modules": "C1", "batched": "C2"}


def draw(files: Sequence[Path], out: Path) -> None:
    """Writes a PNG into ``out`` for every measurement in the files.

    Raises:
      OutputError: a file cannot be read, or a picture not be written.
    """
    found: dict[str, Rows] = {}
    for file in files:
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise OutputError(f"{file} is no file of measurements: {error}.") from error
        for name, rows in content.items() if isinstance(content, dict) else ():
            if name in FIGURES and isinstance(rows, list):
                found.setdefault(name, []).extend(rows)
    found = {name: rows for name, rows in found.items() if rows}
    if not found:
        raise OutputError("The files hold none of " + ", ".join(FIGURES) + ".")
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, rows in found.items():
            try:
                figure = FIGURES[name](rows)
            except (KeyError, TypeError, AttributeError) as error:
                raise OutputError(f"What the files hold of {name} is no measurement.") from error
            figure.savefig(out / f"{name}.png", dpi=110)
            plt.close(figure)
            print(out / f"{name}.png")
    except OSError as error:
        raise OutputError(f"{out} cannot be written: {error.strerror}.") from error


def _bars(ax: Axes, groups: Sequence[str], heights: Mapping[str, Sequence[float]]) -> None:
    """Bars side by side, one colour for each key; NaN where there is none."""
    width = 0.8 / len(heights)
    for index, (name, values) in enumerate(heights.items()):
        at = np.arange(len(groups)) + (index - (len(heights) - 1) / 2) * width
        bars = ax.bar(at, values, width, label=name, color=COLOURS.get(name))
        ax.bar_label(bars, fmt="%.3g", fontsize=7)
    ax.set_xticks(range(len(groups)), groups, fontsize=8)


def _one_each(rows: Rows, name: str) -> Rows:
    """The last row of each name, those that compare with PyTorch first."""
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: bool(row.get("torch"))):
        found[row[name]] = row
    return list(found.values())


def _updates(rows: Rows) -> Any:
    algorithms = list(dict.fromkeys(row["algorithm"] for row in rows))
    curves = [row for row in rows if len(row["mamt_jax"]) > 1]
    panels = len(algorithms) + bool(curves)
    figure, axes = plt.subplots(
        1, panels, figsize=(5 * panels, 3.6), layout="constrained", squeeze=False
    )
    for ax, algorithm in zip(axes[0], algorithms, strict=False):
        mine = _one_each([row for row in rows if row["algorithm"] == algorithm], "env")
        heights = {"mamt_jax": [list(row["mamt_jax"].values())[-1]["median"] for row in mine]}
        for idiom in dict.fromkeys(idiom for row in mine for idiom in row["torch"]):
            heights[idiom] = [row["torch"].get(idiom, {"median": np.nan})["median"] for row in mine]
        _bars(ax, [row["env"] for row in mine], heights)
        ax.set(title=algorithm, ylabel="ms per update and seed", yscale="log")
        ax.legend(fontsize=8)
    for row in curves:
        seeds = [int(count) for count in row["mamt_jax"]]
        ms = [value["median"] for value in row["mamt_jax"].values()]
        axes[0][-1].plot(seeds, ms, "o-", label=f"{row['algorithm']}, {row['env']}")
    if curves:
        axes[0][-1].set(
            xlabel="seeds", ylabel="ms per update and seed", xscale="log", title="mamt_jax"
        )
        axes[0][-1].set_xticks(seeds, [str(count) for count in seeds], minor=False)
        axes[0][-1].set_ylim(bottom=0)
        axes[0][-1].legend(fontsize=8)
    return figure


def _training(rows: Rows) -> Any:
    figure, axes = plt.subplots(
        1, len(rows), figsize=(5 * len(rows), 3), layout="constrained", squeeze=False
    )
    for ax, row in zip(axes[0], rows, strict=True):
        names = list(row["hours_of_the_paper"])
        colours = [COLOURS[name.split(",")[0]] for name in names]
        bars = ax.barh(names, list(row["hours_of_the_paper"].values()), color=colours)
        ax.bar_label(bars, fmt="%.2f", fontsize=8)
        ax.invert_yaxis()
        ax.margins(x=0.15)
        ax.set(title=row["algorithm"], xlabel="hours for 8 x 10,000 episodes of Spread")
    return figure


def _share(rows: Rows) -> Any:
    rows = _one_each(rows, "env")
    heights = {
        "needed at the matrix peak": [row["needed_ms"] for row in rows],
        "measured": [row["measured_ms"] for row in rows],
    }
    labels = {"title": "maac", "ylabel": "ms per update and seed", "yscale": "log"}
    return _bar_figure([row["env"] for row in rows], heights, **labels)


def _environments(rows: Rows) -> Any:
    heights = {
        "mamt_jax": [row["steps_per_second"] for row in rows],
        "original": [row.get("original_steps_per_second", np.nan) for row in rows],
    }
    labels = {"ylabel": "environment steps per second", "yscale": "log"}
    return _bar_figure([row["environment"] for row in rows], heights, **labels)


def _compile(rows: Rows) -> Any:
    heights = {
        "empty cache": [row["cold"] for row in rows],
        "full cache": [row["cached"] for row in rows],
    }
    groups = [f"{row['algorithm']}\n{row['env']}" for row in rows]
    return _bar_figure(groups, heights, ylabel="seconds until the first logging point")


def _bar_figure(
    groups: Sequence[str], heights: Mapping[str, Sequence[float]], **labels: str
) -> Any:
    """One panel of bars, with what ``Axes.set`` takes."""
    figure, ax = plt.subplots(figsize=(5.5, 3.4), layout="constrained")
    _bars(ax, groups, heights)
    ax.set(**labels)
    ax.legend(fontsize=8)
    return figure


def _memory(rows: Rows) -> Any:
    figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
    kinds = dict.fromkeys((row["algorithm"], row["env"], row["buffer_size"]) for row in rows)
    for kind in kinds:
        mine = [r for r in rows if (r["algorithm"], r["env"], r["buffer_size"]) == kind]
        label = f"{kind[0]}, {kind[1]}, replay {kind[2]:,}"
        ax.plot([r["seeds"] for r in mine], [r["peak_mib"] for r in mine], "o-", label=label)
    ax.set(xlabel="seeds", ylabel="peak memory, MiB")
    ax.set_ylim(bottom=0)
    ax.legend(fontsize=8)
    return figure


FIGURES: dict[str, Callable[[Rows], Any]] = {
    "updates": _updates,
    "training": _training,
    "share_of_peak": _share,
    "environments": _environments,
    "compile": _compile,
    "memory": _memory,
}
