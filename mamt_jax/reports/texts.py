"""How numbers over seeds are written, in tables and in sentences."""

from __future__ import annotations

import numpy as np
import xarray as xr

from mamt_jax.analysis.statistics import WINDOW, Summary, episodes_to_threshold, smooth

SPREAD = (
    "± is the sample standard deviation over seeds, brackets hold the 95% bootstrap interval of "
    "the mean; two seeds have no interval, one has neither."
)
"""What :func:`text` shows, for the tables that use it."""
PASSING = (
    f"Episodes after which the return ({WINDOW}-point mean) stays above a level: of the mean over "
    "seeds; in brackets how many seeds do so themselves, the first and the last of them."
)
"""What :func:`passed` shows, for the tables that use it."""


def counted(number: int | str, noun: str) -> str:
    """A number of things: "1 seed", "8 seeds", "unknown cores"."""
    shown = number if isinstance(number, str) else f"{number:,}"
    return f"{shown} {noun}{'' if shown == '1' else 's'}"


def text(summary: Summary) -> str:
    """A summary with as much of its spread as its seeds can tell, see :data:`SPREAD`."""
    return " ".join(part for part in (mean_std(summary), interval(summary)) if part)


def mean_std(summary: Summary) -> str:
    """The mean and, of several seeds, the standard deviation."""
    spread = "" if np.isnan(summary.std) else f" ± {summary.std:.2f}"
    return f"{summary.mean:.2f}{spread}"


def interval(summary: Summary) -> str:
    """The interval of the mean; empty where the seeds are too few for one."""
    return "" if np.isnan(summary.low) else f"[{summary.low:.2f}, {summary.high:.2f}]"


def sentence(summary: Summary, seeds: int) -> str:
    """A summary that says itself what it shows, for where there is no table."""
    if seeds == 1:
        return f"{text(summary)} (1 seed)"
    of_mean = " [95% interval of the mean]" if interval(summary) else ""
    return f"{text(summary)} (mean ± std over {seeds} seeds{of_mean})"


def seeds(metrics: xr.Dataset) -> str:
    """Number of seeds that the numbers of a run are of, and of those left out."""
    lost = len(metrics.attrs.get("diverged", ()))
    return f"{metrics.sizes['seed']}" + (f" ({lost} diverged)" if lost else "")


def passing(metrics: xr.Dataset, level: float) -> tuple[float | None, list[float | None]]:
    """Episodes until the smoothed return stays above a level: of the mean, and of each seed."""
    smoothed = smooth(metrics.return_mean.values)
    episodes = metrics.episode_at_update.values
    of_mean = episodes_to_threshold(smoothed.mean(axis=0), episodes.mean(axis=0), level)
    return of_mean, [
        episodes_to_threshold(curve, count, level)
        for curve, count in zip(smoothed, episodes, strict=True)
    ]


def passed(metrics: xr.Dataset, level: float) -> str:
    """Episodes until the smoothed return stays above a level, see :data:`PASSING`."""
    of_mean, each = passing(metrics, level)
    shown = "never" if of_mean is None else f"{of_mean:,.0f}"
    reached = [found for found in each if found is not None]
    count = f"{len(reached)} of {len(each)}"
    if not reached or len(each) == 1:
        return f"{shown} ({count})"
    first, last = (f"{found:,.0f}" for found in (min(reached), max(reached)))
    return f"{shown} ({count}: {first if first == last else f'{first} to {last}'})"
