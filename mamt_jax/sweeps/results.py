"""What a sweep has found: rows, best first, as a table for the terminal and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from mamt_jax.analysis.statistics import Summary, summarise
from mamt_jax.errors import RunError
from mamt_jax.files import write_whole
from mamt_jax.reports.texts import SPREAD, text
from mamt_jax.sweeps.grid import Grid
from mamt_jax.sweeps.study import Trial
from mamt_jax.training.run_dir import disk_errors

SHOWN = 20
"""Rows of the table in the terminal; all are in the CSV."""


@dataclass(frozen=True)
class Row:
    """A combination of settings, and what it was worth."""

    values: dict[str, Any]
    """By setting."""
    state: str
    """"complete", "stopped" at a rung before the last, "lost" where all seeds diverged, or
    "unfinished"."""
    rungs: dict[int, float]
    """By episodes: mean over seeds of the return of the last episodes until then."""
    returns: np.ndarray
    """Of each seed that did not diverge, at the last rung reached ``[S]``."""
    seconds: float
    """What its training took: of programs that trained several combinations, its share."""
    run: str
    """Its run directory, as seen from the sweep's."""
    commit: str
    """Commit of mamt_jax that trained it last."""

    @property
    def last(self) -> float:
        """What it was worth at the last rung that it reached; NaN where it reached none."""
        return self.rungs[max(self.rungs)] if self.rungs else float("nan")

    @property
    def summary(self) -> Summary | None:
        """The returns over seeds; None where there are none."""
        return summarise(self.returns) if len(self.returns) else None


@dataclass(frozen=True, repr=False)
class Sweep:
    """What a sweep has found."""

    out: Path
    """Directory of the sweep."""
    task: str
    """Algorithm and environment."""
    grid: Grid
    """What was asked."""
    rows: list[Row]
    """All combinations, best first: by the rung reached, then by the return there."""

    @property
    def best(self) -> Row:
        """The best combination."""
        return self.rows[0]

    def records(self) -> list[dict[str, Any]]:
        """Rows as flat dicts of the same keys, as in the CSV; None where nothing is known."""
        return [self._record(row) for row in self.rows]

    def _record(self, row: Row) -> dict[str, Any]:
        summary = row.summary
        spread = summary is not None and not np.isnan(summary.std)
        return {
            **row.values,
            "state": row.state,
            **{f"return_{episodes}": row.rungs.get(episodes) for episodes in self.grid.rungs},
            "return": row.last if row.rungs else None,
            "std": summary.std if summary is not None and spread else None,
            "seeds": len(row.returns),
            "seconds": row.seconds,
            "run": row.run,
            "commit": row.commit,
        }

    def write_csv(self) -> Path:
        """Writes ``OUT/sweep.csv``; raises RunError where the disk refuses."""
        records, lines = self.records(), io.StringIO()
        writer = csv.DictWriter(lines, list(records[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(records)
        file = self.out / "sweep.csv"
        with disk_errors(self.out, "write the table", "the study is kept"):
            write_whole(file, lines.getvalue().encode())
        return file

    def table(self, most: int = SHOWN) -> Table:
        """The best rows, for the terminal."""
        rest = len(self.rows) - most
        more = f" {rest} more are in sweep.csv." if rest > 0 else ""
        title = f"Return of the last episodes, {self.task}: mean ± std over seeds"
        shown = Table(title=f"{title} [95% interval of the mean]", caption=SPREAD + more)
        for name in self.grid.axes:
            shown.add_column(name, justify="right")
        for episodes in self.grid.rungs[:-1]:
            shown.add_column(f"after {episodes:,}", justify="right")
        shown.add_column(f"after {self.grid.rungs[-1]:,}", justify="right")
        shown.add_column("seeds", justify="right")
        shown.add_column("seconds", justify="right")
        for row in self.rows[:most]:
            shown.add_row(*self._cells(row))
        return shown

    def _cells(self, row: Row) -> list[str]:
        cells = [_value(value) for value in row.values.values()]
        reached = max(row.rungs, default=None)
        for episodes in self.grid.rungs:
            summary = row.summary if episodes == reached else None
            plain = f"{row.rungs[episodes]:.2f}" if episodes in row.rungs else ""
            cells.append(text(summary) if summary is not None else plain)
        if row.state in ("lost", "unfinished"):
            cells[-1] = row.state
        return [*cells, str(len(row.returns)), f"{row.seconds:,.0f}"]

    def __repr__(self) -> str:
        best = ", ".join(f"{name}={_value(value)}" for name, value in self.best.values.items())
        return (
            f"Sweep of {self.task}: {len(self.rows)} settings, best {best} ({self.best.last:.2f})"
        )


def read_results(out: Path, grid: Grid, trials: Sequence[Trial]) -> Sweep:
    """The results of a study, best first.

    Args:
        out: Directory of the sweep.
        grid: What was asked.
        trials: One for each of its points, in the same order.
    """
    if len(trials) != len(grid.points):
        raise RunError(f"The study has {len(trials)} of {len(grid.points)} settings.")
    rows = []
    for point, trial in zip(grid.points, trials, strict=True):
        attrs, values = trial.attrs, trial.standing.values
        state = {"COMPLETE": "complete", "PRUNED": "stopped", "FAIL": "lost"}
        rows.append(
            Row(
                values=point.values,
                state=state.get(trial.state.name, "unfinished"),
                rungs=dict(sorted(values.items())),
                returns=np.asarray(attrs.get("returns", ()), np.float64),
                seconds=attrs.get("seconds", 0.0),
                run=attrs["run"],
                commit=attrs.get("commit", ""),
            )
        )
    rows.sort(key=lambda row: (row.state == "lost", -max(row.rungs, default=0), -row.last))
    config = grid.points[0].config
    return Sweep(out, f"{config.algorithm} on {config.env}", grid, rows)


def _value(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
