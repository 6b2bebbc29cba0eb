"""To whom the critics attend in episodes of trained policies (Figure 9).

Records have no critics: only runs whose directories are at hand can be asked.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mamt_jax.experiments.budgets import VARIANTS
from mamt_jax.experiments.sheet import NONE, Sheet, Shown
from mamt_jax.experiments.tables import Found
from mamt_jax.reports.plots import Figure
from mamt_jax.training.run import load

EPISODES = 16
"""Greedy ones, of every seed."""


def attention(found: Found) -> Shown:
    """Mean attention of every agent to every other, as a table and as matrices."""
    rows, drawn = [], {}
    for env, runs in found.items():
        for variant, opened in runs.items():
            label = VARIANTS[variant].label
            if opened.directory is None:
                rows.append([env, label, *[NONE] * 3])
                continue
            matrix = drawn[f"{label}, {env}"] = weights(opened.directory)
            for i, j in np.ndindex(*matrix.shape):
                if i != j:
                    rows.append([env, label, f"{i}", f"{j}", f"{matrix[i, j]:.3f}"])
    columns = ["environment", "algorithm", "agent i", "attends to j", "weight"]
    caption = (
        f"Mean over heads, steps and {EPISODES} greedy episodes of each seed; a record alone has "
        f"no critic, and {NONE} here."
    )
    sheet = Sheet("Attention weights of the critics (Figure 9)", columns, rows, caption)
    return Shown([sheet], {"figure9": _matrices(drawn)} if drawn else {})


def weights(directory: Path) -> np.ndarray:
    """Attention of a run ``[n, n]``: of agent i, in a row, to the others; NaN on the diagonal."""
    run, each = load(directory), []
    for seed in run.metrics.seed.values.tolist():
        recorded = run.episodes(EPISODES, seed=seed)["attention"]
        others = [dim for dim in recorded.dims if dim not in ("agent", "opponent")]
        each.append(recorded.mean(others).transpose("agent", "opponent").values)
    found = np.mean(each, axis=0)
    np.fill_diagonal(found, np.nan)
    return found


def _matrices(drawn: dict[str, np.ndarray]) -> Figure:
    columns = min(len(drawn), 3)
    rows = -(-len(drawn) // columns)
    figure = Figure((3.2 * columns + 1.4, 3.0 * rows), layout="constrained")
    made = figure.subplots(rows, columns, squeeze=False)
    for axes in made.flat[len(drawn) :]:
        axes.remove()
    for axes, (title, matrix) in zip(made.flat, drawn.items(), strict=False):
        image = axes.imshow(matrix, cmap="viridis", vmin=0, vmax=1)
        axes.set_title(title, loc="left", size=10)
        axes.set_xlabel("attends to j")
        axes.set_ylabel("agent i")
        axes.set_xticks(range(len(matrix)))
        axes.set_yticks(range(len(matrix)))
        for (i, j), value in np.ndenumerate(matrix):
            if np.isfinite(value):
                colour = "w" if value < 0.6 else "k"
                axes.text(j, i, f"{value:.2f}", ha="center", va="center", color=colour, size=9)
    figure.colorbar(image, ax=figure.axes, shrink=0.6)
    return figure
