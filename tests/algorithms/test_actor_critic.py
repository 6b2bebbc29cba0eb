"""One update against an independent one: NumPy losses, finite-difference gradients, PyTorch's Adam.

The NumPy side shares nothing with the library but the parameters it starts from.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.actor_critic import LearnerState
from mamt_jax.algorithms.registry import make
from mamt_jax.config import AlgorithmConfig
from mamt_jax.types import Algorithm, Batch, Game, Metrics
from tests.algorithms import gradients, tiny
from tests.networks import literal, quick

SIZES, COUNTS, BATCH = (3, 2, 3), (3, 3, 3), 6
SHARED = {"query", "key", "value", "encode_obs", "encode_action"}
SETTINGS = {
    "maac": tiny.hyper(soft_reward_scale=5.0, critic_regularisation=20.0, old_policy_period=3),
    # Clips that bite: of the critic for all agents together, of each policy on its own.
    "mamd": tiny.hyper(delta_fixed=0.7, critic_clip_per_agent=0.05, policy_clip=0.01),
}


class Outcome(NamedTuple):
    algorithm: Algorithm
    settings: AlgorithmConfig
    before: LearnerState
    batch: Batch
    after: LearnerState
    metrics: Metrics
    update: Callable[..., Any]


@cache
def outcome(name: str) -> Outcome:
    """One update with known draws."""
    settings = SETTINGS[name]
    algorithm = make(name, Game(SIZES, COUNTS), settings)
    before, batch = tiny.grown(algorithm), tiny.batch(SIZES, COUNTS, BATCH)
    update = quick.jit(algorithm.update)
    after, metrics = update(before, jax.random.key(0), batch, jnp.int32(0))
    return Outcome(algorithm, settings, before, batch, after, metrics, update)


@pytest.fixture(autouse=True)
def known_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.know_the_draws(monkeypatch)


def one_hot(action: np.ndarray) -> np.ndarray:
    """As networks are fed actions [n, B]."""
    return literal.batch_norm(np.eye(3)[action])


def pick(values: np.ndarray, action: np.ndarray) -> np.ndarray:
    return np.take_along_axis(values, action[..., None], axis=-1)[..., 0]


def agent_major(x: jax.Array) -> np.ndarray:
    return np.swapaxes(np.asarray(x, np.float64), 0, 1)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_critic_gradient(name: str) -> None:
    """Σ_i MSE(Q_i(a), y_i) + penalty; shared maps divided by n; clipped at 10·n; decay added."""
    case = outcome(name)
    settings, sample = case.settings, case.batch.sample
    alpha = 1 / settings.soft_reward_scale

    x_next = literal.batch_norm(agent_major(sample.next_obs))
    logits = literal.actor(literal.as_numpy(case.before.target_actor), x_next)
    next_action = tiny.drawn(3, BATCH, 3)
    next_log_prob = pick(np.log(literal.softmax(logits)), next_action)
    target_critic = literal.as_numpy(case.before.target_critic)
    next_q = pick(literal.critic(target_critic, x_next, one_hot(next_action), 2)[0], next_action)
    reward = (np.asarray(sample.reward) - case.batch.reward_mean) / case.batch.reward_std
    going_on = 1.0 - agent_major(sample.terminated)
    target = np.asarray(reward).T + settings.discount * going_on * (next_q - alpha * next_log_prob)

    x, action = literal.batch_norm(agent_major(sample.obs)), np.asarray(sample.action).T
    errors = []

    def loss(params: Any) -> float:
        q, attention = literal.critic(params, x, one_hot(action), 2)
        total = 0.0
        for i in range(3):
            error = np.mean((pick(q, action)[i] - target[i]) ** 2)
            others = [j for j in range(3) if j != i]
            penalty = sum(1e-3 * np.mean(attention[i, others, :, head] ** 2) for head in range(2))
            total += error + settings.critic_regularisation * penalty
            errors.append(error)
        return float(total)

    params = literal.as_numpy(case.before.critic.params)
    loss(params)
    np.testing.assert_allclose(case.metrics["critic_loss"], errors[:3], rtol=1e-4)
    gradient = gradients.differences(loss, params)
    for module in SHARED:
        gradient[module] = jax.tree.map(lambda leaf: leaf / 3, gradient[module])
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(case.metrics["critic_grad_norm"], norm, rtol=1e-3)
    limit = 3 * settings.critic_clip_per_agent
    assert (norm > limit) == (name == "mamd")
    decay = settings.critic_weight_decay
    expected = jax.tree.map(lambda g, p: g + decay * p, gradients.clipped(gradient, limit), params)
    gradients.assert_equal(gradients.seen(case.after.critic.opt_state, settings.adam_b1), expected)


@pytest.mark.parametrize("name", list(SETTINGS))
def test_policy_gradient(name: str) -> None:
    """E[log π (α log π − A)] for MAAC, E[log π (KL/δ − A)] for MAMD; clipped agent by agent."""
    case = outcome(name)
    settings = case.settings
    x = literal.batch_norm(agent_major(case.batch.sample.obs))
    action = tiny.drawn(3, BATCH, 3)
    params = literal.as_numpy(case.before.actor.params)
    log_policy = np.log(literal.softmax(literal.actor(params, x)))
    # The critic has already stepped.
    q = literal.critic(literal.as_numpy(case.after.critic.params), x, one_hot(action), 2)[0]
    advantage = pick(q, action) - np.sum(np.exp(log_policy) * q, axis=-1)
    if name == "maac":
        penalty = pick(log_policy, action) / settings.soft_reward_scale
    else:
        old = literal.softmax(literal.actor(literal.as_numpy(case.before.old_actor), x))
        power = 1 - settings.tsallis_q
        tsallis = [(pick(p, action) ** power - 1) / power for p in (np.exp(log_policy), old)]
        penalty = (tsallis[0] - tsallis[1]) / settings.delta_fixed
    weight = penalty - advantage

    def losses(params: Any) -> np.ndarray:
        logits = literal.actor(params, x)
        chosen = pick(np.log(literal.softmax(logits)), action)
        square = settings.logit_regularisation * np.mean(logits**2, axis=(1, 2))
        return np.mean(chosen * weight, axis=1) + square

    score = np.mean(pick(log_policy, action) * weight, axis=1)
    np.testing.assert_allclose(case.metrics["policy_loss"], score, rtol=1e-3, atol=1e-5)
    gradient = gradients.differences(lambda params: float(losses(params).sum()), params)
    each = [jax.tree.map(lambda leaf, i=i: leaf[i], gradient) for i in range(3)]
    clips = [gradients.clipped(agent, settings.policy_clip) for agent in each]
    expected = jax.tree.map(lambda *leaves: np.stack(leaves), *clips)
    gradients.assert_equal(gradients.seen(case.after.actor.opt_state, settings.adam_b1), expected)
    norms = [np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(agent))) for agent in each]
    np.testing.assert_allclose(case.metrics["policy_grad_norm"], norms, rtol=1e-3)
    if name == "mamd":
        assert max(norms) > settings.policy_clip


@pytest.mark.parametrize("name", list(SETTINGS))
def test_first_steps_are_adams(name: str) -> None:
    """Adam's first step is lr · g/(|g| + eps): downhill, whatever the size of the gradient."""
    case = outcome(name)
    settings = case.settings
    for before, after in (
        (case.before.actor, case.after.actor),
        (case.before.critic, case.after.critic),
    ):
        gradient = gradients.seen(after.opt_state, settings.adam_b1)

        def check(old: jax.Array, new: jax.Array, g: np.ndarray) -> None:
            step = settings.learning_rate * g / (np.abs(g) + settings.adam_eps)
            np.testing.assert_allclose(new - old, -step, atol=1e-6)

        jax.tree.map(check, before.params["params"], after.params["params"], gradient)


def test_targets_move_by_tau_and_statistics_by_a_tenth() -> None:
    case = outcome("maac")
    tau = case.settings.target_tau
    for old, online, new in (
        (case.before.target_actor, case.after.actor.params, case.after.target_actor),
        (case.before.target_critic, case.after.critic.params, case.after.target_critic),
    ):
        expected = jax.tree.map(lambda t, o: (1 - tau) * t + tau * o, old, online)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-7), new, expected)
    obs = agent_major(case.batch.sample.obs)
    np.testing.assert_allclose(case.after.norm.mean, 0.1 * obs.mean(axis=1), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(case.after.norm.var, 0.9 + 0.1 * obs.var(axis=1), rtol=1e-4)


def test_acting_normalises_with_running_statistics() -> None:
    """The greedy actions are those of the NumPy actor, on one observation as on many."""
    case = outcome("maac")
    obs = agent_major(case.batch.sample.obs)
    mean, var = (np.asarray(stat, np.float64)[:, None] for stat in case.after.norm)
    x = (obs - mean) / np.sqrt(var + 1e-5)
    logits = literal.actor(literal.as_numpy(case.after.actor.params), x)
    expected = np.argmax(logits, axis=-1).T
    np.testing.assert_array_equal(
        case.algorithm.greedy(case.after, case.batch.sample.obs), expected
    )
    single = case.algorithm.greedy(case.after, case.batch.sample.obs[:1])
    np.testing.assert_array_equal(single, expected[:1])
    assert (expected != expected[0]).any()


def test_old_policies_are_refreshed_after_every_third_update() -> None:
    """m = 3: after updates 3 and 6, to the policies that have just stepped, and never between."""
    case = outcome("maac")
    state = case.before

    def same(one: Any, two: Any) -> bool:
        return all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(two)))

    for count in range(7):
        previous = state.old_actor
        state, _ = case.update(state, jax.random.key(count), case.batch, jnp.int32(count))
        if count + 1 in (3, 6):
            assert same(state.old_actor, state.actor.params)
            assert not same(state.old_actor, previous)
        else:
            assert same(state.old_actor, previous)


def test_metrics_of_change_are_the_definitions() -> None:
    """Local KL to the old policies, and each agent's opponent switching cost."""
    case = outcome("maac")
    x = literal.batch_norm(agent_major(case.batch.sample.obs))
    new, old = (
        literal.softmax(literal.actor(literal.as_numpy(params), x))
        for params in (case.before.actor.params, case.before.old_actor)
    )
    kl = lambda p, q: np.sum(p * np.log(p / q), axis=-1)  # noqa: E731
    np.testing.assert_allclose(case.metrics["local_kl"], kl(new, old).mean(axis=1), rtol=1e-4)
    shift = kl(old, new)
    cost = [
        max(sum(shift[j, b] for j in range(3) if j != i) for b in range(BATCH)) for i in range(3)
    ]
    np.testing.assert_allclose(case.metrics["switching_cost"], cost, rtol=1e-4)
    np.testing.assert_allclose(case.metrics["switching_cost_mean"], np.mean(cost), rtol=1e-4)
    entropy = -np.sum(new * np.log(new), axis=-1).mean(axis=1)
    np.testing.assert_allclose(case.metrics["entropy"], entropy, rtol=1e-4)
