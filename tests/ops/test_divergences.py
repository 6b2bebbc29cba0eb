"""Divergences against literal formulas in NumPy."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamt_jax.ops import divergences

PROBABILITIES = np.array([1.0, 0.9, 0.5, 0.2, 0.01, 1e-4])


def random_log_probs(seed: int, shape: tuple[int, ...], scale: float = 2.0) -> np.ndarray:
    logits = np.random.default_rng(seed).normal(size=shape) * scale
    return logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))


def kl(p: np.ndarray, q: np.ndarray) -> float:
    return sum(float(a * np.log(a / b)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("q", [0.0, 0.2, 0.5, 1.5, 2.0])
def test_tsallis_log_is_the_literal_formula(q: float) -> None:
    expected = (PROBABILITIES ** (1 - q) - 1) / (1 - q)
    got = divergences.tsallis_log(jnp.log(PROBABILITIES), q)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("q", [1.0, 1.0 - 1e-4, 1.0 + 1e-4])
def test_tsallis_log_tends_to_the_natural_logarithm(q: float) -> None:
    got = divergences.tsallis_log(jnp.log(PROBABILITIES), q)
    np.testing.assert_allclose(got, np.log(PROBABILITIES), rtol=1e-3)
    if q == 1.0:
        np.testing.assert_array_equal(got, jnp.log(PROBABILITIES))


def exact(log_x: np.ndarray, q: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log_q x and its derivatives in log x and in q, in float64; power series near q = 1."""
    s = 1.0 - q
    z = s * log_x
    terms = [z**k / math.factorial(k + 1) for k in range(30)]
    value = np.where(np.abs(z) < 1, log_x * sum(terms), np.expm1(z) / (s or 1.0))
    terms = [(k + 1) * z**k / math.factorial(k + 2) for k in range(30)]
    far = (z * np.exp(z) - np.expm1(z)) / np.where(z == 0, 1.0, z) ** 2
    return value, np.exp(z), -(log_x**2) * np.where(np.abs(z) < 1, sum(terms), far)


ORDERS = [0.0, 0.2, 0.9, 0.99, 0.999999, 1.0, 1.000001, 1.001, 1.3]


def test_tsallis_log_and_its_slopes_where_q_is_traced() -> None:
    """One program for all q: at 1, near it, and far from it."""
    log_x = np.log(np.array([1.0, 0.999, 0.9, 0.5, 0.2, 0.01, 1e-4, 1e-9]))

    @jax.jit
    def everything(log_x: jax.Array, q: jax.Array) -> tuple[jax.Array, ...]:
        by_both = jax.vmap(jax.grad(divergences.tsallis_log, argnums=(0, 1)), (0, None))
        return divergences.tsallis_log(log_x, q), *by_both(log_x, q)

    for order in ORDERS:
        q = np.float32(order)
        got = everything(jnp.asarray(log_x, jnp.float32), q)
        for name, one, other in zip(
            ("value", "in log x", "in q"), got, exact(log_x, float(q)), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=2e-5, atol=1e-9, err_msg=f"{name}, {q}")
    assert everything._cache_size() == 1


def test_the_slope_in_q_is_that_of_the_value() -> None:
    """By central differences in float64, across q = 1 too."""
    log_x, width = np.log(np.array([0.9, 0.3, 1e-3])), 1e-5
    for q in (0.2, 0.97, 1.0, 1.2):
        up, down = (exact(log_x, q + sign * width)[0] for sign in (1, -1))
        np.testing.assert_allclose(exact(log_x, q)[2], (up - down) / (2 * width), rtol=1e-5)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.0, 0.95), st.floats(-6.0, 0.0), st.floats(0.05, 5.0))
def test_tsallis_log_grows_and_vanishes_at_one(q: float, log_x: float, gap: float) -> None:
    low, high, one = np.asarray(
        divergences.tsallis_log(jnp.asarray([log_x, log_x + gap, 0.0], jnp.float32), q)
    )
    assert one == 0
    assert low < high
    assert low >= log_x - 1e-5  # ln x is the tangent from below: log_q x >= ln x for q <= 1


def test_tsallis_divergence_is_antisymmetric_and_has_the_sign_of_the_change() -> None:
    new, old = jnp.log(jnp.array([0.5, 0.2, 0.3])), jnp.log(jnp.array([0.3, 0.2, 0.5]))
    got = divergences.tsallis_divergence(new, old, 0.2)
    np.testing.assert_allclose(got, (np.exp(new) ** 0.8 - np.exp(old) ** 0.8) / 0.8, atol=1e-6)
    np.testing.assert_allclose(got, -divergences.tsallis_divergence(old, new, 0.2), atol=1e-7)
    assert got[0] > 0 and got[1] == 0 and got[2] < 0


def test_categorical_kl_matches_numpy_with_zero_probabilities() -> None:
    p, q = np.exp(random_log_probs(0, (7, 4))), np.exp(random_log_probs(1, (7, 4)))
    p[3] = [0.0, 0.5, 0.5, 0.0]
    with np.errstate(divide="ignore"):
        got = divergences.categorical_kl(jnp.log(p), jnp.log(q))
    expected = [kl(a, b) for a, b in zip(p, q, strict=True)]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


_KL = jax.jit(divergences.categorical_kl)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 8.0))
def test_categorical_kl_is_zero_only_between_equals(seed: int, scale: float) -> None:
    log_p, log_q = (random_log_probs(s, (5, 3), scale) for s in (seed, seed + 1))
    got = np.asarray(_KL(log_p, log_q))
    total_variation = 0.5 * np.abs(np.exp(log_p) - np.exp(log_q)).sum(-1)
    assert (got >= 2 * total_variation**2 - 1e-5).all()  # Pinsker
    np.testing.assert_allclose(_KL(log_p, log_p), 0.0, atol=1e-7)


def test_nonstationarity_weighs_sums_and_clips() -> None:
    rng = np.random.default_rng(0)
    divergence, weight = rng.uniform(0, 4, (3, 3, 5)), rng.uniform(size=(3, 3, 5))
    weight[np.eye(3, dtype=bool)] = 0
    divergence[2, 0] *= 1000
    expected = np.zeros((3, 5))
    for i in range(3):
        for j in range(3):
            if j != i:
                expected[i] += weight[i, j] * divergence[i, j]
    got = divergences.nonstationarity(jnp.asarray(divergence), jnp.asarray(weight), 100.0)
    np.testing.assert_allclose(got, np.minimum(expected, 100.0), rtol=1e-5)
    assert (np.asarray(got)[2] == 100).any()
    # Round-off may make a divergence negative; the projection does not.
    negative = divergences.nonstationarity(-jnp.ones((2, 2, 1)), jnp.ones((2, 2, 1)), 100.0)
    np.testing.assert_array_equal(negative, 0.0)


@pytest.mark.parametrize("num_agents", [2, 3, 5])
def test_opponent_switching_cost_by_brute_force(num_agents: int) -> None:
    """The KL of the opponents' *joint* distribution, enumerated, maximised over observations."""
    before = np.exp(random_log_probs(2, (num_agents, 6, 3)))
    after = np.exp(random_log_probs(3, (num_agents, 6, 3)))
    divergence = divergences.categorical_kl(jnp.log(before), jnp.log(after))
    got = divergences.opponent_switching_cost(divergence)
    for i in range(num_agents):
        joint_costs = []
        for b in range(6):
            joint = [np.ones(1), np.ones(1)]
            for j in set(range(num_agents)) - {i}:
                joint = [
                    np.outer(joint[k], policy[j, b]).ravel()
                    for k, policy in enumerate((before, after))
                ]
            joint_costs.append(kl(*joint))
        np.testing.assert_allclose(got[i], max(joint_costs), rtol=1e-4)
