"""PPO's clipping, the Huber loss and the normalisation of returns."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamt_jax.ops import proximal

RATIO = np.array([0.5, 0.7, 1.0, 1.3, 1.5] * 2)
ADVANTAGE = np.array([2.0] * 5 + [-2.0] * 5)
LOG_OLD = np.full(10, -1.2)


def inputs() -> tuple[jax.Array, ...]:
    rows = (LOG_OLD + np.log(RATIO), LOG_OLD, ADVANTAGE)
    return tuple(jnp.asarray(row, jnp.float32)[None] for row in rows)


def test_clipping_by_hand() -> None:
    """ε = 0.4: a positive advantage pays up to 1.4, a negative one costs down from 0.6."""
    got = proximal.clipped_objective(*inputs(), 0.4)[0]
    positive = [1.0, 1.4, 2.0, 2.6, 2.8]
    negative = [-1.2, -1.4, -2.0, -2.6, -3.0]
    np.testing.assert_allclose(got, positive + negative, rtol=1e-6)
    binds = proximal.clip_binds(*inputs(), 0.4)[0]
    assert binds.tolist() == [False] * 4 + [True] + [True] + [False] * 4


def test_where_the_clip_binds_nothing_pulls_and_a_wider_one_would_pay() -> None:
    log_prob, log_old, advantage = inputs()

    def total(log_prob: jax.Array, clip: jax.Array) -> jax.Array:
        return jnp.sum(proximal.clipped_objective(log_prob, log_old, advantage, clip))

    by_policy, by_clip = jax.grad(total, argnums=(0, 1))(log_prob, jnp.float32(0.4))
    binds = np.asarray(proximal.clip_binds(log_prob, log_old, advantage, 0.4))[0]
    np.testing.assert_allclose(by_policy[0], np.where(binds, 0, RATIO * ADVANTAGE), rtol=1e-5)
    width = 1e-2
    wider, narrower = (float(total(log_prob, jnp.float32(0.4 + s * width))) for s in (1, -1))
    expected = np.abs(ADVANTAGE[binds]).sum()
    np.testing.assert_allclose((wider - narrower) / (2 * width), expected, rtol=1e-3)
    np.testing.assert_allclose(by_clip, expected, rtol=1e-5)


def test_huber_by_hand() -> None:
    """½e² up to δ, then δ(|e| − δ/2); its slope is e, then δ."""
    error = jnp.array([-30.0, -10.0, -3.0, 0.0, 0.5, 12.0])
    expected = [10 * (30 - 5), 50, 4.5, 0, 0.125, 10 * (12 - 5)]
    loss = lambda e, delta: proximal.huber(e, jnp.zeros_like(e), delta)  # noqa: E731
    np.testing.assert_allclose(loss(error, 10.0), expected)
    np.testing.assert_allclose(loss(error, 1.0), [29.5, 9.5, 2.5, 0, 0.125, 11.5], rtol=1e-6)
    slope = jax.grad(lambda e: jnp.sum(loss(e, 10.0)))(error)
    np.testing.assert_allclose(slope, [-10, -10, -3, 0, 0.5, 10])


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**31 - 1), st.integers(1, 4))
def test_moments_of_returns_are_weighted_means(seed: int, rollouts: int) -> None:
    """Weights 0.99^age, adding up to one whatever the number of rollouts."""
    data = np.random.default_rng(seed).normal(3.0, 5.0, (rollouts, 2, 7))
    moments = proximal.init_return_moments(2)
    for rows in data:
        moments = proximal.add_returns(moments, jnp.asarray(rows, jnp.float32), None)
    weight = 0.99 ** np.arange(rollouts)[::-1]
    weight /= weight.sum()
    mean = np.einsum("r,rnb->n", weight, data) / 7
    square = np.einsum("r,rnb->n", weight, data**2) / 7
    got_mean, got_std = moments.mean_and_std()
    np.testing.assert_allclose(got_mean, mean, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(got_std, np.sqrt(square - mean**2), rtol=1e-3)


def test_before_any_return_nothing_is_scaled() -> None:
    mean, std = proximal.init_return_moments(3).mean_and_std()
    assert mean.tolist() == [0, 0, 0] and std.tolist() == [1, 1, 1]


def test_absent_agents_returns_do_not_count() -> None:
    returns = jnp.array([[1.0, 3.0, 100.0], [2.0, 2.0, 5.0]])
    alive = jnp.array([[True, True, False], [True, True, True]])
    moments = proximal.add_returns(proximal.init_return_moments(2), returns, alive)
    np.testing.assert_allclose(moments.mean_and_std()[0], [2, 3], rtol=1e-5)
    np.testing.assert_allclose(proximal.standardise(returns, alive)[0], [-1, 1, 0], rtol=1e-5)


@pytest.mark.parametrize(
    ("predicted", "expected"), [([1, 2, 3, 4], 1.0), ([2, 2, 2, 2], 0.0), ([4, 3, 2, 1], -3.0)]
)
def test_explained_variance(predicted: list[float], expected: float) -> None:
    target = jnp.array([[1.0, 2.0, 3.0, 4.0]])
    got = proximal.explained_variance(jnp.array([predicted], jnp.float32), target, None)
    np.testing.assert_allclose(got, [expected], atol=1e-6)
