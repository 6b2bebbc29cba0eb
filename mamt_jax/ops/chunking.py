"""Going through a batch in chunks whose activations stay in a CPU's cache.

A batch of 1,024 with 8 agents and hidden width 128 fills 4 MiB with every layer, several times a
core's second-level cache, and then memory sets the pace of all that is not a matrix product. What
is a mean over the batch, or belongs to one sample, can be computed for a few samples at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

MOST_VALUES = 2**19
"""Values of one layer's activations that a chunk may have: 2 MiB of float32."""
FEWEST_SAMPLES = 32
"""Below this, matrix products become inefficient."""


def chunk_count(batch: int, values: int, alive: jax.Array | None = None) -> int:
    """Number of chunks in which to go through a batch.

    Args:
      batch: samples in it.
      values: values per sample of the widest activations.
      alive: masks of absent agents. Their means do not divide evenly among chunks: always 1.

    Returns:
      A divisor of ``batch``; 1 off CPU, where larger is better.
    """
    if alive is not None or jax.default_backend() != "cpu":
        return 1
    counts = range(1, max(batch // FEWEST_SAMPLES, 1) + 1)
    divisors = [count for count in counts if batch % count == 0]
    fitting = (count for count in divisors if batch // count * values <= MOST_VALUES)
    return next(fitting, divisors[-1])


def in_chunks(
    function: Callable[..., Any], chunks: int, in_axes: tuple[int, ...], out_axes: tuple[Any, ...]
) -> Callable[..., Any]:
    """``function`` of a batch, one chunk at a time.

    Args:
      function: takes arrays, or pytrees of them, and returns a tuple.
      chunks: how many; with 1 the result is ``function`` itself.
      in_axes: the batch axis of each argument, as ``jax.vmap`` has them.
      out_axes: the batch axis of each entry of the returned tuple; None for a mean over the batch,
        which becomes the mean of the chunks'.
    """
    if chunks == 1:
        return function

    def chunked(*arguments: Any) -> Any:
        def part(index: jax.Array | int) -> tuple[Any, ...]:
            cut = (_cut(*pair, index, chunks) for pair in zip(arguments, in_axes, strict=True))
            return tuple(function(*cut))

        def put(index: jax.Array, whole: tuple[Any, ...]) -> tuple[Any, ...]:
            pieces = zip(whole, part(index), out_axes, strict=True)
            return tuple(_put(*piece, index, chunks) for piece in pieces)

        shapes = zip(jax.eval_shape(part, 0), out_axes, strict=True)
        empty = tuple(_empty(shape, axis, chunks) for shape, axis in shapes)
        return jax.lax.fori_loop(0, chunks, put, empty)

    return chunked


def _cut(argument: Any, axis: int, index: jax.Array | int, chunks: int) -> Any:
    """Chunk ``index`` of every array."""

    def leaf(x: jax.Array) -> jax.Array:
        size = x.shape[axis] // chunks
        return jax.lax.dynamic_slice_in_dim(x, index * size, size, axis)

    return jax.tree.map(leaf, argument)


def _empty(shapes: Any, axis: int | None, chunks: int) -> Any:
    """Where results go: zeros as large as the batch, or as a mean."""

    def leaf(shape: jax.ShapeDtypeStruct) -> jax.Array:
        size = list(shape.shape)
        if axis is not None:
            size[axis] *= chunks
        return jnp.zeros(size, shape.dtype)

    return jax.tree.map(leaf, shapes)


def _put(whole: Any, part: Any, axis: int | None, index: jax.Array, chunks: int) -> Any:
    """Results with those of chunk ``index`` put in their place, or added to the mean."""

    def leaf(whole: jax.Array, part: jax.Array) -> jax.Array:
        if axis is None:
            return whole + part / chunks
        start = index * part.shape[axis]
        return jax.lax.dynamic_update_slice_in_dim(whole, part, start, axis)

    return jax.tree.map(leaf, whole, part)
