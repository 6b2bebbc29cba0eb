"""Returns and advantages along rollouts. Time is the first axis."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def generalised_advantages(
    reward: jax.Array,
    value: jax.Array,
    next_value: jax.Array,
    terminated: jax.Array,
    finished: jax.Array,
    discount: float,
    decay: float,
) -> jax.Array:
    """Generalised advantage estimates (Schulman et al. 2016, Eq. 16), cut where episodes end.

    A_t = δ_t + γλ (1 − end_t) A_{t+1} with δ_t = r_t + γ (1 − terminated_t) V(o_{t+1}) − V(o_t). An
    episode that was truncated bootstraps from its true last observation, and so does the last step
    of a rollout.

    Args:
      reward: ``[T, ...]``.
      value: ``[T, ...]`` V at the observations acted on.
      next_value: ``[T, ...]`` V at their true successors, before any reset.
      terminated: bool ``[T, ...]``: nothing follows for this agent.
      finished: bool ``[T, ...]``: the next step belongs to another episode.
      discount: γ.
      decay: λ.

    Returns:
      ``[T, ...]``; added to ``value`` they are the λ-returns.
    """
    chex.assert_equal_shape((reward, value, next_value, terminated, finished))
    error = reward + discount * jnp.where(terminated, 0.0, next_value) - value
    goes_on = ~(terminated | finished)

    def back(later: jax.Array, step: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        error, goes_on = step
        advantage = error + discount * decay * jnp.where(goes_on, later, 0.0)
        return advantage, advantage

    _, advantages = jax.lax.scan(back, jnp.zeros_like(reward[0]), (error, goes_on), reverse=True)
    return advantages
