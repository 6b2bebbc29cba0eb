"""Averages and softmaxes that leave out who is not there, against literal loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.ops import coordination, divergences, losses, masking

RNG = np.random.default_rng(0)
AGENTS, BATCH, HEADS = 4, 7, 2
ALIVE = RNG.random((AGENTS, BATCH)) < 0.6
ALIVE[:, 0], ALIVE[:, 1], ALIVE[:, 2] = False, [True, False, False, False], True
ALIVE[3] = False  # in the whole batch


def pairs_of(i: int) -> list[tuple[int, int]]:
    """(j, sample) in which agent i has an opponent j and both are alive."""
    others = [j for j in range(AGENTS) if j != i]
    return [(j, b) for j in others for b in range(BATCH) if ALIVE[i, b] and ALIVE[j, b]]


def test_moments_are_of_the_entries_that_count() -> None:
    x = RNG.normal(size=(AGENTS, BATCH, HEADS))
    spoiled = jnp.asarray(np.where(ALIVE[..., None], x, np.nan))
    mean = masking.masked_mean(spoiled, jnp.asarray(ALIVE), 1)
    both = masking.masked_mean(spoiled, jnp.asarray(ALIVE), (1, 2))
    var = masking.masked_var(spoiled, jnp.asarray(ALIVE), 1)
    for i in range(AGENTS):
        rows = x[i, ALIVE[i]] if ALIVE[i].any() else np.zeros((1, HEADS))
        np.testing.assert_allclose(mean[i], rows.mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(both[i], rows.mean(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(var[i], rows.var(axis=0), rtol=1e-5, atol=1e-6)


def test_integers_stay_integers() -> None:
    action = masking.masked(jnp.ones((AGENTS, BATCH), jnp.int32), jnp.asarray(ALIVE))
    assert action.dtype == jnp.int32
    np.testing.assert_array_equal(action, ALIVE)


def test_softmax_is_over_the_opponents_that_are_there() -> None:
    """With no NaN where nobody is, in value and gradient."""
    score = RNG.normal(size=(AGENTS, AGENTS, BATCH, HEADS)) * 5

    def shares(score: jax.Array) -> jax.Array:
        return coordination.opponent_softmax(score, jnp.asarray(ALIVE))

    got = np.asarray(shares(jnp.asarray(score)))
    expected = np.zeros_like(score)
    for i in range(AGENTS):
        for b in range(BATCH):
            others = [j for j, sample in pairs_of(i) if sample == b]
            total = sum(np.exp(score[i, j, b]) for j in others)
            for j in others:
                expected[i, j, b] = np.exp(score[i, j, b]) / total
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)
    slope = jax.grad(lambda score: jnp.sum(shares(score) ** 2))(jnp.asarray(score))
    assert np.isfinite(slope).all() and not np.asarray(slope)[expected == 0].any()


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_coordination_is_with_opponents_that_are_there(threshold: float) -> None:
    score = jnp.asarray(RNG.uniform(0, 2, (AGENTS, AGENTS, BATCH)))
    alive = jnp.asarray(ALIVE)
    soft = coordination.opponent_softmax(score, alive)
    got = coordination.coordination_coefficients(score, threshold, alive)
    np.testing.assert_array_equal(got, np.where(soft >= threshold, soft, 0))
    two = coordination.coordination_coefficients(jnp.ones((2, 2, BATCH)), 0.2, alive[:2])
    np.testing.assert_array_equal(two[0, 1], ALIVE[0] & ALIVE[1])
    effect = masking.masked(score, masking.alive_pairs(alive))
    relative = np.asarray(effect / coordination.mean_score(effect, alive))
    number = sum(len(pairs_of(i)) for i in range(AGENTS))
    np.testing.assert_allclose(relative.sum() / number, 1.0, rtol=1e-5)


def test_attention_penalty_is_over_pairs_that_are_both_there() -> None:
    logits = RNG.normal(size=(AGENTS, AGENTS, BATCH, HEADS))
    got = losses.attention_penalty(jnp.asarray(logits), jnp.asarray(ALIVE))
    for i in range(AGENTS):
        squares = [logits[i, j, b] ** 2 for j, b in pairs_of(i)]
        expected = 1e-3 * np.sum(np.mean(squares, axis=0)) if squares else 0.0
        np.testing.assert_allclose(got[i], expected, rtol=1e-5)


def test_trd_loss_sums_over_who_is_there_and_averages_where_somebody_is() -> None:
    predicted, found = RNG.uniform(0, 3, (2, AGENTS, BATCH))
    got = losses.trd_loss(jnp.asarray(predicted), jnp.asarray(found), jnp.asarray(ALIVE))
    gaps = [
        predicted[ALIVE[:, b], b].sum() - found[ALIVE[:, b], b].sum()
        for b in range(BATCH)
        if ALIVE[:, b].any()
    ]
    np.testing.assert_allclose(got, np.mean(np.square(gaps)), rtol=1e-5)


def test_switching_cost_is_of_opponents_that_are_there() -> None:
    shift = RNG.uniform(0, 3, (AGENTS, BATCH))
    got = divergences.opponent_switching_cost(jnp.asarray(shift), jnp.asarray(ALIVE))
    for i in range(AGENTS):
        costs = [
            sum(shift[j, b] for j in range(AGENTS) if j != i and ALIVE[j, b])
            for b in range(BATCH)
            if ALIVE[i, b]
        ]
        np.testing.assert_allclose(got[i], max(costs, default=0.0), rtol=1e-5, atol=1e-6)
