"""C_ij from a critic, of a view that a real update has made."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.actor_critic import Networks
from mamt_jax.algorithms.coordination import critic_coordination
from mamt_jax.algorithms.trust_region import View
from mamt_jax.networks.critic import AttentionCritic
from mamt_jax.ops.coordination import relative_scores
from tests.algorithms import tiny
from tests.networks import literal, quick

SIZES, COUNTS, BATCH = (3, 2, 3), (3, 3, 3), 6


@cache
def seen() -> tuple[Networks, View]:
    return tiny.view(SIZES, COUNTS, tiny.batch(SIZES, COUNTS, BATCH))


def weights(**options: object) -> np.ndarray:
    networks, view = seen()
    settings = tiny.hyper(**options)
    coordination = critic_coordination(networks.critic, settings)
    return np.asarray(quick.jit(lambda view: coordination(view)[0])(view))


def scores(kind: str) -> np.ndarray:
    """Brute force, in NumPy: [n, n, B]."""
    _, view = seen()
    params = literal.as_numpy(view.critic_params)
    x, action = np.asarray(view.x, np.float64), np.asarray(view.action)
    policy = np.exp(np.asarray(view.log_policy, np.float64))
    one_hot = np.eye(3)[action]
    mean, spread = one_hot.mean(1, keepdims=True), np.sqrt(one_hot.var(1, keepdims=True) + 1e-5)
    rows = np.arange(BATCH)
    q = literal.critic(params, x, (one_hot - mean) / spread, 2)[0]
    out = np.zeros((3, 3, BATCH))
    for i in range(3):
        actual = q[i, rows, action[i]]
        for j in set(range(3)) - {i}:
            other = np.sum(policy[j] * q[j], axis=1)
            if kind == "counterfactual":
                other = np.zeros(BATCH)
                for u in range(3):
                    changed = one_hot.copy()
                    changed[j] = np.eye(3)[u]
                    replaced = literal.critic(params, x, (changed - mean) / spread, 2)[0]
                    other += policy[j, :, u] * replaced[i, rows, action[i]]
            out[i, j] = np.abs(other - actual)
    return out


def softmax_over_others(score: np.ndarray) -> np.ndarray:
    out = np.exp(score) * ~np.eye(3, dtype=bool)[:, :, None]
    return out / out.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("kind", ["counterfactual", "released"])
def test_coefficients_are_a_softmax_of_brute_force_scores(kind: str) -> None:
    score = scores(kind)
    raw = weights(coordination=kind, coordination_units="raw", coordination_threshold=0.0)
    np.testing.assert_allclose(raw, softmax_over_others(score), atol=1e-5)
    assert np.ptp(score[0, 1:]) > 1e-2  # else anything would pass
    relative = weights(coordination=kind, coordination_threshold=0.0)
    mean = score.sum() / (BATCH * 6)
    np.testing.assert_allclose(relative, softmax_over_others(score / mean), atol=1e-4)


def test_small_coefficients_are_cut() -> None:
    every = weights(coordination_threshold=0.0)
    threshold = float(np.median(every[every > 0]))
    cut = weights(coordination_threshold=threshold)
    np.testing.assert_allclose(cut, np.where(every >= threshold, every, 0.0), atol=1e-6)
    assert (cut == 0).sum() > (every == 0).sum()


def test_two_agents_need_no_critic() -> None:
    view = View(**dict.fromkeys(View._fields))._replace(action=jnp.zeros((2, BATCH), jnp.int32))
    got, _ = critic_coordination(None, tiny.hyper())(view)
    np.testing.assert_array_equal(got, np.broadcast_to(1 - np.eye(2)[:, :, None], (2, 2, BATCH)))


def test_relative_scores_forget_units_and_survive_zeros() -> None:
    score = np.random.default_rng(0).uniform(size=(3, 3, 4)) * (1 - np.eye(3))[:, :, None]
    one, other = relative_scores(jnp.asarray(score)), relative_scores(1e-3 * score)
    np.testing.assert_allclose(one, other, rtol=1e-5)
    np.testing.assert_allclose(np.sum(one) / 24, 1.0, rtol=1e-5)
    np.testing.assert_array_equal(relative_scores(jnp.zeros((3, 3, 4))), 0.0)


def test_counterfactuals_of_a_critic_without_own_actions() -> None:
    """The on-policy critic has one output: |V_i(a\\j) − V_i(a)| by brute force."""
    _, view = seen()
    settings = tiny.hyper(coordination_units="raw", coordination_threshold=0.0)
    critic = AttentionCritic(SIZES, 3, settings.hidden_size, settings.attention_heads, outputs=1)
    x, encoded = view.x, view.encoded_action
    params = quick.jit(critic.init)(jax.random.key(0), x, encoded)
    params = jax.tree.map(lambda leaf: 4 * leaf, params)
    given = view._replace(critic_params=params, trace=quick.jit(critic.apply)(params, x, encoded))
    got, metrics = quick.jit(critic_coordination(critic, settings))(given)
    policy, score = np.exp(np.asarray(view.log_policy)), np.zeros((3, 3, BATCH))
    for j in range(3):
        mean = np.zeros((3, BATCH))
        for u in range(3):
            changed = np.array(encoded)
            changed[j] = np.asarray(view.action_encoding)[j, u]
            values = literal.critic(literal.as_numpy(params), np.asarray(x), changed, 2)[0]
            mean += policy[j, :, u] * values[..., 0]
        score[:, j] = np.abs(mean - np.asarray(given.trace.q)[..., 0])
        score[j, j] = 0
    assert (score.mean(axis=2)[~np.eye(3, dtype=bool)] > 1e-3).all()
    np.testing.assert_allclose(got, softmax_over_others(score), atol=1e-4)
    np.testing.assert_allclose(
        metrics["coordination_score"], score.mean(axis=2), rtol=1e-3, atol=1e-5
    )
