"""Runs beside one another: final returns over seeds, and how sure the differences are."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mamt_jax.analysis.comparison import LEAST, Against, Estimate, against, iqm, resampled
from mamt_jax.analysis.returns import last_by_seed
from mamt_jax.analysis.seeds import surviving
from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.files import user_path
from mamt_jax.reports.sources import open_run
from mamt_jax.reports.texts import seeds as seeds_text
from mamt_jax.training.result import Run

_HEADINGS = (
    "run",
    "seeds",
    "episodes",
    "IQM of returns",
    "difference",
    "improves with probability",
)
_MEANING = {
    "seeds": "seeds that did not diverge",
    "episodes": "episodes that a seed was trained for",
    "iqm": "interquartile mean over seeds of the return of the last episodes",
    "difference": "of the interquartile means, to that of the first run",
    "improvement": "probability that a seed is better than one of the first run, ties half",
}


@dataclass(frozen=True, eq=False, repr=False)
class Comparison:
    """What :func:`compare` found; shows itself as a table.

    Attributes:
        data: ``iqm``, ``difference`` and ``improvement [run, estimate]`` (value, low, high: the
            95% percentile bootstrap interval), of which the latter two are against the first run
            and NaN there; and ``seeds`` and ``episodes [run]``.
        returns: Of each run: every seed's return of the last episodes.
        environment: Where they were trained.
    """

    data: xr.Dataset
    returns: dict[str, np.ndarray]
    environment: str
    _seeds: tuple[str, ...]

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for name, seeds in zip(self.returns, self._seeds, strict=True):
            of = self.data.sel(run=name)
            shown = (_shown(of[each].values) for each in ("iqm", "difference", "improvement"))
            rows.append((name, seeds, f"{int(of.episodes):,}", *shown))
        return rows

    def _caption(self) -> str:
        return (
            f"Return of the last episodes on {self.environment} [95% bootstrap interval]; "
            f"differences and probabilities are against {next(iter(self.returns))}."
        )

    def __repr__(self) -> str:
        rows = [_HEADINGS, *self._rows()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
        return "\n".join([self._caption(), "", *lines])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{escape(each)}</th>" for each in _HEADINGS)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>"
            for row in self._rows()
        )
        caption = f"<caption>{escape(self._caption())}</caption>"
        return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def compare(runs: Iterable[Run | str | Path], names: Iterable[str] | None = None) -> Comparison:
    """Final returns of runs over their seeds, the others against the first.

    Seeds that diverged are left out. Final returns are those of the last 1,000 episodes, or of the
    last tenth of a run that is shorter than twice that, and of as many before them as make whole
    logging points.

    Args:
        runs: Two and more on the same environment: run objects, run directories, or records.
        names: What they are called; by default by what tells them apart.

    Raises:
        ConfigError: Fewer than two runs, of several environments, or other than as many names.
        RunError: One cannot be read, or has fewer than three seeds that have not diverged.
    """
    given = list(runs) if isinstance(runs, Iterable) and not isinstance(runs, str) else []
    if len(given) < 2:
        raise ConfigError("compare takes a list of at least two runs.")
    opened = [_opened(run) for run in given]
    configs = [config for config, _ in opened]
    _check_same(configs)
    labels = _labels(configs) if names is None else _names(names)
    if not len(labels) == len(set(labels)) == len(opened):
        raise ConfigError(f"names must be {len(opened)} different ones, got {names!r}.")
    returns = {
        label: _returns(label, metrics) for label, (_, metrics) in zip(labels, opened, strict=True)
    }
    found = [(values, resampled(values, stream)) for stream, values in enumerate(returns.values())]
    nothing = Estimate(np.nan, np.nan, np.nan)
    beside = [Against(nothing, nothing), *(against(*each, *found[0]) for each in found[1:])]
    variables = {
        "seeds": ("run", [len(values) for values in returns.values()]),
        "episodes": ("run", [int(metrics.episode[-1]) for _, metrics in opened]),
        "iqm": (("run", "estimate"), np.array([iqm(*each) for each in found])),
        "difference": (("run", "estimate"), np.array([each.difference for each in beside])),
        "improvement": (("run", "estimate"), np.array([each.improvement for each in beside])),
    }
    data = xr.Dataset(variables, {"run": labels, "estimate": list(Estimate._fields)})
    for name, meaning in _MEANING.items():
        unit = "reward" if name in ("iqm", "difference") else "1"
        data[name].attrs = {"units": unit, "long_name": meaning}
    kept = tuple(seeds_text(metrics) for _, metrics in opened)
    return Comparison(data, returns, _environment(configs[0]), kept)


def _opened(run: Any) -> tuple[TrainConfig, xr.Dataset]:
    """Config of a run, and its metrics without the seeds that diverged."""
    if not isinstance(run, Run):
        return open_run(user_path(run))
    try:
        return run.config, surviving(run.metrics)
    except RunError as error:
        raise RunError(f"{run.path or run.config.algorithm}: {error}") from error


def _check_same(configs: Sequence[TrainConfig]) -> None:
    found = list(dict.fromkeys(map(_environment, configs)))
    if len(found) > 1:
        raise ConfigError(
            f"compare takes runs on one environment, whose returns mean the same; got "
            f"{' and '.join(found)}."
        )


def _environment(config: TrainConfig) -> str:
    options = json.dumps(config.env_options, sort_keys=True, default=repr)
    return config.env if options == "{}" else f"{config.env} {options}"


def _labels(configs: Sequence[TrainConfig]) -> list[str]:
    """Algorithms; and where they are the same, the settings that differ, and at last a number."""
    labels = [config.algorithm for config in configs]
    if len(set(labels)) < len(labels):
        flat = [config.settings.flat() for config in configs]
        names = [name for name in flat[0] if any(each.get(name) != flat[0][name] for each in flat)]
        labels = [
            ", ".join([label, *(f"{name}={own[name]}" for name in names if name in own)])
            for label, own in zip(labels, flat, strict=True)
        ]
    if len(set(labels)) < len(labels):
        labels = [f"{label} ({number})" for number, label in enumerate(labels, 1)]
    return labels


def _names(given: Any) -> list[str]:
    """Names as texts; none where they are one text or no list."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        return []
    return [str(name) for name in given]


def _returns(label: str, metrics: xr.Dataset) -> np.ndarray:
    values = last_by_seed(metrics)
    if len(values) < LEAST:
        raise RunError(
            f"{label} has {len(values)} seeds that did not diverge; a comparison takes at least "
            f"{LEAST} of each run."
        )
    if not np.isfinite(values).all():
        raise RunError(f"{label} has a seed in which no episode has ended yet.")
    return values


def _shown(estimate: np.ndarray) -> str:
    value, low, high = estimate
    return "" if np.isnan(value) else f"{value:.2f} [{low:.2f}, {high:.2f}]"
