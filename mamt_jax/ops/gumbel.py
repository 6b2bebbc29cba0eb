"""Gumbel-softmax: draws from categorical distributions that gradients pass through."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def straight_through_gumbel_softmax(
    key: jax.Array, logits: jax.Array, temperature: float
) -> jax.Array:
    """One-hot draws with the gradient of their relaxation (Jang et al. 2017, Sec. 2.2).

    The draw is argmax(logits + g) with g from Gumbel(0, 1), so an action has its probability under
    softmax(logits). Its gradient is that of softmax((logits + g)/temperature).

    Args:
      key: random key.
      logits: ``[..., A]``.
      temperature: of the relaxation.

    Returns:
      ``[..., A]``.
    """
    noisy = logits + jax.random.gumbel(key, logits.shape, logits.dtype)
    soft = jax.nn.softmax(noisy / temperature)
    hard = jax.nn.one_hot(jnp.argmax(noisy, axis=-1), logits.shape[-1], dtype=logits.dtype)
    return soft + jax.lax.stop_gradient(hard - soft)
