"""Modelling policies: what they learn, and what is measured with them (Eq. 6)."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.nonstationarity import (
    Modelled,
    modelled_nonstationarity,
    opponent_of_turn,
    opponents_in_turn,
)
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
        settings = tiny.settings(nonstationarity_max=maximum)
        part = modelled_nonstationarity(Game(SIZES, COUNTS), settings)
        state = quick.jit(part.init)(jax.random.key(0))
        _, got, _ = quick.jit(part.measure)(state, weighed(seen, weight))
        expected = literal_nonstationarity(state.params, seen, weight)
        np.testing.assert_allclose(got, np.minimum(expected, maximum), rtol=1e-4)
        assert (expected > 0.3).any()


def test_recent_transitions_train_but_do_not_measure() -> None:
    weight = np.ones((3, 3, BATCH)) * (1 - np.eye(3))[:, :, None]
    part = modelled_nonstationarity(Game(SIZES, COUNTS), tiny.settings(modelling_recent=100))
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
    settings = tiny.settings(hidden_size=8, learning_rate=2e-2, modelling_regularisation=0.0)
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


@pytest.mark.parametrize("leaving", [False, True])
def test_one_opponent_a_sample_is_unbiased(leaving: bool) -> None:
    """Over all starts of the turns, gradient and loss average to those of all opponents."""
    game, size = Game((3, 2, 3, 2), (3, 2, 3, 3)), 7
    rng = np.random.default_rng(0)
    alive = jnp.asarray(rng.random((4, size)) < 0.7) if leaving else None
    x = jnp.asarray(rng.normal(size=(4, size, 3)), jnp.float32)
    action = jnp.asarray(rng.integers(0, np.array(game.action_counts)[:, None], (4, size)))
    samples = Samples(x, action, alive)
    part = Modelled(game, tiny.settings(modelling_regularisation=0.3))
    params = quick.jit(part.init)(jax.random.key(0)).params
    gradient, _, each = quick.jit(part.learn_of_all)(params, samples)
    start = np.arange(3)[:, None, None]  # the same of every agent: they learn apart
    turns = opponent_of_turn(jnp.asarray(start + np.zeros((3, 4, 1), int)), size)
    of_one = quick.jit(jax.vmap(part.learn_of_one, (None, None, 0)))(params, samples, turns)
    mean = jax.tree.map(lambda leaf: jnp.mean(leaf, axis=0), of_one)
    chex.assert_trees_all_close(mean, (gradient, each), rtol=1e-5, atol=1e-6)
    assert np.ptp(of_one[1], axis=0).min() > 1e-3


def test_opponents_take_turns() -> None:
    drawn = jax.vmap(lambda key: opponents_in_turn(key, 4, 6))(
        jax.random.split(jax.random.key(0), 99)
    )
    for i in range(4):
        others = set(range(4)) - {i}
        assert all(set(np.unique(drawn[:, i, b])) == others for b in range(6))
        assert all(np.bincount(row, minlength=4)[j] == 2 for row in drawn[:, i] for j in others)
    assert len(np.unique(drawn[:, :, 0] - drawn[:, :1, 0])) > 4


def test_one_opponent_a_sample_measures_all_of_them() -> None:
    """D is what it is with all, and the step is that of the drawn opponents' gradient."""
    seen = weighed(random_view(0), np.ones((3, 3, BATCH)) * (1 - np.eye(3))[:, :, None])
    seen = seen._replace(key=jax.random.key(5))
    found, metrics = {}, {}
    for opponents in ("all", "one"):
        settings = tiny.settings(modelling_opponents=opponents)
        part = modelled_nonstationarity(Game(SIZES, COUNTS), settings)
        state = quick.jit(part.init)(jax.random.key(0))
        _, found[opponents], metrics[opponents] = quick.jit(part.measure)(state, seen)
    np.testing.assert_allclose(found["one"], found["all"], rtol=1e-5)
    assert np.abs(metrics["one"]["modelling_loss"] - metrics["all"]["modelling_loss"]).max() > 1e-4
