"""Modelling policies: what they learn, and what is measured with them (Eq. 6)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.algorithms.nonstationarity import modelled_nonstationarity
from mamt_jax.algorithms.parts import Samples, View
from mamt_jax.networks.layers import batch_norm
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import literal, quick

SIZES, COUNTS, BATCH = (3, 2, 3), (3, 2, 3), 6


def view(x: Any, action: Any, log_policy: Any, recent: tuple[Any, Any] | None = None) -> View:
    """A view with what a modelling policy needs, and nothing else."""
    samples = None
    if recent is not None:
        samples = Samples(jnp.asarray(recent[0], jnp.float32), jnp.asarray(recent[1]), None)
    return tiny.empty_view(
        x=jnp.asarray(x, jnp.float32),
        action=jnp.asarray(action),
        log_policy=jnp.asarray(log_policy, jnp.float32),
        recent=samples,
    )


def weighed(view: View, weight: Any) -> View:
    """With these coordination coefficients."""
    return view._replace(coordination=jnp.asarray(weight))


def random_view(seed: int, recent: bool = False) -> View:
    rng = np.random.default_rng(seed)

    def draws() -> tuple[Any, Any]:
        x = rng.normal(size=(3, BATCH, 3))
        x[1, :, 2] = 0
        return x, rng.integers(0, np.array(COUNTS)[:, None], (3, BATCH))

    logits = rng.normal(size=(3, BATCH, 3))
    logits[1, :, 2] = -1e9
    return view(*draws(), jax.nn.log_softmax(logits), draws() if recent else None)


def literal_nonstationarity(params: Any, view: View, weight: np.ndarray) -> np.ndarray:
    """Σ_j C_ij KL[h_i(·|o_i, j) ‖ π_j(·|o_j)] with impossible actions left out."""
    logits = literal.modelling(literal.as_numpy(params), np.asarray(view.x, np.float64))
    out = np.zeros((3, BATCH))
    for (i, j), values in logits.items():
        count = COUNTS[j]
        h = literal.softmax(values[:, :count])
        policy = np.exp(np.asarray(view.log_policy, np.float64))[j, :, :count]
        out[i] += weight[i, j] * np.sum(h * np.log(h / policy), axis=1)
    return out


def test_it_is_the_weighted_divergence_to_todays_policies() -> None:
    """Measured before h steps; with an agent that has fewer actions."""
    weight = np.random.default_rng(1).uniform(size=(3, 3, BATCH)) * (1 - np.eye(3))[:, :, None]
    seen = random_view(0)
    for maximum in (100.0, 0.3):
        settings = tiny.hyper(nonstationarity_max=maximum)
        part = modelled_nonstationarity(Game(SIZES, COUNTS), settings)
        state = quick.jit(part.init)(jax.random.key(0))
        _, got, _ = quick.jit(part.measure)(state, weighed(seen, weight))
        expected = literal_nonstationarity(state.params, seen, weight)
        np.testing.assert_allclose(got, np.minimum(expected, maximum), rtol=1e-4)
        assert (expected > 0.3).any()


def test_recent_transitions_train_but_do_not_measure() -> None:
    weight = np.ones((3, 3, BATCH)) * (1 - np.eye(3))[:, :, None]
    part = modelled_nonstationarity(Game(SIZES, COUNTS), tiny.hyper(modelling_recent=100))
    state = quick.jit(part.init)(jax.random.key(0))
    measure = quick.jit(part.measure)
    seen = random_view(0, recent=True)
    stepped, got, metrics = measure(state, weighed(seen, weight))
    np.testing.assert_allclose(got, literal_nonstationarity(state.params, seen, weight), rtol=1e-4)
    logits = literal.modelling(literal.as_numpy(state.params), np.asarray(seen.recent.x))
    for i in range(3):
        entropies = []
        for j in set(range(3)) - {i}:
            h = literal.softmax(logits[i, j][:, : COUNTS[j]])
            entropies.append(-np.log(h[np.arange(BATCH), seen.recent.action[j]]))
        np.testing.assert_allclose(metrics["modelling_loss"][i], np.mean(entropies), rtol=1e-4)
    elsewhere = seen._replace(x=seen.x + 1.0, action=1 - seen.action)
    jax.tree.map(
        np.testing.assert_array_equal, measure(state, weighed(elsewhere, weight))[0], stepped
    )


def test_modelling_policies_learn_the_replays_distribution() -> None:
    """On a fixed batch h_i(·|o_i, j) tends to the frequencies of a_j given o_i, for every pair."""
    rng = np.random.default_rng(0)
    size, contexts = 400, 2
    context = rng.integers(0, contexts, size)
    chances = rng.dirichlet(np.ones(3), (3, contexts))
    action = np.array([[rng.choice(3, p=chances[j, c]) for c in context] for j in range(3)])
    x, _ = batch_norm(jnp.asarray(np.broadcast_to(np.eye(2)[context], (3, size, 2)), jnp.float32))
    uniform = np.full((3, size, 3), -np.log(3))
    seen = view(x, action, uniform)
    settings = tiny.hyper(hidden_size=8, learning_rate=2e-2, modelling_regularisation=0.0)
    part = modelled_nonstationarity(Game((2,) * 3, (3,) * 3), settings)
    weight = jnp.ones((3, 3, size)) * (1 - jnp.eye(3))[:, :, None]

    @quick.jit
    def learn(key: jax.Array) -> tuple[Any, jax.Array]:
        def body(state: Any, _: None) -> tuple[Any, jax.Array]:
            state, _, metrics = part.measure(state, weighed(seen, weight))
            return state, metrics["modelling_loss"]

        return jax.lax.scan(body, part.init(key), None, length=300)

    state, losses = learn(jax.random.key(0))
    assert (losses[-1] < losses[0]).all()
    logits = literal.modelling(literal.as_numpy(state.params), np.asarray(x))
    for (_, j), values in logits.items():
        for c in range(contexts):
            got = literal.softmax(values)[context == c][0]
            frequency = np.bincount(action[j][context == c], minlength=3) / (context == c).sum()
            np.testing.assert_allclose(got, frequency, atol=0.03)
