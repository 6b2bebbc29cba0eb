"""Index maps between agents and opponents, and C_ij (Eq. 5)."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.ops.coordination import coordination_coefficients, opponents, to_square


def literal_coefficients(score: np.ndarray, threshold: float) -> np.ndarray:
    num_agents, _, batch = score.shape
    out = np.zeros_like(score)
    for b in range(batch):
        for i in range(num_agents):
            others = [j for j in range(num_agents) if j != i]
            total = sum(np.exp(score[i, j, b]) for j in others)
            for j in others:
                soft = np.exp(score[i, j, b]) / total
                out[i, j, b] = soft if soft >= threshold else 0.0
    return out


@pytest.mark.parametrize("num_agents", range(2, 7))
def test_opponents_lists_everybody_else_in_cyclic_order(num_agents: int) -> None:
    table = opponents(num_agents)
    for i in range(num_agents):
        assert sorted(table[i]) == [j for j in range(num_agents) if j != i]
        assert table[i].tolist() == [(i + k) % num_agents for k in range(1, num_agents)]


@pytest.mark.parametrize("num_agents", range(2, 7))
def test_to_square_puts_every_pair_in_its_place(num_agents: int) -> None:
    table = opponents(num_agents)
    pairs = np.stack([np.arange(num_agents)[:, None] + 0 * table, table], axis=-1)
    square = np.asarray(to_square(jnp.asarray(pairs, jnp.float32), fill=-1.0))
    for i in range(num_agents):
        for j in range(num_agents):
            assert square[i, j].tolist() == ([-1, -1] if i == j else [i, j])


@pytest.mark.parametrize("num_agents", [2, 3, 6])
@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5])
def test_coefficients_match_numpy(num_agents: int, threshold: float) -> None:
    score = np.abs(np.random.default_rng(0).normal(size=(num_agents, num_agents, 9))) * 2
    score[np.eye(num_agents, dtype=bool)] = 99.0  # what stands on the diagonal does not matter
    got = np.asarray(coordination_coefficients(jnp.asarray(score), threshold))
    np.testing.assert_allclose(got, literal_coefficients(score, threshold), atol=1e-6)
    assert (got[np.eye(num_agents, dtype=bool)] == 0).all()
    if threshold == 0:
        np.testing.assert_allclose(got.sum(axis=1), 1.0, atol=1e-6)
    else:
        assert ((got == 0) | (got >= threshold)).all()


def test_two_agents_always_coordinate_fully() -> None:
    score = np.random.default_rng(0).uniform(0, 50, (2, 2, 9))
    got = coordination_coefficients(jnp.asarray(score), 0.2)
    np.testing.assert_array_equal(got, np.broadcast_to(1 - np.eye(2)[:, :, None], got.shape))


def test_a_coefficient_at_the_threshold_is_kept() -> None:
    even = coordination_coefficients(jnp.zeros((3, 3, 1)), 0.5)
    np.testing.assert_array_equal(even[..., 0], 0.5 * (1 - np.eye(3)))
    score = jnp.zeros((3, 3, 1)).at[0, 1].set(1e-3)
    np.testing.assert_array_equal(coordination_coefficients(score, 0.5)[0, 2], 0.0)
    assert not coordination_coefficients(jnp.zeros((3, 3, 1)), 0.501).any()


def test_large_scores_do_not_overflow() -> None:
    score = jnp.zeros((3, 3, 1)).at[0, 1].set(1e4)
    got = coordination_coefficients(score, 0.2)
    np.testing.assert_array_equal(got[0, :, 0], [0, 1, 0])
