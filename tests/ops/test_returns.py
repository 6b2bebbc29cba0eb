"""Generalised advantages, by hand and against loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamt_jax.ops.returns import generalised_advantages

compiled = jax.jit(generalised_advantages)


def ours(reward, value, next_value, terminated, finished, discount, decay) -> np.ndarray:  # type: ignore[no-untyped-def]
    arrays = (jnp.asarray(x, jnp.float32) for x in (reward, value, next_value))
    ends = (jnp.asarray(x, bool) for x in (terminated, finished))
    return np.asarray(compiled(*arrays, *ends, discount, decay))


def test_by_hand() -> None:
    """Step 1 is cut off and bootstraps, step 3 terminates, step 4 is an unfinished tail."""
    got = ours(
        reward=[1, 2, 3, 4, 5],
        value=[0.5, 1, -1, 2, 0],
        next_value=[1, 10, 2, 100, 3],
        terminated=[0, 0, 0, 1, 0],
        finished=[0, 1, 0, 1, 0],
        discount=0.5,
        decay=0.5,
    )
    # Errors: 1 + .5 - .5 = 1; 2 + 5 - 1 = 6; 3 + 1 + 1 = 5; 4 - 2 = 2; 5 + 1.5 - 0 = 6.5.
    np.testing.assert_allclose(got, [1 + 0.25 * 6, 6, 5 + 0.25 * 2, 2, 6.5])


@pytest.mark.parametrize("decay", [0.0, 1.0])
def test_extremes_of_the_decay(decay: float) -> None:
    """λ = 0: one-step errors. λ = 1: discounted rewards until the end, minus the value."""
    rng = np.random.default_rng(0)
    reward, value = rng.normal(size=(2, 4))
    next_value = np.append(value[1:], 7.0)
    never = np.zeros(4)
    got = ours(reward, value, next_value, never, never, 0.9, decay)
    if decay == 0:
        expected = reward + 0.9 * next_value - value
    else:
        sums = [
            sum(0.9**k * r for k, r in enumerate(reward[t:])) + 0.9 ** (4 - t) * 7.0
            for t in range(4)
        ]
        expected = np.array(sums) - value
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.99), st.floats(0, 1))
def test_against_a_sum_over_every_later_step(seed: int, discount: float, decay: float) -> None:
    """A_t = Σ_k (γλ)^k δ_{t+k}, up to the first step that ends anything."""
    rng = np.random.default_rng(seed)
    reward, value, next_value = rng.normal(size=(3, 6, 2))
    terminated, cut = rng.random((2, 6, 2)) < 0.3
    finished = terminated | cut
    error = reward + discount * np.where(terminated, 0, next_value) - value
    expected = np.zeros((6, 2))
    for t in range(6):
        for column in range(2):
            for k in range(t, 6):
                expected[t, column] += (discount * decay) ** (k - t) * error[k, column]
                if finished[k, column]:
                    break
    got = ours(reward, value, next_value, terminated, finished, discount, decay)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-5)
    # An agent's own end need not be the episode's.
    alone = ours(reward, value, next_value, terminated, cut, discount, decay)
    np.testing.assert_allclose(alone, expected, rtol=1e-4, atol=1e-5)
