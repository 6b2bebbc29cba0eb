"""Returns and advantages along rollouts. Time is the first axis."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def generalised_advantages(
    reward: jax.Array,
    value: jax.Array,
    bootstrap: jax.Array,
    terminated: jax.Array,
    cut: jax.Array,
    discount: float,
    decay: float,
) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016, Eq. 16).

    A_t = Σ_k (γλ)^k δ_{t+k} with δ_t = r_t + γ V_{t+1} − V_t. As long as the trajectory goes on
    V_{t+1} is ``value[t + 1]`` itself: the values of neighbouring errors cancel, and with λ = 1
    A_t + V_t is the discounted return of what was collected, whatever the values are. Where it was
    cut, as the end of the rollout always does, ``bootstrap`` stands in for V_{t+1}; where it
    terminated, 0.

    Args:
      reward: ``[T, ...]``.
      value: ``[T, ...]`` V at the steps of the rollout.
      bootstrap: ``[T, ...]`` estimates of V at their true successors, before any reset.
      terminated: bool ``[T, ...]``: nothing follows for this agent.
      cut: bool ``[T, ...]``: the next step is not this trajectory's.
      discount: γ.
      decay: λ.

    Returns:
      ``[T, ...]``; added to ``value`` they are the λ-returns.
    """
    chex.assert_equal_shape((reward, value, bootstrap, terminated, cut))
    ends = (terminated | cut).at[-1].set(True)
    successor = jnp.where(ends, bootstrap, jnp.roll(value, -1, axis=0))
    error = reward + discount * jnp.where(terminated, 0.0, successor) - value

    def back(later: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        error, ends = step
        advantage = error + discount * decay * jnp.where(ends, 0.0, later)
        return advantage, advantage

    _, advantages = jax.lax.scan(back, jnp.zeros_like(reward[0]), (error, ends), reverse=True)
    return advantages
