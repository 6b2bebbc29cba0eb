"""MAPPO learns what it learns in PyTorch, from the same weights, rollouts and random numbers.

The expected numbers are files, as in ``tests/test_torch_parity.py``.
"""

from __future__ import annotations

import jax
import pytest

from benchmarks.torch_reference.cases import PROXIMAL, PROXIMAL_CASES
from benchmarks.torch_reference.parity import GOLDEN, below, proximal
from benchmarks.torch_reference.states import read
from mamt_jax.settings import Learning
from tests.networks import quick
from tests.test_torch_parity import assert_small


@pytest.mark.parametrize("name", PROXIMAL_CASES)
def test_updates(name: str) -> None:
    case = PROXIMAL_CASES[name]
    with jax.enable_x64(case.precision == "float64"):
        assert_small(proximal(case, read(GOLDEN / f"{name}.npz"), quick.jit))


@pytest.mark.parametrize("name", PROXIMAL_CASES)
def test_what_the_files_hold_is_no_idle_update(name: str) -> None:
    """Ratios and gradients are clipped, and every weight moves that is read."""
    arrays, case = read(GOLDEN / f"{name}.npz"), PROXIMAL_CASES[name]
    assert arrays["metrics3/clip_fraction"].mean() > 0.05
    assert (arrays["metrics3/policy_grad_norm"] > PROXIMAL[Learning].policy_clip).any()
    limit = PROXIMAL[Learning].critic_clip_per_agent * len(case.obs_sizes)
    assert (arrays["metrics3/critic_grad_norm"] > limit).any()
    before, after = below(arrays, "initial"), below(arrays, "after3")
    assert before.keys() == after.keys()
    still = {name for name, values in after.items() if (values == before[name]).all()}
    unread = {"critic/query/kernel", "critic/key/kernel"}  # one opponent has all the attention
    assert still == (unread if len(case.obs_sizes) == 2 else set())
