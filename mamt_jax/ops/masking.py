"""Leaving agents out of averages where they have left an episode that goes on without them.

A mask is bool ``[n, B]``, or whatever axes its data begin with, and True where an entry counts.
None says that all do, and adds nothing to the computation.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

Mask = jax.Array | np.ndarray | None


def masked(x: jax.Array, mask: Mask, other: jax.Array | float = 0.0) -> jax.Array:
    """``x`` where the mask of its leading axes is True, ``other`` elsewhere, NaN or not."""
    if mask is None:
        return x
    return jnp.where(_align(mask, x), x, jnp.asarray(other, x.dtype))


def masked_mean(x: jax.Array, mask: Mask, axis: int | tuple[int, ...]) -> jax.Array:
    """Mean over ``axis`` of the entries that count; 0 where none does."""
    if mask is None:
        return jnp.mean(x, axis=axis)
    counted = jnp.sum(jnp.broadcast_to(_align(mask, x), x.shape), axis=axis)
    return jnp.sum(masked(x, mask), axis=axis) / jnp.maximum(counted, 1)


def masked_var(x: jax.Array, mask: Mask, axis: int) -> jax.Array:
    """Population variance over ``axis`` of the entries that count; 0 where none does."""
    if mask is None:
        return jnp.var(x, axis=axis)
    mean = jnp.expand_dims(masked_mean(x, mask, axis), axis)
    return masked_mean((x - mean) ** 2, mask, axis)


def off_diagonal(num_agents: int) -> np.ndarray:
    """Pairs of two different agents, bool ``[n, n]``."""
    return ~np.eye(num_agents, dtype=bool)


def alive_pairs(alive: jax.Array | None) -> jax.Array | None:
    """Pairs of two different agents that are both alive: ``[n, B] -> [n, n, B]``."""
    if alive is None:
        return None
    return alive[:, None] & alive[None] & off_diagonal(len(alive))[:, :, None]


def seen(alive: Mask, axis: int) -> jax.Array | None:
    """Whether anything is alive along ``axis``; None stays None."""
    return None if alive is None else jnp.any(alive, axis=axis)


def _align(mask: jax.Array | np.ndarray, x: jax.Array) -> jax.Array | np.ndarray:
    return mask.reshape(mask.shape + (1,) * (x.ndim - mask.ndim))
