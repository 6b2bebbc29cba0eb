"""Proximal policy optimisation: the clipped objective, and the normalisation around it."""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mamt_jax.ops.masking import Mask, masked, masked_mean, masked_var, seen

_DECAY = 0.99
"""Per rollout, of the running moments of returns."""


def clipped_objective(
    log_prob: jax.Array, log_old: jax.Array, advantage: jax.Array, clip: jax.Array | float
) -> jax.Array:
    """min(ρA, clamp(ρ, 1 − ε, 1 + ε)A) with ρ = π/π_old (Schulman et al. 2017, Eq. 7), elementwise.

    Args:
      log_prob: ``[n, B]`` log π(a).
      log_old: ``[n, B]`` log π_old(a).
      advantage: ``[n, B]``.
      clip: ε, broadcastable to them.
    """
    chex.assert_equal_shape((log_prob, log_old, advantage))
    ratio = jnp.exp(log_prob - log_old)
    return jnp.minimum(ratio * advantage, jnp.clip(ratio, 1.0 - clip, 1.0 + clip) * advantage)


def clip_binds(
    log_prob: jax.Array, log_old: jax.Array, advantage: jax.Array, clip: jax.Array | float
) -> jax.Array:
    """Where the objective of :func:`clipped_objective` is cut off: bool, elementwise.

    There its derivative in log π is 0, and in ε it is |A|.
    """
    ratio = jnp.exp(log_prob - log_old)
    return jnp.where(advantage > 0, ratio > 1.0 + clip, (ratio < 1.0 - clip) & (advantage < 0))


def huber(predicted: jax.Array, target: jax.Array, delta: float) -> jax.Array:
    """Huber loss e²/2 for |e| ≤ delta, delta (|e| − delta/2) beyond, elementwise."""
    error = jnp.abs(predicted - target)
    inner = jnp.minimum(error, delta)
    return inner * (error - 0.5 * inner)


def standardise(x: jax.Array, alive: Mask) -> jax.Array:
    """``[n, B]`` in standard deviations from each agent's mean; zeros where it is not alive."""
    mean, var = masked_mean(x, alive, axis=1), masked_var(x, alive, axis=1)
    return masked((x - mean[:, None]) * jax.lax.rsqrt(var + 1e-8)[:, None], alive)


class ReturnMoments(NamedTuple):
    """Debiased moving averages of returns and of their squares, per agent."""

    first: jax.Array
    """float32 [n]."""
    second: jax.Array
    """float32 [n]."""
    weight: jax.Array
    """float32 [n]: what the averages' weights add up to."""

    def mean_and_std(self) -> tuple[jax.Array, jax.Array]:
        """``[n], [n]``; (0, 1) before any return."""
        weight = jnp.maximum(self.weight, 1e-6)
        mean = self.first / weight
        variance = jnp.maximum(self.second / weight - mean**2, 1e-4)
        return mean, jnp.where(self.weight > 0, jnp.sqrt(variance), 1.0)


def init_return_moments(num_agents: int) -> ReturnMoments:
    """Moments before any return."""
    zeros = jnp.zeros(num_agents, jnp.float32)
    return ReturnMoments(zeros, zeros, zeros)


def add_returns(moments: ReturnMoments, returns: jax.Array, alive: Mask) -> ReturnMoments:
    """Moments after one more rollout's returns ``[n, B]``, those where ``alive``.

    An agent that was not alive in it keeps what it has.
    """
    first, second = (masked_mean(x, alive, axis=1) for x in (returns, returns**2))
    new = ReturnMoments(first, second, jnp.ones_like(first))
    known = seen(alive, axis=1)
    return jax.tree.map(
        lambda old, new: masked(_DECAY * old + (1 - _DECAY) * new, known, old), moments, new
    )


def explained_variance(predicted: jax.Array, target: jax.Array, alive: Mask) -> jax.Array:
    """1 − Var(target − predicted)/Var(target): ``[n, B] x2 -> [n]``; 1 is perfect, 0 a constant."""
    left = masked_var(target - predicted, alive, axis=1)
    total = masked_var(target, alive, axis=1)
    return 1.0 - left / jnp.maximum(total, 1e-8)
