"""Gumbel-softmax: what is drawn, and the gradient that passes through."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.ops.gumbel import straight_through_gumbel_softmax


def test_draws_are_one_hot_with_the_softmaxs_probabilities() -> None:
    logits = jnp.broadcast_to(jnp.array([1.0, 0.0, -2.0, -1e9]), (20_000, 4))
    drawn = straight_through_gumbel_softmax(jax.random.key(0), logits, 0.5)
    np.testing.assert_allclose(drawn.sum(-1), 1, atol=1e-6)
    np.testing.assert_allclose(drawn.max(-1), 1, atol=1e-6)
    expected = np.exp([1.0, 0.0, -2.0]) / np.exp([1.0, 0.0, -2.0]).sum()
    np.testing.assert_allclose(drawn.mean(0), [*expected, 0], atol=0.01)  # 3 standard errors


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_gradient_is_that_of_the_relaxation(temperature: float) -> None:
    """Finite differences of softmax((logits + g)/τ) in NumPy, with the same g."""
    key, rng = jax.random.key(3), np.random.default_rng(0)
    logits, weight = rng.normal(size=(2, 5, 4))
    noise = np.asarray(jax.random.gumbel(key, (5, 4)), np.float64)

    def relaxed(logits: np.ndarray) -> float:
        e = np.exp((logits + noise) / temperature)
        return float(np.sum(weight * e / e.sum(-1, keepdims=True)))

    expected, width = np.zeros((5, 4)), 1e-6
    for index in np.ndindex(5, 4):
        step = np.zeros((5, 4))
        step[index] = width
        expected[index] = (relaxed(logits + step) - relaxed(logits - step)) / (2 * width)

    def through(logits: jax.Array) -> jax.Array:
        drawn = straight_through_gumbel_softmax(key, logits, temperature)
        return jnp.sum(jnp.asarray(weight, jnp.float32) * drawn)

    value, got = jax.value_and_grad(through)(jnp.asarray(logits, jnp.float32))
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
    hard = np.eye(4)[(logits + noise).argmax(-1)]
    np.testing.assert_allclose(value, np.sum(weight * hard), rtol=1e-5)
