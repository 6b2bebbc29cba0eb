"""Rows of a run (seeds, of all settings) on the devices of this machine: the axis of a mesh.

Nothing is ever exchanged between rows, so each device runs the program of one device on its share.
Where rows do not divide evenly, the last one is repeated: the copies are computed by devices that
would wait, and belong to no run. With one device, or one row, there is no mesh, and nothing here
changes a program.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

T = TypeVar("T")

ROWS = PartitionSpec("rows")
"""Of arrays ``[S, ...]``."""
SAME = PartitionSpec()
"""Of arrays that are the same for all rows."""


def mesh_of(rows: int) -> Mesh | None:
    """The fewest local devices on which that many rows take no longer; None for one."""
    devices = jax.local_devices()
    each = -(-rows // len(devices))
    used = devices[: -(-rows // each)]
    return None if len(used) == 1 else Mesh(np.array(used), ("rows",))


def on_devices(mesh: Mesh | None) -> str:
    """What to say of the devices where there are several."""
    if mesh is not None:
        return f" on {mesh.size} devices"
    count = jax.local_device_count()
    return f" on one of {count} devices" if count > 1 else ""


def share(rows: int, mesh: Mesh | None) -> int:
    """Rows on each device."""
    return -(-rows // mesh.size) if mesh else rows


def padded(leaf: Any, mesh: Mesh | None) -> Any:
    """Rows ``[S, ...]``, the last one repeated until there are as many on each device."""
    if mesh is None or not (missing := -len(leaf) % mesh.size):
        return leaf
    return np.concatenate([leaf, np.repeat(leaf[-1:], missing, axis=0)])


def over(function: Callable[..., Any], mesh: Mesh | None, out: Any) -> Callable[..., Any]:
    """A function of rows, each device's share of them on that device.

    Args:
      function: of trees of arrays ``[S, ...]``, and of scalars ``[]`` that are the same for all.
      mesh: the devices; None leaves the function as it is.
      out: ``ROWS`` or ``SAME`` of every result, as a prefix of their tree.
    """
    if mesh is None:
        return function

    def on_each(*arguments: Any) -> Any:
        specs = jax.tree.map(_spec, arguments)
        sharded = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False)
        return sharded(*arguments)

    return on_each


def _spec(leaf: Any) -> PartitionSpec:
    return ROWS if jnp.ndim(leaf) else SAME


def laid_out(shapes: T, mesh: Mesh | None) -> T:
    """Shapes of a state, with where it lies."""
    if mesh is None:
        return shapes

    def laid(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=NamedSharding(mesh, _spec(leaf))
        )

    laid_out: T = jax.tree.map(laid, shapes)
    return laid_out


def placed(leaf: np.ndarray, mesh: Mesh | None) -> jax.Array:
    """A copy where it is computed with; a copy, because the training loop donates it."""
    if mesh is None:
        return jnp.array(leaf, copy=True)
    sharding = NamedSharding(mesh, _spec(leaf))
    return jax.make_array_from_callback(
        leaf.shape, sharding, lambda index: np.array(leaf[index], copy=True)
    )


def on_one(tree: T) -> T:
    """Small arrays, together on the first device: what is computed of them later needs no other."""
    device = jax.local_devices()[0]
    return jax.tree.map(lambda leaf: jax.device_put(leaf, device), tree)


def on_host(leaf: Any) -> np.ndarray:
    """An array that may lie on several devices, without a second copy that JAX would keep."""
    shards: Sequence[Any] = getattr(leaf, "addressable_shards", ())
    if len(shards) < 2 or leaf.is_fully_replicated:
        return np.asarray(leaf, order="C")
    shards = sorted(shards, key=lambda shard: shard.index[0].start or 0)
    return np.concatenate([np.asarray(shard.data) for shard in shards])
