"""The axis of seeds: how a function of one seed runs for all, and the keys of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from mamt_jax.backend import Choices, chosen
from mamt_jax.settings import Settings, numbers
from mamt_jax.training.programs import as_written

Seeds = TypeVar("Seeds")

_STREAM = 0xE7A1
"""Folded into every key of an evaluation, so that no training stream shares it."""


def seed_batch(asked: int, rows: int, choices: Choices | None = None) -> int:
    """Seeds computed side by side: as asked for, else what suits the device.

    Args:
      asked: ``Execution.seed_batch``; 0 where it leaves this open.
      rows: seeds on one device, of all settings that are trained together.
      choices: of the device; JAX's own where left out.
    """
    return min(asked or (choices or chosen()).seeds_side_by_side or rows, rows)


def map_seeds(
    function: Callable[[Settings, Seeds], tuple[Seeds, Any]],
    settings: Settings,
    seeds: Seeds,
    batch: int,
) -> tuple[Seeds, Any]:
    """Maps over the seeds' leading axis, ``batch`` of them vmapped at a time.

    The stacked state is the loop's carry and written in place: beside it there is room for one
    batch, where ``lax.map`` would hold a second copy of every store.

    Args:
      function: (settings, state) of one seed -> (state, outputs).
      settings: the same for all seeds, but for numbers ``[S]``.
      seeds: states, leaves ``[S, ...]``.
      batch: at most S; where it does not divide S, the last batch is smaller.
    """
    count, axes = jax.tree.leaves(seeds)[0].shape[0], numbers.axes(settings)
    if batch == count > 1:
        return jax.vmap(function, in_axes=(axes, 0))(settings, seeds)

    def some(stacked: Seeds, start: Any, size: int) -> tuple[Seeds, Any]:
        part = jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size), stacked)
        if size == 1:
            one = jax.tree.map(lambda leaf: leaf[0], part)
            part, out = function(numbers.row(settings, start), one)
            part, out = jax.tree.map(lambda leaf: leaf[None], (part, out))
        else:
            rows = numbers.row(settings, start, size)
            part, out = jax.vmap(function, in_axes=(axes, 0))(rows, part)
        stacked = jax.tree.map(
            lambda leaf, rows: jax.lax.dynamic_update_slice_in_dim(leaf, rows, start, axis=0),
            stacked,
            part,
        )
        return stacked, out

    rest, last = count % batch, count - count % batch
    each = partial(some, size=batch)
    seeds, outputs = jax.lax.scan(each, seeds, jnp.arange(0, last, batch))
    outputs = jax.tree.map(lambda leaf: leaf.reshape(last, *leaf.shape[2:]), outputs)
    if rest:
        seeds, out = some(seeds, last, rest)
        outputs = jax.tree.map(lambda *both: jnp.concatenate(both), outputs, out)
    return seeds, outputs


@as_written()
def evaluation_keys(trained: Sequence[int], seed: int = 0, point: int = 0) -> jax.Array:
    """Keys of an evaluation ``[S]``: a trained seed's are its own, whatever others there are.

    Args:
      trained: ids of the seeds whose policies play.
      seed: of the evaluation's own randomness.
      point: logging point that it belongs to; 0 for none.
    """
    stream = jax.random.fold_in(jax.random.key(seed), _STREAM)
    stream = jax.random.fold_in(stream, point)
    return jax.vmap(partial(jax.random.fold_in, stream))(jnp.asarray(trained, jnp.int32))
