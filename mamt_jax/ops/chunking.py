"""Going through a batch in chunks whose activations stay in a CPU's cache.

A batch of 1,024 with 8 agents and hidden width 128 fills 4 MiB with every layer, several times a
core's second-level cache, and then memory sets the pace of all that is not a matrix product. What
is a mean over the batch, or belongs to one sample, can be computed for a few samples at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from mamt_jax.backend import chosen

MIN_SAMPLES = 32
"""Below this, matrix products become inefficient."""


def chunk_count(batch: int, values: int, alive: jax.Array | None = None) -> int:
    """Number of chunks in which to go through a batch.

    Args:
      batch: samples in it.
      values: values per sample of the widest activations.
      alive: masks of absent agents. Their means do not divide evenly among chunks: always 1.

    Returns:
      A divisor of ``batch``; 1 where batches stay whole (:mod:`mamt_jax.backend`).
    """
    most = chosen().chunk_values
    if alive is not None or most is None:
        return 1
    counts = range(1, max(batch // MIN_SAMPLES, 1) + 1)
    divisors = [count for count in counts if batch % count == 0]
    fitting = (count for count in divisors if batch // count * values <= most)
    return next(fitting, divisors[-1])


def in_chunks(
    function: Callable[..., Any],
    in_axes: tuple[Any, ...],
    out_axes: Any,
    values: int,
    alive: jax.Array | None = None,
) -> Callable[..., Any]:
    """``function`` of a batch, a chunk of its samples at a time where that is faster.

    Args:
      function: takes and returns pytrees of arrays.
      in_axes: the batch axis of each argument, as ``jax.vmap`` has them: an integer, None for what
        is passed whole, or a pytree of them.
      out_axes: of what is returned, likewise; None for a mean over the batch, which becomes the
        mean of the chunks'.
      values: per sample, of the widest activations.
      alive: masks of absent agents, with which a batch stays whole.
    """

    def chunked(*arguments: Any) -> Any:
        chunks = chunk_count(_batch_size(in_axes, arguments), values, alive)
        if chunks == 1:
            return function(*arguments)

        def part(index: jax.Array | int) -> Any:
            return function(*_map(partial(_cut, index, chunks), in_axes, arguments))

        def put(index: jax.Array, whole: Any) -> Any:
            return _map(partial(_put, index, chunks), out_axes, whole, part(index))

        empty = _map(partial(_empty, chunks), out_axes, jax.eval_shape(part, 0))
        return jax.lax.fori_loop(0, chunks, put, empty)

    return chunked


def take(tree: Any, axes: Any, rows: jax.Array) -> Any:
    """The samples ``rows`` of a pytree whose batch axes are ``axes``, as :func:`in_chunks` has."""

    def leaf(axis: int | None, x: jax.Array) -> jax.Array:
        return x if axis is None else jnp.take(x, rows, axis)

    return _map(leaf, axes, tree)


def first(tree: Any, axes: Any, count: int) -> Any:
    """The first ``count`` samples of a pytree whose batch axes are ``axes``, likewise."""

    def leaf(axis: int | None, x: jax.Array) -> jax.Array:
        return x if axis is None else jax.lax.slice_in_dim(x, 0, count, axis=axis)

    return _map(leaf, axes, tree)


def _map(function: Callable[..., Any], axes: Any, *trees: Any) -> Any:
    """``function(axis, *leaves)`` of all leaves, ``axes`` being a prefix of the trees."""

    def subtree(axis: int | None, *parts: Any) -> Any:
        return jax.tree.map(lambda *leaves: function(axis, *leaves), *parts)

    return jax.tree.map(subtree, axes, *trees, is_leaf=lambda node: node is None)


def _batch_size(axes: Any, arguments: Any) -> int:
    sizes = _map(lambda axis, x: None if axis is None else x.shape[axis], axes, arguments)
    size: int = jax.tree.leaves(sizes)[0]
    return size


def _cut(index: jax.Array | int, chunks: int, axis: int | None, x: jax.Array) -> jax.Array:
    """Chunk ``index`` of an array."""
    if axis is None:
        return x
    size = x.shape[axis] // chunks
    return jax.lax.dynamic_slice_in_dim(x, index * size, size, axis)


def _empty(chunks: int, axis: int | None, shape: jax.ShapeDtypeStruct) -> jax.Array:
    """Where results go: zeros as large as the batch, or as a mean."""
    size = list(shape.shape)
    if axis is not None:
        size[axis] *= chunks
    return jnp.zeros(size, shape.dtype)


def _put(
    index: jax.Array, chunks: int, axis: int | None, whole: jax.Array, part: jax.Array
) -> jax.Array:
    """Results with those of chunk ``index`` put in their place, or added to the mean."""
    if axis is None:
        return whole + part / chunks
    start = index * part.shape[axis]
    return jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis)
