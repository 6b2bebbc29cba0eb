"""Generalised advantages against their publications' definitions, and by what these imply."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamt_jax.ops.returns import generalised_advantages

compiled = jax.jit(generalised_advantages)


def ours(
    reward: object,
    value: object,
    bootstrap: object,
    terminated: object,
    cut: object,
    discount: float,
    decay: float,
) -> np.ndarray:
    arrays = (jnp.asarray(x, jnp.float32) for x in (reward, value, bootstrap))
    ends = (jnp.asarray(x, bool) for x in (terminated, cut))
    return np.asarray(compiled(*arrays, *ends, discount, decay))


def mixture_of_n_step_returns(
    rewards: Sequence[float], values: Sequence[float], last: float, discount: float, decay: float
) -> float:
    """λ-return of the first of several steps (Sutton & Barto 2018, Eq. 12.3).

    Args:
      rewards: of all steps until the trajectory ends, K of them.
      values: of the K − 1 later steps.
      last: value after the K-th step: 0 if it terminated.
    """
    steps = len(rewards)
    after = [*values, last]

    def n_step(n: int) -> float:
        collected = sum(discount**k * rewards[k] for k in range(n))
        return collected + discount**n * after[n - 1]

    shorter = sum((1 - decay) * decay ** (n - 1) * n_step(n) for n in range(1, steps))
    return shorter + decay ** (steps - 1) * n_step(steps)


def test_by_hand() -> None:
    """Step 1 is cut off and bootstraps, step 3 terminates, step 4 is an unfinished tail."""
    got = ours(
        reward=[1, 2, 3, 4, 5],
        value=[0.5, 1, -1, 2, 0],
        bootstrap=[99, 10, 99, 99, 3],
        terminated=[0, 0, 0, 1, 0],
        cut=[0, 1, 0, 1, 0],
        discount=0.5,
        decay=0.5,
    )
    # Errors: 1 + .5 - .5 = 1; 2 + 5 - 1 = 6; 3 + 1 + 1 = 5; 4 - 2 = 2; 5 + 1.5 - 0 = 6.5.
    np.testing.assert_allclose(got, [1 + 0.25 * 6, 6, 5 + 0.25 * 2, 2, 6.5])


def random_rollout(seed: int, steps: int = 7) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    terminated, cut = rng.random((2, steps, 2)) < 0.3
    names = ("reward", "value", "bootstrap")
    numbers = dict(zip(names, rng.normal(size=(3, steps, 2)), strict=True))
    return numbers | {"terminated": terminated, "cut": cut & ~terminated}


def trajectories(rollout: dict[str, np.ndarray]) -> list[tuple[int, int, int]]:
    """(column, first step, last step) of everything that hangs together."""
    found = []
    ends = rollout["terminated"] | rollout["cut"]
    for column in range(ends.shape[1]):
        first = 0
        for t in range(len(ends)):
            if ends[t, column] or t == len(ends) - 1:
                found.append((column, first, t))
                first = t + 1
    return found


unit = st.floats(0, 1)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.99), unit)
def test_added_to_values_they_are_mixtures_of_n_step_returns(
    seed: int, discount: float, decay: float
) -> None:
    rollout = random_rollout(seed)
    got = ours(**rollout, discount=discount, decay=decay) + rollout["value"]
    for column, first, last in trajectories(rollout):
        ended = rollout["terminated"][last, column]
        after = 0.0 if ended else rollout["bootstrap"][last, column]
        for t in range(first, last + 1):
            expected = mixture_of_n_step_returns(
                rollout["reward"][t : last + 1, column].tolist(),
                rollout["value"][t + 1 : last + 1, column].tolist(),
                after,
                discount,
                decay,
            )
            np.testing.assert_allclose(got[t, column], expected, rtol=1e-4, atol=1e-4)


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**31 - 1), st.floats(0, 0.99))
def test_without_decay_values_cancel(seed: int, discount: float) -> None:
    """λ = 1: advantage plus value is the discounted return, whatever the values are."""
    rollout = random_rollout(seed)
    other = rollout | {"value": rollout["value"][::-1] * 5 + 3}
    one, two = (ours(**r, discount=discount, decay=1.0) + r["value"] for r in (rollout, other))
    np.testing.assert_allclose(one, two, rtol=1e-3, atol=1e-4)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1), unit)
def test_bootstraps_count_only_where_a_trajectory_was_cut(seed: int, decay: float) -> None:
    rollout = random_rollout(seed)
    used = rollout["cut"].copy()
    used[-1] |= ~rollout["terminated"][-1]
    other = rollout | {"bootstrap": np.where(used, rollout["bootstrap"], np.nan)}
    one, two = (ours(**r, discount=0.9, decay=decay) for r in (rollout, other))
    np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("decay", [0.0, 0.5, 1.0])
def test_a_critic_that_foresees_everything_leaves_no_advantage(decay: float) -> None:
    """Values that are the true returns: every error is 0, at every decay."""
    reward = np.random.default_rng(0).normal(size=(6, 1))
    value = np.zeros((7, 1))
    for t in reversed(range(6)):
        value[t] = reward[t] + 0.9 * value[t + 1]
    terminated = np.arange(6)[:, None] == 5
    got = ours(reward, value[:6], np.full((6, 1), 50.0), terminated, terminated, 0.9, decay)
    np.testing.assert_allclose(got, 0, atol=1e-6)
