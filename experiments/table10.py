"""Recorded runs beside the paper's Table 10.

    python -m mamt_jax.experiments.table10 results/spread/*.json --out table10.md

Returns are those of the last 1,000 training episodes; where a run has fewer than 2,000, those of
its last tenth, and the table says so. IQM: interquartile mean over seeds. The last columns are the
episodes until the return stays above each level of the environment. The caption says how all of
these are written.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import xarray as xr
from rich.table import Table

from mamt_jax.analysis.returns import LAST, first_and_last, windows
from mamt_jax.cli.guard import guarded
from mamt_jax.config import TrainConfig
from mamt_jax.errors import OutputError, RunError
from mamt_jax.experiments.paper import NAMES, TABLE10
from mamt_jax.experiments.references import References, references
from mamt_jax.reports.report import print_tables
from mamt_jax.reports.sources import find_runs, open_run
from mamt_jax.reports.tasks import task
from mamt_jax.reports.texts import PASSING, SPREAD, interval, mean_std, passed, seeds

_NONE = "–"


class Comparison(NamedTuple):
    """The table as text."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str


def compare(paths: list[Path]) -> Comparison:
    """One row per algorithm of Table 10, in its order; those without a run have no numbers of ours.

    Args:
        paths: At least one record, run directory or folder of these; all in one environment, one
            per algorithm.

    Raises:
        RunError: A path holds no run or one that Table 10 does not have, or two do not go together.
    """
    runs: dict[str, xr.Dataset] = {}
    found: dict[str, References] = {}
    for path in find_runs(paths):
        config, metrics = open_run(path)
        found[config.env] = _references(path, config)
        if len(found) > 1:
            raise RunError(f"A table takes runs in one environment, not in {' and '.join(found)}.")
        if config.algorithm in runs:
            raise RunError(f"{path} is a second run of {config.algorithm}; a table takes one.")
        runs[config.algorithm] = metrics
    ((env, known),) = found.items()
    columns = ["algorithm", "seeds", "episodes", "mean ± std", "interval", "IQM", "paper"]
    columns += [f"above {level:g}" for level in known.thresholds]
    rows = [_row(env, name, runs.get(name), known.thresholds) for name in NAMES]
    title = f"Return of the last {LAST:,} episodes on {env} beside the paper's Table 10"
    return Comparison(title, columns, rows, f"{SPREAD} {PASSING}")


def to_rich(comparison: Comparison) -> Table:
    """For the terminal."""
    shown = Table(title=comparison.title, caption=comparison.caption)
    for index, name in enumerate(comparison.columns):
        shown.add_column(name, justify="right" if index else "left", no_wrap=not index)
    for row in comparison.rows:
        shown.add_row(*row)
    return shown


def to_markdown(comparison: Comparison) -> str:
    """As a table of GitHub's Markdown, between a line with the title and one with the caption."""
    rules = ["---", *["---:"] * (len(comparison.columns) - 1)]
    lines = [" | ".join(row) for row in (comparison.columns, rules, *comparison.rows)]
    table = [f"| {line} |" for line in lines]
    return "\n".join([f"{comparison.title}:", "", *table, "", comparison.caption, ""])


def _references(path: Path, config: TrainConfig) -> References:
    """The levels of a run that can be compared.

    Raises:
        RunError: It cannot.
    """
    for name, known in ((config.env, TABLE10), (config.algorithm, NAMES)):
        if name not in known:
            raise RunError(f"{path}: the paper's Table 10 has no {name}, only {', '.join(known)}.")
    found = references(config)
    if found is None:
        raise RunError(f"{path}: {task(config)} is not as in the paper's Table 10: other options.")
    return found


def _row(
    env: str, algorithm: str, metrics: xr.Dataset | None, thresholds: tuple[float, ...]
) -> list[str]:
    published = TABLE10[env].get(algorithm)
    paper = f"{published.mean:.2f} ± {published.std:.2f}" if published else _NONE
    if metrics is None:
        return [algorithm, *[_NONE] * 5, paper, *[_NONE] * len(thresholds)]
    _, last = first_and_last(metrics)
    episodes = f"{metrics.episodes.sum('event').mean().item():,.0f}"
    _, averaged = windows(metrics)
    return [
        algorithm,
        seeds(metrics),
        episodes if averaged == LAST else f"{episodes}, last {averaged:,}",
        mean_std(last),
        interval(last) or _NONE,
        f"{last.iqm:.2f}",
        paper,
        *(passed(metrics, level) for level in thresholds),
    ]


def table10(paths: list[Path], out: Path | None) -> None:
    """Prints the table and writes it to ``out``.

    Raises:
        RunError: As :func:`compare`.
        OutputError: ``out`` cannot be written.
    """
    comparison = compare(paths)
    print_tables(to_rich(comparison))
    if out is None:
        return
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(to_markdown(comparison), encoding="utf-8")
    except OSError as error:
        raise OutputError(f"Cannot write {out}: {error.strerror or error}.") from error
    print(out)


def main(arguments: list[str] | None = None) -> int:
    """Entry point of ``python -m mamt_jax.experiments.table10``; returns the exit status."""
    parser = argparse.ArgumentParser(description="Sets runs beside the paper's Table 10.")
    parser.add_argument(
        "runs", type=Path, nargs="+", help="records, run directories, or folders of these"
    )
    parser.add_argument("--out", type=Path, help="Markdown file for the table")
    chosen = parser.parse_args(arguments)
    return guarded(lambda: table10(chosen.runs, chosen.out))


if __name__ == "__main__":
    raise SystemExit(main())
