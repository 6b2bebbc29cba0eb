"""First and last returns of a run over its seeds."""

from __future__ import annotations

import numpy as np
import xarray as xr

from mamt_jax.analysis.statistics import (
    Summary,
    first_episodes_mean,
    last_episodes_mean,
    summarise,
)

LAST = 1000
"""Episodes averaged at the end of training, as in the paper's Table 10."""


def first_and_last(metrics: xr.Dataset) -> tuple[Summary, Summary]:
    """Returns over seeds of the first tenth and of the last :data:`LAST` episodes of a run.

    A run shorter than twice :data:`LAST` is averaged over its last tenth instead.
    """
    if "last_return" in metrics.attrs:  # a record, which knows them more exactly than its events
        return metrics.attrs["first_return"], metrics.attrs["last_return"]
    first, _ = windows(metrics)
    early = first_episodes_mean(metrics.return_sum.values, metrics.episodes.values, first)
    return summarise(early), summarise(last_by_seed(metrics))


def last_by_seed(metrics: xr.Dataset) -> np.ndarray:
    """Each seed's mean return ``[S]`` over the last episodes, as :func:`first_and_last` counts."""
    if "last_return_by_seed" in metrics.attrs:  # a record
        return np.asarray(metrics.attrs["last_return_by_seed"], np.float64)
    _, last = windows(metrics)
    return last_episodes_mean(metrics.return_sum.values, metrics.episodes.values, last)


def windows(metrics: xr.Dataset) -> tuple[int, int]:
    """Episodes over which the first and the last returns of a run are averaged."""
    total = int(metrics.episodes.sum("event").min())
    tenth = max(total // 10, 1)
    return min(tenth, LAST), (LAST if total >= 2 * LAST else tenth)
