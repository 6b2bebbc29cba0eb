"""mamt_jax's update against what PyTorch computed from the same weights, batch and random numbers.

The expected numbers are files, so that PyTorch is not needed here;
``python -m benchmarks.torch_reference.golden`` writes them. How they are compared is in
``benchmarks/torch_reference/parity.py``, which ``python -m benchmarks gpu`` uses as well.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.torch_reference.cases import CASES
from benchmarks.torch_reference.parity import Difference, compare, opened, seen, updates
from tests.networks import quick

RUNS = [(name, *run) for name, case in CASES.items() for run in case.runs]


def assert_small(found: list[Difference]) -> None:
    """All differences are within their tolerances."""
    assert found
    far = {each.name: each.largest for each in found if each.too_large}
    assert not far, far


@pytest.mark.parametrize(("case", "algorithm", "precision"), RUNS)
def test_updates(case: str, algorithm: str, precision: str) -> None:
    with opened(case, precision) as golden:
        assert_small(updates(golden, algorithm, quick.jit))


SEEN = [(name, precision) for name, algorithm, precision in RUNS if algorithm == "mamt"]


@pytest.mark.parametrize(("case", "precision"), SEEN)
def test_what_the_trust_region_sees(case: str, precision: str) -> None:
    with opened(case, precision) as golden:
        assert_small(seen(golden, quick.jit))


def test_a_difference_is_seen() -> None:
    wanted = {"q": np.array([1.0, -4.0]), "local_kl": np.array([0.001])}
    actual = {"q": np.array([1.0, -4.2]), "local_kl": np.array([0.002]), "other": np.zeros(1)}
    q, kl = compare(actual, wanted, 0.02, "look/")
    assert (q.name, kl.name) == ("look/q", "look/local_kl")
    np.testing.assert_allclose((q.largest, kl.largest), (0.05, 0.01))  # of 4, and of 0.1
    assert q.too_large and not kl.too_large
    (lost,) = compare({"q": np.array([np.nan, 0.0])}, {"q": wanted["q"]}, 0.02)
    assert lost.too_large
    with pytest.raises(AssertionError):
        compare(actual, {}, 0.02)
