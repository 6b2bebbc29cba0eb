"""Coordination coefficients C_ij (Eq. 5) and the index maps between agents and their opponents."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np


def opponents(num_agents: int) -> np.ndarray:
    """Opponent indices ``[n, n − 1]``: row i holds i+1, …, i+n−1 modulo n."""
    shift = np.arange(1, num_agents)
    return (np.arange(num_agents)[:, None] + shift[None, :]) % num_agents


def to_square(pairs: jax.Array, fill: float = 0.0) -> jax.Array:
    """Spreads ``[n, n − 1, ...]``, ordered as :func:`opponents`, to ``[n, n, ...]``.

    The diagonal gets ``fill``.
    """
    num_agents = pairs.shape[0]
    diagonal = jnp.full_like(pairs[:, :1], fill)
    position = (np.arange(num_agents)[None, :] - np.arange(num_agents)[:, None]) % num_agents
    return jnp.concatenate((diagonal, pairs), axis=1)[np.arange(num_agents)[:, None], position]


def relative_scores(score: jax.Array) -> jax.Array:
    """Scores in units of their mean over pairs and batch: ``[n, n, B] -> [n, n, B]``.

    The diagonal must be zero. All zeros stay zeros.
    """
    num_agents, _, batch = score.shape
    mean = jnp.sum(score) / (batch * num_agents * (num_agents - 1))
    return score / jnp.maximum(mean, jnp.finfo(score.dtype).tiny)


def coordination_coefficients(score: jax.Array, threshold: float) -> jax.Array:
    """C_ij = 1[Ĉ_ij ≥ σ] Ĉ_ij with Ĉ_i· the softmax of the scores over j ≠ i (Eq. 5).

    Args:
      score: ``[n, n, ...]``, entry (i, j) is |Q_i(a\\j) − Q_i(a)|; the diagonal is ignored.
      threshold: σ.

    Returns:
      ``[n, n, ...]`` with a zero diagonal.
    """
    num_agents = score.shape[0]
    chex.assert_axis_dimension(score, 1, num_agents)
    diagonal = np.eye(num_agents, dtype=bool).reshape((num_agents,) * 2 + (1,) * (score.ndim - 2))
    soft = jax.nn.softmax(jnp.where(diagonal, -jnp.inf, score), axis=1)
    return jnp.where(soft >= threshold, soft, 0.0)
