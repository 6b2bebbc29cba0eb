"""LOLA's gradient by brute force, and what it is known for: cooperation in a repeated dilemma."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.ops.opponent_shaping import shaping_gradients

PAYOFF = np.array([[[-1.0, -3.0], [0.5, -2.0]], [[-1.0, 0.2], [-3.0, -2.5]]])
"""[agent, action of 0, action of 1]: a game of two actions, not symmetric."""


def matrix_game(theta: np.ndarray) -> np.ndarray:
    """V_0 and V_1 of policies sigmoid(θ) ``[2, 1]``, in NumPy."""
    first, second = 1 / (1 + np.exp(-theta[:, 0]))
    return np.einsum("nuv,u,v->n", PAYOFF, [first, 1 - first], [second, 1 - second])


def slope(function: Callable[[float], float], at: float, width: float = 1e-4) -> float:
    """Central difference of fourth order."""
    one, two = (function(at + k * width) - function(at - k * width) for k in (1, 2))
    return (8 * one - two) / (12 * width)


def brute_force(theta: np.ndarray, step: float) -> np.ndarray:
    """d/dθ_i of V_i where the opponent has moved by η times its own numerical slope."""

    def moved(agent: int, own: float) -> float:
        other = 1 - agent
        here = theta.copy()
        here[agent] = own

        def opponents(value: float) -> float:
            there = here.copy()
            there[other] = value
            return float(matrix_game(there)[other])

        here[other] += step * slope(opponents, float(theta[other, 0]))
        return float(matrix_game(here)[agent])

    return np.array([[slope(lambda x, i=i: moved(i, x), float(theta[i, 0]))] for i in (0, 1)])


@pytest.mark.parametrize("step", [0.0, 0.5, 3.0])
def test_against_brute_force_on_a_matrix_game(step: float) -> None:
    def values(params: jax.Array) -> jax.Array:
        p = jax.nn.sigmoid(params[:, 0])
        mixed = jnp.stack([p, 1 - p], axis=1)
        return jnp.einsum("nuv,u,v->n", jnp.asarray(PAYOFF), mixed[0], mixed[1])

    gradients = jax.jit(lambda params: shaping_gradients(values, params, step))
    with jax.enable_x64(True):
        for theta in np.random.default_rng(0).normal(size=(3, 2, 1)):
            got = gradients(jnp.asarray(theta))
            np.testing.assert_allclose(got, brute_force(theta, step), rtol=1e-6, atol=1e-9)
    naive = brute_force(np.ones((2, 1)), 0.0)
    assert np.abs(brute_force(np.ones((2, 1)), 3.0) - naive).max() > 1e-2  # the step matters


DISCOUNT = 0.96
FIRST, SECOND = jnp.array([-1.0, -3.0, 0.0, -2.0]), jnp.array([-1.0, 0.0, -3.0, -2.0])
"""Payoffs of the prisoner's dilemma in CC, CD, DC, DD."""


def repeated_dilemma(params: jax.Array) -> jax.Array:
    """Exact discounted payoffs per step ``[2]`` of memory-one policies.

    ``params [2, 5]``: logits of cooperating at first, and after CC, CD, DC, DD (own action first).
    """
    p, q = jax.nn.sigmoid(params)
    q = q[jnp.array([0, 1, 3, 2, 4])]  # what is CD to one is DC to the other
    joint = jnp.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], axis=1)
    visits = jnp.linalg.solve(jnp.eye(4) - DISCOUNT * joint[1:].T, joint[0])
    return (1 - DISCOUNT) * jnp.stack([visits @ FIRST, visits @ SECOND])


def test_known_payoffs_of_the_repeated_dilemma() -> None:
    always, never = jnp.full(5, 20.0), jnp.full(5, -20.0)
    for pair, expected in (((always, always), [-1, -1]), ((never, always), [0, -3])):
        np.testing.assert_allclose(repeated_dilemma(jnp.stack(pair)), expected, atol=1e-3)
    answer = jnp.array([20.0, 20.0, -20.0, 20.0, -20.0])  # tit for tat
    got = repeated_dilemma(jnp.stack([answer, never]))
    np.testing.assert_allclose(got, [-3 * 0.04 - 2 * 0.96, -2 * 0.96], atol=1e-3)


@pytest.mark.parametrize(("step", "cooperate"), [(0.0, False), (2.0, True)])
def test_lola_cooperates_where_naive_learners_defect(step: float, cooperate: bool) -> None:
    """Foerster et al. 2018a, Fig. 2: about −1 a step against −2; LOLA finds tit for tat."""

    def returns(params: jax.Array) -> jax.Array:
        return repeated_dilemma(params) / (1 - DISCOUNT)

    def learn(key: jax.Array) -> jax.Array:
        def ascend(params: jax.Array, _: None) -> tuple[jax.Array, None]:
            return params + shaping_gradients(returns, params, step), None

        return jax.lax.scan(ascend, jax.random.normal(key, (2, 5)), None, length=1000)[0]

    ends = jax.jit(jax.vmap(learn))(jax.random.split(jax.random.key(0), 50))
    payoff = np.asarray(jax.vmap(repeated_dilemma)(ends)).mean(axis=1)
    if cooperate:  # observed: 90% above −1.2, median −1.00
        assert np.mean(payoff > -1.2) > 0.8 and np.median(payoff) > -1.05
        _, both, betrayed, forgiven, neither = np.asarray(jax.nn.sigmoid(ends)).mean(axis=(0, 1))
        assert min(both, forgiven) > 0.7 and max(betrayed, neither) < 0.4
    else:  # observed: all at −2.00
        assert (payoff < -1.95).all()
