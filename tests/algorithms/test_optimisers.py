"""The optimiser against PyTorch's Adam, and its preconditioner against its steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mamt_jax.algorithms.critics import attention_critic, scale_shared
from mamt_jax.algorithms.optimisers import (
    AdamSettings,
    Optimised,
    agent_inner,
    agent_norms,
    blend,
    clipped_adam,
    per_agent,
    preconditioner,
    step,
)
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import quick

ADAM = AdamSettings(0.01, 0.9, 1e-7)
STEPS = 6


def gradients(scale: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [scale * rng.normal(size=(3, 2)) * 4.0**k for k in range(-3, STEPS - 3)]


def pytorch_adam(
    start: np.ndarray, grads: list[np.ndarray], clip: float, decay: float
) -> np.ndarray:
    """torch.nn.utils.clip_grad_norm_ and torch.optim.Adam(weight_decay=…), line by line."""
    p, m, v = start.copy(), np.zeros_like(start), np.zeros_like(start)
    for t, grad in enumerate(grads, start=1):
        norm = np.sqrt((grad**2).sum())
        g = grad * min(1.0, clip / (norm + 1e-6))
        g = g + decay * p
        m = ADAM.b1 * m + (1 - ADAM.b1) * g
        v = 0.999 * v + (1 - 0.999) * g**2
        denominator = np.sqrt(v) / np.sqrt(1 - 0.999**t) + ADAM.eps
        p = p - ADAM.learning_rate / (1 - ADAM.b1**t) * m / denominator
    return p


def run(optimiser: optax.GradientTransformation, start: jax.Array, grads: list) -> Optimised:
    current = Optimised(start, optimiser.init(start))
    update = quick.jit(lambda current, grad: step(optimiser, current, grad))
    for grad in grads:
        current = update(current, jnp.asarray(grad, jnp.float32))
    return current


@pytest.mark.parametrize("clip", [0.3, 1e9])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_clipped_adam_steps_as_pytorch(clip: float, decay: float) -> None:
    start = np.linspace(-1, 1, 6).reshape(3, 2)
    got = run(clipped_adam(ADAM, clip, decay), jnp.asarray(start), gradients()).params
    np.testing.assert_allclose(got, pytorch_adam(start, gradients(), clip, decay), atol=2e-6)


def test_each_agent_is_clipped_by_its_own_norm() -> None:
    """Agent 1's gradients are a thousand times agent 0's: agent 0 steps as if it were alone."""
    start = np.linspace(-1, 1, 12).reshape(2, 3, 2)
    grads = [np.stack([small, 1e3 * small]) for small in gradients(0.01)]
    got = run(per_agent(clipped_adam(ADAM, 0.1)), jnp.asarray(start), grads).params
    for agent in range(2):
        alone = pytorch_adam(start[agent], [grad[agent] for grad in grads], 0.1, 0.0)
        np.testing.assert_allclose(got[agent], alone, atol=2e-6)


def test_norms_and_inner_products_stay_within_agents() -> None:
    rng = np.random.default_rng(0)
    left, right = ({"a": rng.normal(size=(2, 3, 4)), "b": rng.normal(size=(2, 5))} for _ in "lr")
    for i in range(2):
        flat = [np.concatenate([tree["a"][i].ravel(), tree["b"][i]]) for tree in (left, right)]
        np.testing.assert_allclose(agent_inner(left, right)[i], flat[0] @ flat[1], rtol=1e-4)
        norms = agent_norms(jax.tree.map(jnp.asarray, left))
        np.testing.assert_allclose(norms[i], np.linalg.norm(flat[0]), rtol=1e-5)


@pytest.mark.parametrize("clip", [0.02, 1e9])
def test_preconditioner_is_the_step_per_gradient(clip: float) -> None:
    """Without momentum a step is −P g; P's clip factor belongs to each agent."""
    adam = ADAM._replace(b1=0.0)
    optimiser = per_agent(clipped_adam(adam, clip))
    start = jnp.linspace(-1, 1, 12).reshape(2, 3, 2)
    grads = [np.stack([small, 10 * small]) for small in gradients(0.01)]
    before = run(optimiser, start, grads[:-1])
    grad = jnp.asarray(grads[-1], jnp.float32)
    after = step(optimiser, before, grad)
    scale = preconditioner(after.opt_state, grad, adam, clip)
    np.testing.assert_allclose(after.params - before.params, -scale * grad, rtol=2e-3, atol=1e-8)


@pytest.mark.parametrize("num_agents", [2, 3])
def test_shared_gradients_are_divided_by_the_number_of_agents(num_agents: int) -> None:
    """Key, query and value maps and the state-action encoders, and nothing else."""
    critic = attention_critic(Game((3,) * num_agents, (2,) * num_agents), tiny.hyper())
    params = jax.eval_shape(critic.init, jax.random.key(0))
    ones = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), params)
    scaled = scale_shared(ones, num_agents)["params"]
    assert set(scaled) == set(params["params"])
    shared = {"query", "key", "value", "encode_obs", "encode_action"}
    assert shared < set(scaled)
    for name, layer in scaled.items():
        expected = 1 / num_agents if name in shared else 1.0
        for leaf in jax.tree.leaves(layer):
            np.testing.assert_allclose(leaf, expected, err_msg=name)


def test_blend_moves_by_tau() -> None:
    got = blend({"w": jnp.array([1.0, 2.0])}, {"w": jnp.array([3.0, 0.0])}, 0.25)
    np.testing.assert_allclose(got["w"], [1.5, 1.5])
