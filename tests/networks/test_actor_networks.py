"""Actors and modelling policies against NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.networks.policies import Actor, AttentionActor, ModellingPolicy, mask_logits
from mamt_jax.ops.coordination import opponents
from tests.networks import literal, quick

SIZES, ACTIONS, HIDDEN, BATCH = (5, 3, 4), 4, 8, 6


def observations(num_agents: int) -> np.ndarray:
    x = np.random.default_rng(0).normal(size=(num_agents, BATCH, 5))
    for i in range(num_agents):
        x[i, :, SIZES[i] :] = 0
    return x


def test_actor_is_three_layers_per_agent() -> None:
    x = observations(3)
    net = Actor(SIZES, ACTIONS, HIDDEN)
    params = quick.jit(net.init)(jax.random.key(0), jnp.asarray(x))
    expected = literal.actor(literal.as_numpy(params), x)
    np.testing.assert_allclose(quick.jit(net.apply)(params, jnp.asarray(x)), expected, atol=1e-5)


def test_padded_agents_start_at_the_scale_of_their_own_inputs() -> None:
    first = quick.jit(Actor((100, 4), 2, 50).init)(jax.random.key(0), jnp.zeros((2, 1, 100)))
    wide, narrow = np.abs(first["params"]["AgentDense_0"]["kernel"]).max(axis=(1, 2))
    assert 0.09 < wide <= 0.1 and 0.48 < narrow <= 0.5


@pytest.mark.parametrize("num_agents", [2, 3])
def test_modelling_policy_appends_the_opponents_one_hot(num_agents: int) -> None:
    x = observations(num_agents)
    net = ModellingPolicy(SIZES[:num_agents], ACTIONS, HIDDEN)
    params = quick.jit(net.init)(jax.random.key(0), jnp.asarray(x))
    got = quick.jit(net.apply)(params, jnp.asarray(x))
    expected = literal.modelling(literal.as_numpy(params), x)
    for i, row in enumerate(opponents(num_agents)):
        for place, j in enumerate(row):
            np.testing.assert_allclose(got[i, place], expected[i, j], atol=1e-5)


def test_modelling_policy_scales_with_observation_and_one_hot_together() -> None:
    init = quick.jit(ModellingPolicy((6, 1), 2, 300).init)
    params = init(jax.random.key(0), jnp.zeros((2, 1, 6)))
    for name in ("obs", "agent"):
        bounds = np.abs(params["params"][name]["kernel"]).max(axis=(1, 2))
        np.testing.assert_allclose(bounds, [1 / np.sqrt(8), 1 / np.sqrt(3)], rtol=0.03)


def test_masked_actions_have_no_probability() -> None:
    logits = jax.random.normal(jax.random.key(0), (3, BATCH, 5)) * 30
    probs = np.asarray(jax.nn.softmax(mask_logits(logits, (5, 3, 4))))
    np.testing.assert_allclose(probs[0], jax.nn.softmax(logits[0]), atol=1e-6)
    assert (probs[1, :, 3:] == 0).all() and (probs[2, :, 4:] == 0).all()
    np.testing.assert_allclose(probs[1, :, :3], jax.nn.softmax(logits[1, :, :3]), atol=1e-6)
    assert mask_logits(logits, (5, 5, 5)) is logits


@pytest.mark.parametrize(("size", "width"), [(5, 2), (37, 3)])
def test_attention_actor_attends_to_tokens_of_its_own_observation(size: int, width: int) -> None:
    """Two numbers a token, or three where there are more than 32; the last token is padded."""
    x = np.random.default_rng(0).normal(size=(3, BATCH, size))
    sizes = (size, 3, 4)
    for i, own in enumerate(sizes):
        x[i, :, own:] = 0
    net = AttentionActor(sizes, ACTIONS, HIDDEN, heads=2)
    params = quick.jit(net.init)(jax.random.key(0), jnp.asarray(x))
    expected = literal.attention_actor(literal.as_numpy(params), x, sizes, 2, width)
    np.testing.assert_allclose(quick.jit(net.apply)(params, jnp.asarray(x)), expected, atol=1e-5)
