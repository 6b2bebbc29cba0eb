"""MADDPG's update against NumPy, with agents that differ in sizes."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.algorithms.registry import make
from mamt_jax.types import Game
from tests.algorithms import gradients, tiny
from tests.networks import literal, quick

GAME, BATCH, KEY = Game((3, 2, 3), (3, 3, 2)), 6, 5
SETTINGS = tiny.settings(
    critic_clip_per_agent=0.05, policy_clip=0.05, critic_weight_decay=0.0, gumbel_temperature=0.7
)


@cache
def outcome() -> tuple[Any, Any, Any, Any]:
    algorithm = make("maddpg", GAME, SETTINGS)
    before, batch = tiny.grown(algorithm), tiny.batch(*GAME[:2], BATCH)
    after, metrics = quick.jit(algorithm.update)(before, jax.random.key(KEY), batch, jnp.int32(0))
    return before, batch, after, metrics


def rows(name: str) -> np.ndarray:
    """A field of the batch, agent-major and in float64."""
    return np.swapaxes(np.asarray(getattr(outcome()[1].sample, name), np.float64), 0, 1)


def joint(x: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Observations without padding, then everybody's one-hot actions ``[n, B, A]``: ``[B, I]``."""
    obs = [x[i, :, :size] for i, size in enumerate(GAME.obs_sizes)]
    return np.concatenate([*obs, *action], axis=1)


def logits(params: Any, x: np.ndarray) -> np.ndarray:
    out = literal.actor(literal.as_numpy(params), x)
    out[2, :, 2] = -1e9  # agent 2 has two actions
    return out


def q_values(params: Any, x: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Q_i ``[n, B]`` where all critics see the same."""
    return literal.joint_critic(params, np.stack([joint(x, action)] * 3))[..., 0]


def test_critic_gradient_and_soft_updates() -> None:
    before, batch, after, metrics = outcome()
    next_x = literal.batch_norm(rows("next_obs"))
    best = np.eye(3)[logits(before.target_actor, next_x).argmax(-1)]
    mean, std = np.asarray(batch.reward_mean)[:, None], np.asarray(batch.reward_std)[:, None]
    future = q_values(literal.as_numpy(before.target_critic), next_x, best)
    target = (rows("reward") - mean) / std + 0.99 * (1 - rows("terminated")) * future
    x, taken = literal.batch_norm(rows("obs")), np.eye(3)[rows("action").astype(int)]
    params = literal.as_numpy(before.critic.params)

    def loss(params: Any) -> float:
        return float(((q_values(params, x, taken) - target) ** 2).mean(1).sum())

    expected = gradients.clipped(gradients.differences(loss, params), 0.15)
    gradients.assert_equal(gradients.seen(after.critic.opt_state, 0.9), expected)
    error = ((q_values(params, x, taken) - target) ** 2).mean(1)
    np.testing.assert_allclose(metrics["critic_loss"], error, rtol=1e-4)
    for online, old, new in (
        (after.actor.params, before.target_actor, after.target_actor),
        (after.critic.params, before.target_critic, after.target_critic),
    ):
        moved = jax.tree.map(lambda a, b: 0.99 * b + 0.01 * a, online, old)
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), new, moved
        )


def test_policy_gradient_passes_through_the_own_action_alone() -> None:
    """∂Q_i/∂a_i by differences at the drawn actions, then through the relaxed softmax."""
    before, _, after, metrics = outcome()
    x, critic = literal.batch_norm(rows("obs")), literal.as_numpy(after.critic.params)
    noise = np.asarray(jax.random.gumbel(jax.random.key(KEY), (3, BATCH, 3)), np.float64)
    noisy = logits(before.actor.params, x) + noise
    drawn = np.eye(3)[noisy.argmax(-1)]
    assert np.ptp(noisy.argmax(-1)) > 0
    pull, width = np.zeros((3, BATCH, 3)), 1e-6
    for i in range(3):
        for u in range(3):
            step = np.zeros_like(drawn)
            step[i, :, u] = width
            up, down = (q_values(critic, x, drawn + s * step)[i] for s in (1, -1))
            pull[i, :, u] = (up - down) / (2 * width)
    soft = literal.softmax(noisy / tiny.values(SETTINGS).gumbel_temperature)
    inner = np.sum(soft * pull, axis=-1, keepdims=True)
    by_logit = soft * (pull - inner) / tiny.values(SETTINGS).gumbel_temperature / BATCH

    def loss(params: Any) -> float:
        raw = literal.actor(params, x)
        square = sum(np.mean(raw[i, :, :count] ** 2) for i, count in enumerate(GAME.action_counts))
        return float(-np.sum(by_logit * raw) + 1e-3 * square)

    whole = gradients.differences(loss, literal.as_numpy(before.actor.params))
    each = [gradients.clipped(jax.tree.map(lambda g, i=i: g[i], whole), 0.05) for i in range(3)]
    expected = jax.tree.map(lambda *g: np.stack(g), *each)
    gradients.assert_equal(gradients.seen(after.actor.opt_state, 0.9), expected)
    q = q_values(critic, x, drawn)
    np.testing.assert_allclose(metrics["policy_loss"], -q.mean(1), rtol=1e-4, atol=1e-6)
