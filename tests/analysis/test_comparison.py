"""Comparisons of runs against scipy, and against all resamples that there are."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest
import scipy.stats

from mamt_jax.analysis import comparison

RNG = np.random.default_rng(3)
ONE, TWO = RNG.normal(0, 3, 9).round(), RNG.normal(1, 2, 6).round()  # with ties


def trimmed(values: np.ndarray) -> float:
    return float(scipy.stats.trim_mean(values, 0.25))


def won(one: np.ndarray, two: np.ndarray) -> float:
    wins = scipy.stats.mannwhitneyu(one, two).statistic
    return float(wins) / (len(one) * len(two))


def test_estimates_are_scipys() -> None:
    assert len(np.intersect1d(ONE, TWO)) > 1
    of_one, of_two = comparison.resampled(ONE, 0), comparison.resampled(TWO, 1)
    assert of_one.shape == (10_000, 9) and set(of_one.flat) == set(ONE.tolist())
    found = comparison.against(ONE, of_one, TWO, of_two)
    assert comparison.iqm(ONE, of_one).value == pytest.approx(trimmed(ONE))
    assert found.difference.value == pytest.approx(trimmed(ONE) - trimmed(TWO))
    assert found.improvement.value == pytest.approx(won(ONE, TWO))
    few = slice(0, 300)
    pairs = list(zip(of_one[few], of_two[few], strict=True))
    some = comparison.against(ONE, of_one[few], TWO, of_two[few])
    for estimate, of_pair in (
        (some.difference, lambda a, b: trimmed(a) - trimmed(b)),
        (some.improvement, won),
    ):
        expected = np.percentile([of_pair(*pair) for pair in pairs], [2.5, 97.5])
        np.testing.assert_allclose(estimate[1:], expected, atol=1e-12)


@pytest.mark.parametrize("of_pair", [lambda a, b: trimmed(a) - trimmed(b), won])
def test_intervals_are_those_of_all_resamples(
    of_pair: Callable[[np.ndarray, np.ndarray], float],
) -> None:
    """Of three seeds there are 27: the interval's ends are where 2.5% of all pairs lie beyond."""
    one, two = np.array([0.3, 1.7, 4.1]), np.array([-0.9, 0.8, 2.2])
    every = [np.array(list(product(values, repeat=3))) for values in (one, two)]
    exact = np.array([of_pair(a, b) for a, b in product(*every)])
    found = comparison.against(one, comparison.resampled(one, 0), two, comparison.resampled(two, 1))
    estimate = found.improvement if of_pair is won else found.difference
    for end, beyond in (
        (estimate.low, exact < estimate.low),
        (estimate.high, exact > estimate.high),
    ):
        within = np.isclose(exact, end).mean()
        assert beyond.mean() < 0.03 and beyond.mean() + within > 0.02
    assert estimate.low < of_pair(one, two) < estimate.high


def test_resamples_of_runs_are_not_paired() -> None:
    values = np.arange(8.0)
    same = comparison.against(
        values, comparison.resampled(values, 0), values, comparison.resampled(values, 1)
    )
    assert same.difference.value == 0 and same.improvement.value == 0.5
    assert same.difference.low < -1 and same.difference.high > 1
    np.testing.assert_array_equal(comparison.resampled(values, 1), comparison.resampled(values, 1))


def test_many_seeds_are_compared_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = RNG.normal(size=(50, 7)), RNG.normal(size=(50, 5))
    whole = comparison.improvement(one, two)
    monkeypatch.setattr(comparison, "_AT_ONCE", 7 * 5 * 3)
    np.testing.assert_array_equal(comparison.improvement(one, two), whole)
