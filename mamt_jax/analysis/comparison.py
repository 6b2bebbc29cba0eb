"""Two runs over their seeds: how far apart they are, and how sure that is. NumPy only.

Seeds of two runs are not paired, whatever their numbers: resamples of each run are drawn on their
own. As rliable does it (Agarwal et al. 2021, "Deep RL at the edge of the statistical precipice").
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mamt_jax.analysis.statistics import interquartile_mean, interquartile_means

LEAST = 3
"""Seeds of a run below which nothing is said: the bootstrap of two values is their range."""
_RESAMPLES = 10_000
_TAIL = 2.5  # per cent left out at either end
_AT_ONCE = 2_000_000  # comparisons of pairs held in memory


class Estimate(NamedTuple):
    """A number and its 95% percentile bootstrap interval."""

    value: float
    low: float
    high: float


class Against(NamedTuple):
    """A run beside another."""

    difference: Estimate
    """Of the interquartile means."""
    improvement: Estimate
    """Probability that a seed is better than one of the other run; ties count half."""


def resampled(values: np.ndarray, stream: int) -> np.ndarray:
    """Resamples ``[10,000, S]`` of ``values [S]``, the same for the same `stream`."""
    values = np.asarray(values, np.float64)
    rng = np.random.default_rng(stream)
    drawn: np.ndarray = values[rng.integers(len(values), size=(_RESAMPLES, len(values)))]
    return drawn


def iqm(values: np.ndarray, resamples: np.ndarray) -> Estimate:
    """Interquartile mean of ``values [S]``."""
    return _estimate(interquartile_mean(values), interquartile_means(resamples))


def against(
    values: np.ndarray, resamples: np.ndarray, other: np.ndarray, of_other: np.ndarray
) -> Against:
    """A run's ``values [S]`` beside ``other [R]``, with resamples of both.

    Resamples are taken in pairs: the first of one run with the first of the other.
    """
    apart = interquartile_mean(values) - interquartile_mean(other)
    each = interquartile_means(resamples) - interquartile_means(of_other)
    better = improvement(np.asarray(values)[None], np.asarray(other)[None])[0]
    return Against(
        _estimate(apart, each), _estimate(float(better), improvement(resamples, of_other))
    )


def improvement(values: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Share ``[N]`` of pairs of ``values [N, S]`` and ``other [N, R]`` that the first one wins.

    Mann and Whitney's U over the number of pairs: ties are half won.
    """
    rows = max(_AT_ONCE // (values.shape[1] * other.shape[1]), 1)
    found = []
    for start in range(0, len(values), rows):
        one, two = values[start : start + rows, :, None], other[start : start + rows, None]
        found.append(((one > two) + 0.5 * (one == two)).mean(axis=(1, 2)))
    return np.concatenate(found)


def _estimate(value: float, resamples: np.ndarray) -> Estimate:
    low, high = np.percentile(resamples, [_TAIL, 100 - _TAIL])
    return Estimate(float(value), float(low), float(high))
