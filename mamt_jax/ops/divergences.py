"""Divergences between categorical distributions, and the Tsallis logarithm."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from mamt_jax.ops.masking import masked


def tsallis_log(log_x: jax.Array, q: jax.Array | float) -> jax.Array:
    """Tsallis logarithm log_q x = (x^{1−q} − 1)/(1 − q), from log x; the natural one at q = 1.

    Taking log x keeps small probabilities exact: the result is expm1((1 − q) log x)/(1 − q).
    """
    order = jnp.asarray(1.0 - q)
    divisor = jnp.where(order == 0, 1.0, order)  # so that no gradient meets 0/0
    return jnp.where(order == 0, log_x, jnp.expm1(divisor * log_x) / divisor)


def tsallis_divergence(log_p: jax.Array, log_p_old: jax.Array, q: float) -> jax.Array:
    """log_q p − log_q p_old at sampled actions: the mirror-descent penalty (Eq. 10)."""
    return tsallis_log(log_p, q) - tsallis_log(log_p_old, q)


def categorical_kl(log_p: jax.Array, log_q: jax.Array) -> jax.Array:
    """KL[p ‖ q] in nats over the last axis: ``[..., A], [..., A] -> [...]``.

    Both arguments are log-probabilities; actions with p = 0 contribute nothing.
    """
    chex.assert_equal_shape_suffix((log_p, log_q), 1)
    p = jnp.exp(log_p)
    return jnp.sum(jnp.where(p > 0, p * (log_p - log_q), 0.0), axis=-1)


def nonstationarity(divergence: jax.Array, coordination: jax.Array, maximum: float) -> jax.Array:
    """D_i,ns of Eq. 6: coordination-weighted divergences, projected to [0, maximum].

    Args:
      divergence: ``[n, n, ...]``, entry (i, j) is KL[h_i(·|o_i, j) ‖ π_j(·|o_j)].
      coordination: ``[n, n, ...]`` C_ij with a zero diagonal.
      maximum: upper end of the projection Π_ns.

    Returns:
      ``[n, ...]``, nats.
    """
    chex.assert_equal_shape((divergence, coordination))
    return jnp.clip(jnp.sum(coordination * divergence, axis=1), 0.0, maximum)


def opponent_switching_cost(divergence: jax.Array, alive: jax.Array | None = None) -> jax.Array:
    """Opponent switching cost of every agent (Definition 2), on observed o.

    Args:
      divergence: ``[n, B]``, KL[π_j ‖ π'_j] of each agent's consecutive policies at observation b.
      alive: ``[n, B]``: who is there; the others switch nothing and bear no cost.

    Returns:
      ``[n]``: max_b Σ_{j≠i} KL_j(b). Local policies are independent given the observations, so the
      divergence of the joint opponent policy is the sum.
    """
    chex.assert_rank(divergence, 2)
    divergence = masked(divergence, alive)
    cost = jnp.sum(divergence, axis=0, keepdims=True) - divergence
    return jnp.max(masked(cost, alive), axis=1)
