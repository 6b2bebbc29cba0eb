"""Exact running moments of a sliding collection, in compensated single precision."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Compensated(NamedTuple):
    """A sum kept as value + error, about twice the precision of one float32 (Neumaier)."""

    value: jax.Array
    error: jax.Array


def compensated_add(total: Compensated, x: jax.Array) -> Compensated:
    """Adds x without losing the low-order bits of a large running sum."""
    new = total.value + x
    lost = jnp.where(
        jnp.abs(total.value) >= jnp.abs(x), (total.value - new) + x, (x - new) + total.value
    )
    return Compensated(new, total.error + lost)


class Moments(NamedTuple):
    """Sums over the collection of x − shift and (x − shift)²; ``shift`` is the first value seen.

    The shift keeps the variance from being a small difference of large numbers.
    """

    shift: jax.Array
    first: Compensated
    second: Compensated


def init_moments(shape: tuple[int, ...]) -> Moments:
    """Moments of an empty collection of values of this shape."""
    zero = jnp.zeros(shape, jnp.float32)
    return Moments(zero, Compensated(zero, zero), Compensated(zero, zero))


def replace(
    moments: Moments, added: jax.Array, removed: jax.Array, had: jax.Array, empty: jax.Array
) -> Moments:
    """Moments after ``added`` came and ``removed`` left.

    Args:
      moments: of values ``[n]``.
      added: ``[k, n]`` new values.
      removed: ``[k, n]`` the values that they overwrite.
      had: ``[k]`` bool, whether a slot held a value before.
      empty: [] bool, whether the collection was empty.
    """
    shift = jnp.where(empty, added[0], moments.shift)
    new, old = added - shift, jnp.where(had[:, None], removed - shift, 0.0)
    return Moments(
        shift,
        compensated_add(moments.first, jnp.sum(new - old, axis=0)),
        compensated_add(moments.second, jnp.sum(new**2 - old**2, axis=0)),
    )


def mean_and_std(moments: Moments, count: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Mean and population standard deviation ``[n], [n]``; (0, 1) while nothing was stored.

    A collection of equal values has standard deviation 0 and is given 1, so that dividing by it
    leaves zeros.
    """
    size = jnp.maximum(count, 1).astype(jnp.float32)
    first = (moments.first.value + moments.first.error) / size
    second = (moments.second.value + moments.second.error) / size
    variance = jnp.maximum(second - first**2, 0.0)
    degenerate = variance <= 1e-12 * (1.0 + second)
    return moments.shift + first, jnp.where(degenerate, 1.0, jnp.sqrt(variance))
