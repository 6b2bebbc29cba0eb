"""The attention critic against MAAC's loops, and its counterfactuals against enumeration."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.networks.critic import AttentionCritic, CriticTrace
from tests.networks import literal, quick

HEADS, HIDDEN, ACTIONS, BATCH = 2, 8, 3, 6
OBS = (5, 3, 4, 5)


class Case(NamedTuple):
    critic: AttentionCritic
    params: Any
    x: np.ndarray
    action: np.ndarray
    """int [n, B]."""
    table: np.ndarray
    """[n, A, A]: how each action is fed to the critic."""

    @property
    def encoded(self) -> np.ndarray:
        """[n, B, A]."""
        return np.stack([self.table[i][self.action[i]] for i in range(len(self.x))])

    def trace(self, encoded: np.ndarray | None = None) -> CriticTrace:
        encoded = self.encoded if encoded is None else encoded
        return forward(self.critic, self.params, as_f32(self.x), as_f32(encoded))

    def effect(self, policy: np.ndarray) -> np.ndarray:
        arguments = jnp.asarray(self.action), as_f32(policy), as_f32(self.table)
        return np.asarray(counterfactual(self.critic, self.params, self.trace(), *arguments))


def as_f32(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


@partial(quick.jit, static_argnums=0)
def forward(critic: AttentionCritic, *arguments: Any) -> CriticTrace:
    return critic.apply(*arguments)


@partial(quick.jit, static_argnums=0)
def counterfactual(critic: AttentionCritic, *arguments: Any) -> jax.Array:
    return critic.apply(*arguments, method=AttentionCritic.counterfactual_effect)


@cache
def make(num_agents: int, sharpness: float = 1.0) -> Case:
    """Random weights; ``sharpness`` multiplies queries and keys, so logits by its square."""
    rng = np.random.default_rng(num_agents)
    sizes = OBS[:num_agents]
    critic = AttentionCritic(sizes, ACTIONS, HIDDEN, HEADS, ACTIONS)
    x = rng.normal(size=(num_agents, BATCH, max(sizes)))
    for i, size in enumerate(sizes):
        x[i, :, size:] = 0
    action = rng.integers(0, ACTIONS, (num_agents, BATCH))
    table = np.eye(ACTIONS)[None] * rng.uniform(1, 3, (num_agents, 1, ACTIONS)) - 0.5
    params = quick.jit(critic.init)(jax.random.key(num_agents), x, table[:, action[0]])
    for name in ("query", "key"):
        params["params"][name]["kernel"] *= sharpness
    return Case(critic, params, x, action, table)


@pytest.mark.parametrize("sharpness", [1.0, 8.0])
@pytest.mark.parametrize("num_agents", [2, 3, 4])
def test_values_and_attention_are_maacs(num_agents: int, sharpness: float) -> None:
    case = make(num_agents, sharpness)
    trace = case.trace()
    params = literal.as_numpy(case.params)
    q, logits = literal.critic(params, case.x, case.encoded, HEADS)
    np.testing.assert_allclose(trace.q, q, atol=1e-5)
    np.testing.assert_allclose(trace.logits, logits, rtol=1e-4, atol=1e-5)
    weights = np.asarray(trace.weights)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0, atol=1e-6)
    assert (weights[np.eye(num_agents, dtype=bool)] == 0).all()
    scaled = logits / np.sqrt(HIDDEN // HEADS)
    for i in range(num_agents):
        others = [j for j in range(num_agents) if j != i]
        expected = literal.softmax(np.moveaxis(scaled[i, others], 0, -1))
        np.testing.assert_allclose(np.moveaxis(weights[i, others], 0, -1), expected, atol=1e-5)


def test_an_agent_does_not_see_its_own_action_but_everybody_elses() -> None:
    case = make(3)
    before = np.asarray(case.trace().q)
    for i in range(3):
        changed = case.encoded.copy()
        changed[i] = 10.0
        after = np.asarray(case.trace(changed).q)
        np.testing.assert_array_equal(after[i], before[i])
        for j in set(range(3)) - {i}:
            assert np.abs(after[j] - before[j]).max() > 1e-3


def brute_force(case: Case, policy: np.ndarray) -> np.ndarray:
    """|Σ_u π_j(u) Q_i(o, (u, a_{-j})) − Q_i(o, a)| by running the NumPy critic n·A times."""
    num_agents = len(case.x)
    params = literal.as_numpy(case.params)
    rows = np.arange(BATCH)
    actual = literal.critic(params, case.x, case.encoded, HEADS)[0]
    out = np.zeros((num_agents, num_agents, BATCH))
    for j in range(num_agents):
        marginal = np.zeros((num_agents, BATCH))
        for u in range(ACTIONS):
            changed = case.encoded.copy()
            changed[j] = case.table[j, u]
            q = literal.critic(params, case.x, changed, HEADS)[0]
            for i in range(num_agents):
                marginal[i] += policy[j, :, u] * q[i, rows, case.action[i]]
        for i in set(range(num_agents)) - {j}:
            out[i, j] = np.abs(marginal[i] - actual[i, rows, case.action[i]])
    return out


@pytest.mark.parametrize("sharpness", [1.0, 3.0, 6.0, 20.0])
@pytest.mark.parametrize("num_agents", [2, 3, 4])
def test_counterfactual_effect_is_exact(num_agents: int, sharpness: float) -> None:
    case = make(num_agents, sharpness)
    policy = literal.softmax(np.random.default_rng(1).normal(size=(num_agents, BATCH, ACTIONS)))
    got = case.effect(policy)
    expected = brute_force(case, policy)
    np.testing.assert_allclose(got, expected, atol=2e-5)
    assert expected.max() > 1e-2


def test_counterfactual_effect_vanishes_for_a_policy_that_always_does_this() -> None:
    case = make(3)
    got = case.effect(np.eye(ACTIONS)[case.action])
    np.testing.assert_allclose(got, 0.0, atol=1e-6)
