"""Statistics over seeds against naive definitions, on generated inputs."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mamt_jax.analysis import statistics

finite = st.floats(-1e3, 1e3, width=32)
vectors = arrays(np.float64, st.integers(1, 12), elements=finite)
curves = arrays(np.float64, st.integers(1, 40), elements=finite)


@settings(deadline=None, max_examples=30)
@given(arrays(np.float64, st.integers(3, 12), elements=finite))
def test_summary_brackets_the_mean(values: np.ndarray) -> None:
    summary = statistics.summarise(values)
    slack = 1e-9 + 1e-9 * np.abs(values).max()
    assert values.min() - slack <= summary.low <= summary.mean + slack
    assert summary.mean - slack <= summary.high <= values.max() + slack
    assert summary == statistics.summarise(values)  # the same numbers every time
    assert summary.std >= 0


@settings(deadline=None, max_examples=30)
@given(vectors, finite, st.floats(0.1, 10))
def test_summary_moves_and_scales_with_its_values(
    values: np.ndarray, shift: float, scale: float
) -> None:
    plain, moved = statistics.summarise(values), statistics.summarise(values * scale + shift)
    np.testing.assert_allclose(moved.mean, plain.mean * scale + shift, atol=1e-6)
    np.testing.assert_allclose(moved.std, plain.std * scale, atol=1e-6)
    np.testing.assert_allclose(moved.low, plain.low * scale + shift, atol=1e-6)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7], 7),
        ([0, 5, 100], 35),  # fewer than four: the mean
        ([100, 1, 3, -50], 2),
        ([100, 1, 3, 5, -50], 3),  # ⌊5/4⌋ = 1 at either end
        ([8, 1000, -1000, 2, 4, 900, -900, 6], 5),
        ([1, 2, np.nan, 3, 4], np.nan),
    ],
)
def test_interquartile_mean(values: list[float], expected: float) -> None:
    np.testing.assert_allclose(statistics.interquartile_mean(np.array(values)), expected)
    np.testing.assert_allclose(statistics.summarise(np.array(values)).iqm, expected)


@given(vectors, st.randoms(use_true_random=False))
def test_interquartile_mean_drops_as_many_of_the_best_as_of_the_worst(
    values: np.ndarray, random: Random
) -> None:
    left = sorted(values)
    for _ in range(len(values) // 4):
        left.remove(min(left))
        left.remove(max(left))
    shuffled = random.sample(list(values), len(values))
    found = statistics.interquartile_mean(np.array(shuffled))
    np.testing.assert_allclose(found, np.mean(left), atol=1e-9)


def test_few_seeds_tell_less() -> None:
    """One has no standard deviation, two have the sample's, and no interval."""
    one, two, three = (statistics.summarise(np.array([5.0, 7.0, 9.0])[:n]) for n in (1, 2, 3))
    np.testing.assert_array_equal(one, [5, np.nan, np.nan, np.nan, 5])
    np.testing.assert_allclose(two, [6, 2**0.5, np.nan, np.nan, 6])
    assert np.isfinite(three).all() and three.std == 2
    # Summaries of old versions, which made numbers of it.
    np.testing.assert_array_equal(statistics.supported(one._replace(std=0, low=5, high=5), 1), one)
    np.testing.assert_array_equal(statistics.supported(two._replace(low=5, high=7), 2), two)
    assert statistics.supported(three, 3) == three


@given(st.floats(-3, 3), st.floats(0.01, 2))
def test_lognormal_moments_are_found_again(mean: float, std: float) -> None:
    level = np.exp(mean + std**2 / 2)
    found = statistics.lognormal_moments(
        np.array([level]), np.array([level * np.sqrt(np.expm1(std**2))])
    )
    np.testing.assert_allclose(np.ravel(found), [mean, std], rtol=1e-6, atol=1e-9)


def test_lognormal_moments_of_one_seed() -> None:
    found = statistics.lognormal_moments(np.array([2.0, 0.0]), np.array([np.nan, np.nan]))
    np.testing.assert_allclose(found, [[np.log(2), -np.inf], [np.nan, np.nan]])


def test_bootstrap_interval_covers_the_true_mean() -> None:
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(200):
        low, high = statistics.bootstrap_interval(rng.normal(size=30), resamples=500)
        hits += low <= 0 <= high
    assert 176 <= hits <= 199  # 95% nominal; small samples cover a little less


@given(curves, st.sampled_from([1, 3, 11]))
def test_smoothing_is_the_mean_of_its_window(curve: np.ndarray, window: int) -> None:
    naive = []
    for i in range(len(curve)):
        half = min(window // 2, i, len(curve) - 1 - i)
        naive.append(curve[i - half : i + half + 1].mean())
    np.testing.assert_allclose(statistics.smooth(curve, window), naive, atol=1e-6)


def test_smoothing_leaves_gaps_out() -> None:
    curve = np.array([[1, np.nan, 3, 5], [np.nan, np.nan, np.nan, np.nan]])
    smoothed = statistics.smooth(curve, 3)
    np.testing.assert_allclose(smoothed[0], [1, 2, 4, 5])
    assert np.isnan(smoothed[1]).all()
    with pytest.raises(ValueError, match="odd"):
        statistics.smooth(curve, 10)


@given(st.lists(st.lists(finite, max_size=4), min_size=1, max_size=20), st.integers(1, 30))
def test_last_episodes_are_counted_in_whole_events(events: list[list[float]], count: int) -> None:
    episodes = np.array([[len(event) for event in events]])
    return_sum = np.array([[sum(event) for event in events]])
    kept: list[float] = []
    for event in reversed(events):
        if len(kept) >= count:
            break
        kept.extend(event)
    expected = np.mean(kept) if kept else np.nan
    last = statistics.last_episodes_mean(return_sum, episodes, count)
    np.testing.assert_allclose(last, [expected], atol=1e-6)
    first = statistics.first_episodes_mean(return_sum[:, ::-1], episodes[:, ::-1], count)
    np.testing.assert_allclose(first, last)


@given(curves, finite)
def test_threshold_is_the_first_point_that_stays_above(curve: np.ndarray, threshold: float) -> None:
    episodes = 10.0 * (1 + np.arange(len(curve)))
    found = statistics.episodes_to_threshold(curve, episodes, threshold)
    staying = [e for i, e in enumerate(episodes) if (curve[i:] > threshold).all()]
    assert found == (staying[0] if staying else None)
