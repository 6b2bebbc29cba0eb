"""Objectives against literal loops in NumPy, and where their gradients go."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.ops import losses

RNG = np.random.default_rng(0)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits)
    return e / e.sum(axis=-1, keepdims=True)


def test_td_target_bootstraps_unless_terminated() -> None:
    reward, next_q, log_prob = RNG.normal(size=(3, 2, 4))
    terminated = np.array([[False, True, False, True], [False, True, True, False]])
    got = losses.td_target(
        *map(jnp.asarray, (reward,)), 0.9, jnp.asarray(terminated), next_q, log_prob, 0.05
    )
    for i in range(2):
        for b in range(4):
            future = 0.0 if terminated[i, b] else 0.9 * (next_q[i, b] - 0.05 * log_prob[i, b])
            np.testing.assert_allclose(got[i, b], reward[i, b] + future, rtol=1e-5)


def test_td_target_is_a_constant() -> None:
    def total(q: jax.Array, log_prob: jax.Array) -> jax.Array:
        zero = jnp.zeros((1, 2))
        return jnp.sum(losses.td_target(zero, 0.9, jnp.zeros((1, 2), bool), q, log_prob, 0.1))

    for gradient in jax.grad(total, (0, 1))(jnp.ones((1, 2)), jnp.ones((1, 2))):
        np.testing.assert_array_equal(gradient, 0.0)


@pytest.mark.parametrize("num_agents", [2, 3, 5])
def test_attention_penalty_is_maacs_loop(num_agents: int) -> None:
    """MAAC: for each agent, 1e-3 * sum((logit ** 2).mean() for logit in its heads' logits).

    Each head's logits are [B, 1, n - 1]: the opponents, without the agent itself.
    """
    heads, batch = 4, 6
    logits = RNG.normal(size=(num_agents, num_agents, batch, heads))
    logits[np.eye(num_agents, dtype=bool)] = 0
    got = losses.attention_penalty(jnp.asarray(logits))
    for i in range(num_agents):
        others = [j for j in range(num_agents) if j != i]
        per_head = [
            np.stack([logits[i, j, :, head] for j in others], axis=-1)[:, None]
            for head in range(heads)
        ]
        expected = 1e-3 * sum((logit**2).mean() for logit in per_head)
        np.testing.assert_allclose(got[i], expected, rtol=1e-5)


def test_counterfactual_advantage_subtracts_the_policys_own_average() -> None:
    q, logits = RNG.normal(size=(2, 2, 5, 3))
    action = RNG.integers(0, 3, (2, 5))
    log_policy = np.log(softmax(logits))
    got = losses.counterfactual_advantage(
        jnp.asarray(q), jnp.asarray(log_policy), jnp.asarray(action)
    )
    for i in range(2):
        for b in range(5):
            baseline = sum(np.exp(log_policy[i, b, u]) * q[i, b, u] for u in range(3))
            np.testing.assert_allclose(got[i, b], q[i, b, action[i, b]] - baseline, atol=1e-5)


def test_select_picks_what_indexing_picks() -> None:
    values, action = RNG.normal(size=(2, 4, 3)), RNG.integers(0, 3, (2, 4))
    expected = np.take_along_axis(values, action[..., None], -1)[..., 0]
    np.testing.assert_allclose(
        losses.select(jnp.asarray(values), jnp.asarray(action)), expected, rtol=1e-6
    )


def test_score_function_loss_differentiates_log_prob_only() -> None:
    log_prob, weight = jnp.asarray(RNG.normal(size=(2, 2, 5)))
    value = losses.score_function_loss(log_prob, weight)
    np.testing.assert_allclose(value, np.mean(log_prob * weight, axis=1), rtol=1e-5)
    by_log_prob, by_weight = jax.grad(
        lambda *args: jnp.sum(losses.score_function_loss(*args)), (0, 1)
    )(log_prob, weight)
    np.testing.assert_allclose(by_log_prob, weight / 5, rtol=1e-6)
    np.testing.assert_array_equal(by_weight, 0.0)


def test_score_function_estimates_the_policy_gradient() -> None:
    """Summed over all actions with their probabilities, it is d/dθ Σ_u π(u) w(u)."""
    logits, weight = jnp.asarray(RNG.normal(size=(2, 4)))
    probs = jax.nn.softmax(logits)

    def estimate(theta: jax.Array) -> jax.Array:
        log_policy = jax.nn.log_softmax(theta)
        each = losses.score_function_loss(log_policy[:, None], weight[:, None])  # one action a row
        return jnp.sum(jax.lax.stop_gradient(probs) * each)

    exact = jax.grad(lambda theta: jnp.sum(jax.nn.softmax(theta) * weight))(logits)
    np.testing.assert_allclose(jax.grad(estimate)(logits), exact, atol=1e-6)


def test_cross_entropy_is_the_literal_one() -> None:
    logits, action = RNG.normal(size=(2, 3, 4)), RNG.integers(0, 4, (2, 3))
    expected = -np.log(np.take_along_axis(softmax(logits), action[..., None], -1)[..., 0])
    np.testing.assert_allclose(
        losses.cross_entropy(jnp.asarray(logits), jnp.asarray(action)), expected, rtol=1e-5
    )


def test_trd_loss_compares_sums_and_leaves_the_target_alone() -> None:
    predicted, found = RNG.uniform(0, 3, (2, 3, 5))
    expected = np.mean([(predicted[:, b].sum() - found[:, b].sum()) ** 2 for b in range(5)])
    value, (by_predicted, by_found) = jax.value_and_grad(losses.trd_loss, (0, 1))(
        jnp.asarray(predicted), jnp.asarray(found)
    )
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    np.testing.assert_array_equal(by_found, 0.0)
    gap = predicted.sum(0) - found.sum(0)
    np.testing.assert_allclose(by_predicted, np.tile(2 * gap / 5, (3, 1)), rtol=1e-4, atol=1e-6)
