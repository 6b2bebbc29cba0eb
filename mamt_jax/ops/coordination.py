"""Coordination coefficients C_ij (Eq. 5) and the index maps between agents and their opponents."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.ops.masking import alive_pairs, masked, off_diagonal


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


def opponent_softmax(score: jax.Array, alive: jax.Array | None = None) -> jax.Array:
    """Softmax over every agent's opponents, zero on the diagonal: ``[n, n, B, ...]``, axis 1.

    Of those that are alive ``[n, B]``; all zeros where none is, or the agent itself is not.
    """
    pairs = alive_pairs(alive)
    counted = off_diagonal(len(score)) if pairs is None else pairs
    if len(score) == 2:  # one opponent has all the weight: the scores need not be known
        return masked(jnp.ones_like(score), counted)
    lowest = float(
        jnp.finfo(score.dtype).min
    )  # not -inf, whose softmax is NaN where nobody is left
    return masked(jax.nn.softmax(masked(score, counted, lowest), axis=1), pairs)


def mean_score(score: jax.Array, alive: jax.Array | None = None) -> jax.Array:
    """Mean over pairs and batch: ``[n, n, B] -> []``; 0 where nobody is alive.

    All entries but those of alive pairs must be zero.
    """
    num_agents, _, batch = score.shape
    counted = batch * num_agents * (num_agents - 1)
    pairs = alive_pairs(alive)
    return jnp.sum(score) / (counted if pairs is None else jnp.maximum(jnp.sum(pairs), 1))


def coordination_coefficients(
    score: jax.Array, threshold: float, alive: jax.Array | None = None, axis: int = 1
) -> jax.Array:
    """C_ij = 1[Ĉ_ij ≥ σ] Ĉ_ij with Ĉ_i· the softmax of the scores over j ≠ i (Eq. 5).

    Args:
      score: ``[n, n, ...]``, entry (i, j) is |Q_i(a\\j) − Q_i(a)|; the diagonal is ignored.
      threshold: σ.
      alive: ``[n, ...]``: only these agents coordinate.
      axis: of the softmax: 1, or 0 for one over i ≠ j.

    Returns:
      ``[n, n, ...]`` with a zero diagonal.
    """
    chex.assert_axis_dimension(score, 1, len(score))
    rows = score if axis else jnp.swapaxes(score, 0, 1)
    soft = opponent_softmax(rows, alive)
    soft = soft if axis else jnp.swapaxes(soft, 0, 1)
    return jnp.where(soft >= threshold, soft, 0.0)
