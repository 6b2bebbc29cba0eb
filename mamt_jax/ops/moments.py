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
    """How many there are, and the sums of x − shift and (x − shift)², for each column.

    ``shift`` is the first value seen. It keeps the variance from being a small difference of large
    numbers.
    """

    size: jax.Array
    shift: jax.Array
    first: Compensated
    second: Compensated


def init_moments(shape: tuple[int, ...]) -> Moments:
    """Moments of an empty collection of values of this shape."""
    zero = jnp.zeros(shape, jnp.float32)
    return Moments(
        jnp.zeros(shape, jnp.int32), zero, Compensated(zero, zero), Compensated(zero, zero)
    )


def replace(
    moments: Moments, added: jax.Array, removed: jax.Array, has: jax.Array, had: jax.Array
) -> Moments:
    """Moments after ``added`` came and ``removed`` left.

    Args:
      moments: of values ``[n]``.
      added: ``[k, n]`` what slots hold now.
      removed: ``[k, n]`` what they held before.
      has: ``[k, n]`` bool, where ``added`` is a value.
      had: ``[k, n]`` bool, where ``removed`` was one.
    """
    size, shift, first, second = jax.tree.map(
        lambda leaf: jnp.where(moments.size == 0, jnp.zeros_like(leaf), leaf), moments
    )
    initial = jnp.take_along_axis(added, jnp.argmax(has, axis=0)[None], axis=0)[0]
    shift = jnp.where(size == 0, initial, shift)
    new, old = jnp.where(has, added - shift, 0.0), jnp.where(had, removed - shift, 0.0)
    return Moments(
        size + jnp.sum(has, axis=0, dtype=jnp.int32) - jnp.sum(had, axis=0, dtype=jnp.int32),
        shift,
        compensated_add(first, jnp.sum(new - old, axis=0)),
        compensated_add(second, jnp.sum(new**2 - old**2, axis=0)),
    )


def mean_and_std(moments: Moments) -> tuple[jax.Array, jax.Array]:
    """Mean and population standard deviation ``[n], [n]``; (0, 1) while nothing is stored.

    A collection of equal values has standard deviation 0 and is given 1, so that dividing by it
    leaves zeros.
    """
    size = jnp.maximum(moments.size, 1).astype(jnp.float32)
    first = (moments.first.value + moments.first.error) / size
    second = (moments.second.value + moments.second.error) / size
    variance = jnp.maximum(second - first**2, 0.0)
    empty = moments.size == 0
    degenerate = empty | (variance <= 1e-12 * (1.0 + second))
    mean = jnp.where(empty, 0.0, moments.shift + first)
    return mean, jnp.where(degenerate, 1.0, jnp.sqrt(variance))
