"""TRD-Net against a NumPy graph convolution, and what the monotone option promises."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mamt_jax.networks.layers import positive
from mamt_jax.networks.trd_net import TRDNet
from tests.networks import literal, quick

SIZES, ACTIONS, HIDDEN, BATCH = (5, 3, 4, 2), 3, 8, 5


@partial(quick.jit, static_argnums=0)
def predict(net: TRDNet, *arguments: Any) -> jax.Array:
    return net.apply(*arguments)


def as_f32(x: np.ndarray) -> jax.Array:
    return jnp.asarray(x, jnp.float32)


@cache
def make(num_agents: int, monotone: bool, seed: int = 0) -> tuple[Any, ...]:
    """Random inputs and random weights everywhere: some may be initialised to zero."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(num_agents, BATCH, 5))
    action = rng.normal(size=(num_agents, BATCH, ACTIONS))
    weights = rng.uniform(size=(num_agents, num_agents, BATCH))
    weights *= (weights > 0.3) & ~np.eye(num_agents, dtype=bool)[:, :, None]
    log_delta = rng.normal(size=num_agents)
    net = TRDNet(SIZES[:num_agents], ACTIONS, HIDDEN, monotone)
    shapes = jax.eval_shape(net.init, jax.random.key(0), x, action, log_delta, weights)
    params = jax.tree.map(lambda leaf: as_f32(rng.uniform(-0.6, 0.6, leaf.shape)), shapes)
    return net, params, x, action, log_delta, weights


@pytest.mark.parametrize("monotone", [False, True])
@pytest.mark.parametrize("num_agents", [2, 4])
def test_prediction_is_the_weighted_graph_convolution(num_agents: int, monotone: bool) -> None:
    net, params, *inputs = make(num_agents, monotone)
    got = predict(net, params, *inputs)
    sign = (lambda kernel: np.asarray(positive(kernel))) if monotone else (lambda kernel: kernel)
    expected = literal.trd_net(literal.as_numpy(params), *inputs, sign)
    assert got.shape == (num_agents, BATCH)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
    st.lists(st.floats(0, 5), min_size=3, max_size=3),
)
def test_monotone_prediction_never_falls_as_any_delta_grows(
    seed: int, low: list[float], step: list[float]
) -> None:
    net, params, x, action, _, weights = make(3, True, seed)
    before = np.asarray(predict(net, params, x, action, np.array(low), weights))
    after = np.asarray(predict(net, params, x, action, np.array(low) + step, weights))
    assert (before >= 0).all()
    assert (after >= before - 1e-5).all()


def test_every_delta_reaches_every_prediction() -> None:
    """Own δ and, along an edge, an opponent's: the derivative that moves δ is not zero."""
    net, params, x, action, log_delta, _ = make(3, True)
    full = jnp.full((3, 3, BATCH), 0.5) * (1 - jnp.eye(3))[:, :, None]

    @quick.jit
    @jax.jacobian
    def jacobian(delta: jax.Array) -> jax.Array:
        return jnp.mean(net.apply(params, x, action, delta, full), axis=1)

    assert (np.asarray(jacobian(as_f32(log_delta))) > 0).all()


@pytest.mark.parametrize("monotone", [False, True])
def test_prediction_is_not_negative(monotone: bool) -> None:
    net, params, x, action, log_delta, weights = make(3, monotone)
    params = jax.tree.map(lambda leaf: leaf * 0, params)
    params["params"]["kl_out"]["bias"] -= 50.0
    got = np.asarray(predict(net, params, x, action, log_delta, weights))
    assert (got >= 0).all() and (got < 0.1).all()


def test_an_edge_of_weight_zero_sends_nothing() -> None:
    """C_01 = 0: agent 1's observation, action and δ do not reach KL_0; with C_01 > 0 they do."""
    net, params, x, action, log_delta, weights = make(3, False)
    # Degrees go by row: agent 1's own row stays as it is.
    cut, linked = weights.copy(), weights.copy()
    cut[0, 1], linked[0, 1] = 0.0, 0.7
    moved = [array.copy() for array in (x, action, log_delta)]
    for array in moved:
        array[1] += 2.0
    for weight, reached in ((cut, False), (linked, True)):
        before = np.asarray(predict(net, params, x, action, log_delta, weight))
        after = np.asarray(predict(net, params, *moved, weight))
        assert (np.abs(after[1] - before[1]) > 1e-4).all()
        assert (np.abs(after[0] - before[0]) > 1e-4).all() == reached
        if not reached:
            np.testing.assert_array_equal(after[0], before[0])
