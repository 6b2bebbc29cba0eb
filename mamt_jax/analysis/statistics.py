"""Numbers over seeds: deviations, intervals, curves, episodes to a threshold. NumPy only."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

WINDOW = 11
"""Logging points over which curves are smoothed."""


class Summary(NamedTuple):
    """A quantity over seeds; NaN where they are too few to tell, see :func:`supported`."""

    mean: float
    std: float
    """Sample standard deviation (n − 1)."""
    low: float
    high: float
    """95% bootstrap interval of the mean."""
    iqm: float
    """Interquartile mean, see :func:`interquartile_mean`."""


def summarise(values: np.ndarray) -> Summary:
    """Mean, standard deviation, 95% interval and IQM of one value per seed ``[S]``.

    Raises:
        ValueError: No values.
    """
    values = _vector(values)
    std = float(values.std(ddof=1)) if len(values) > 1 else float("nan")
    low, high = bootstrap_interval(values)
    found = Summary(float(values.mean()), std, low, high, interquartile_mean(values))
    return supported(found, len(values))


def supported(summary: Summary, seeds: int) -> Summary:
    """A summary without what so few seeds cannot tell.

    One seed has no standard deviation, and fewer than three have no interval: the bootstrap
    interval of two values is the range between them, which holds the mean half of the time.
    """
    unknown = float("nan")
    if seeds < 2:
        summary = summary._replace(std=unknown)
    if seeds < 3:
        summary = summary._replace(low=unknown, high=unknown)
    return summary


def lognormal_moments(mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of log x, for a lognormal x with the given ones.

    Where ``std`` is NaN, as for one seed, the first is log ``mean`` and the second NaN.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        variance = np.log1p((std / mean) ** 2)
        return np.log(mean) - np.nan_to_num(variance) / 2, np.sqrt(variance)


def interquartile_mean(values: np.ndarray) -> float:
    """Mean of the middle half of ``values [S]``; NaN if one of them is.

    ⌊S/4⌋ values are left out at either end, as ``scipy.stats.trim_mean(values, 0.25)`` and so
    rliable do it: of fewer than four seeds it is the mean, and no seed counts in part.

    Raises:
        ValueError: No values.
    """
    return float(interquartile_means(_vector(values)))


def interquartile_means(values: np.ndarray) -> np.ndarray:
    """As :func:`interquartile_mean`, of each row of ``[..., S]``."""
    values = np.sort(np.asarray(values, np.float64), axis=-1)  # NaN come last
    count = values.shape[-1]
    cut = count // 4
    inner: np.ndarray = values[..., cut : count - cut].mean(axis=-1)
    return np.where(np.isnan(values[..., -1]), np.nan, inner)


def bootstrap_interval(
    values: np.ndarray, coverage: float = 0.95, resamples: int = 10_000
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values [S]``, with a fixed random state."""
    values = _vector(values)
    rng = np.random.default_rng(0)
    means = values[rng.integers(len(values), size=(resamples, len(values)))].mean(axis=1)
    tail = 50 * (1 - coverage)
    low, high = np.percentile(means, [tail, 100 - tail])
    return float(low), float(high)


def smooth(curve: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """Centred moving average over the last axis; NaN are left out.

    Towards an end the window narrows on both sides, so that a slope is not bent there.

    Args:
        curve: ``[..., T]``.
        window: Odd number of points.

    Raises:
        ValueError: An even or non-positive window.
    """
    if window < 1 or window % 2 == 0:
        raise ValueError(f"window must be odd and positive, got {window}.")
    curve = np.asarray(curve, np.float64)
    known = np.isfinite(curve)
    index = np.arange(curve.shape[-1])
    half = np.minimum(window // 2, np.minimum(index, index[::-1]))
    start, stop = index - half, index + half + 1

    def windowed(values: np.ndarray) -> np.ndarray:
        padded = np.concatenate([np.zeros((*values.shape[:-1], 1)), values.cumsum(-1)], axis=-1)
        return padded[..., stop] - padded[..., start]

    count = windowed(known.astype(np.float64))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(count > 0, windowed(np.where(known, curve, 0)) / count, np.nan)


def first_episodes_mean(
    return_sum: np.ndarray, episodes: np.ndarray, count: int = 1000
) -> np.ndarray:
    """As :func:`last_episodes_mean`, for the first episodes."""
    return last_episodes_mean(return_sum[:, ::-1], episodes[:, ::-1], count)


def last_episodes_mean(
    return_sum: np.ndarray, episodes: np.ndarray, count: int = 1000
) -> np.ndarray:
    """Mean return of at least the last ``count`` episodes of each seed, in whole events.

    Args:
        return_sum: ``[S, events]`` summed returns of the episodes that ended in an event.
        episodes: ``[S, events]`` their number.
        count: Episodes; all of them where a run has fewer.

    Returns:
        ``[S]``; NaN for a seed in which no episode ended.
    """
    return_sum, episodes = np.asarray(return_sum, np.float64), np.asarray(episodes)
    later = episodes[:, ::-1].cumsum(axis=1)[:, ::-1] - episodes  # finished after each event
    inside = later < count
    total = (episodes * inside).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(total > 0, (return_sum * inside).sum(axis=1) / total, np.nan)


def episodes_to_threshold(
    curve: np.ndarray, episodes: np.ndarray, threshold: float
) -> float | None:
    """Episodes from which on the smoothed return stays above ``threshold``.

    Args:
        curve: ``[T]`` smoothed return.
        episodes: ``[T]`` episodes finished at each point.
        threshold: Return to pass.

    Returns:
        Episodes at the first point after which no point is at or below the threshold; None where
        the last point is not above it.
    """
    below = np.flatnonzero(~(np.asarray(curve) > threshold))
    first = int(below[-1]) + 1 if len(below) else 0
    return None if first >= len(curve) else float(episodes[first])


def _vector(values: np.ndarray) -> np.ndarray:
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"one value per seed is needed, got shape {values.shape}.")
    return values
