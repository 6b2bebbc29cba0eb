"""Linear layers, their initialisation, and input normalisation."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.networks import layers
from mamt_jax.networks.layers import AgentDense, NormState, SharedDense
from tests.networks import literal, quick

KEY = jax.random.key(0)


def test_leaky_relu_has_slope_one_hundredth() -> None:
    np.testing.assert_allclose(layers.leaky_relu(jnp.array([-2.0, 0.0, 3.0])), [-0.02, 0.0, 3.0])


@pytest.mark.parametrize("features", [400])
def test_initialisation_is_pytorchs_uniform(features: int) -> None:
    """U(±1/√fan_in) for kernel and bias: bounds are met, and the spread is that of a uniform."""
    params = quick.jit(AgentDense(features).init)(KEY, jnp.zeros((2, 1, 16)))["params"]
    for leaf in (params["kernel"], params["bias"]):
        for agent in np.asarray(leaf):
            assert 0.24 < np.abs(agent).max() <= 0.25
            np.testing.assert_allclose(agent.std(), 0.25 / np.sqrt(3), rtol=0.1)
            assert abs(agent.mean()) < 0.03
    assert not np.allclose(params["kernel"][0], params["kernel"][1])  # agents differ
    shared = quick.jit(SharedDense(features).init)(KEY, jnp.zeros((2, 1, 16)))["params"]
    assert shared["kernel"].shape == (16, features) and shared["bias"].shape == (features,)
    assert 0.24 < np.abs(shared["kernel"]).max() <= 0.25


def test_each_agents_scale_follows_its_own_fan_in() -> None:
    """Padding to 16 inputs must not shrink the weights of an agent that has four."""
    params = quick.jit(AgentDense(500, fan_in=(4, 16)).init)(KEY, jnp.zeros((2, 1, 16)))["params"]
    for leaf in (params["kernel"], params["bias"]):
        for agent, bound in zip(np.asarray(leaf), (0.5, 0.25), strict=True):
            assert 0.97 * bound < np.abs(agent).max() <= bound


def test_one_fan_in_serves_all_agents() -> None:
    params = quick.jit(AgentDense(500, fan_in=(64,)).init)(KEY, jnp.zeros((3, 1, 16)))["params"]
    kernel = params["kernel"]
    assert kernel.shape == (3, 16, 500)
    assert 0.97 / 8 < np.abs(kernel).max() <= 1 / 8


def test_zero_padding_does_not_change_outputs() -> None:
    x = jax.random.normal(KEY, (2, 5, 6)).at[0, :, 4:].set(0.0)
    layer = AgentDense(3, fan_in=(4, 6))
    params = quick.jit(layer.init)(KEY, x)
    out = layer.apply(params, x)
    kernel, bias = params["params"]["kernel"][0, :4], params["params"]["bias"][0]
    np.testing.assert_allclose(out[0], x[0, :, :4] @ kernel + bias, atol=1e-6)


@pytest.mark.parametrize("shape", [(2, 4), (2, 5, 4), (2, 3, 5, 4)])
def test_agent_dense_applies_each_agents_map(shape: tuple[int, ...]) -> None:
    x = jax.random.normal(KEY, shape)
    layer = AgentDense(3)
    params = quick.jit(layer.init)(KEY, x)
    kernel = np.asarray(params["params"]["kernel"])
    got = layer.apply(params, x)
    for i in range(2):
        expected = np.asarray(x[i]) @ kernel[i] + params["params"]["bias"][i]
        np.testing.assert_allclose(got[i], expected, atol=1e-5)


def test_positive_kernels_are_even_and_never_negative() -> None:
    kernel = jax.random.normal(KEY, (2, 5, 3))
    np.testing.assert_array_equal(layers.positive(kernel), layers.positive(-kernel))
    assert (np.asarray(layers.positive(kernel)) > 0).all()
    assert not layers.positive(jnp.zeros((5, 3))).any()


def test_batch_norm_matches_numpy_and_keeps_constant_inputs_at_zero() -> None:
    x = np.random.default_rng(0).normal(3.0, 2.0, (2, 50, 3))
    x[1, :, 2] = 7.0  # padding is such a constant
    got, stats = layers.batch_norm(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, literal.batch_norm(x), atol=1e-5)
    np.testing.assert_array_equal(got[1, :, 2], 0.0)
    np.testing.assert_allclose(stats.mean, x.mean(axis=1), rtol=1e-5)
    np.testing.assert_allclose(stats.var, x.var(axis=1), rtol=1e-4)  # biased, as flax


def test_running_statistics_move_by_a_tenth() -> None:
    running = layers.init_norm(2, 3)
    np.testing.assert_array_equal(running.mean, 0.0)
    np.testing.assert_array_equal(running.var, 1.0)
    batch = NormState(jnp.full((2, 3), 2.0), jnp.full((2, 3), 5.0))
    moved = layers.update_norm(running, batch)
    np.testing.assert_allclose(moved.mean, 0.2, rtol=1e-6)
    np.testing.assert_allclose(moved.var, 1.4, rtol=1e-6)
    again = layers.update_norm(moved, batch)
    np.testing.assert_allclose(again.mean, 0.9 * 0.2 + 0.1 * 2.0, rtol=1e-6)


def test_running_statistics_normalise_per_agent() -> None:
    stats = NormState(jnp.array([[1.0], [2.0]]), jnp.array([[4.0], [9.0]]))
    got = layers.apply_norm(stats, jnp.full((2, 3, 1), 5.0))
    np.testing.assert_allclose(got[:, 0, 0], [4 / np.sqrt(4 + 1e-5), 3 / np.sqrt(9 + 1e-5)])
