"""A scan whose many small outputs are written as few arrays.

An update reports some twenty quantities of a few values each. Stacked one by one, each of them is a
kernel of its own in every update and in every event, as many as half of the rest on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

Carry = TypeVar("Carry")


def scan(
    function: Callable[[Carry, Any], tuple[Carry, Any]], carry: Carry, inputs: Any
) -> tuple[Carry, Any]:
    """``jax.lax.scan(function, carry, inputs)``."""
    shapes: list[Any] = []

    def packed(carry: Carry, item: Any) -> tuple[Carry, Any]:
        carry, outputs = function(carry, item)
        shapes[:] = [jax.eval_shape(lambda: outputs)]
        return carry, pack(outputs)

    carry, rows = jax.lax.scan(packed, carry, inputs)  # which traces it: the shapes are known
    return carry, unpack(shapes[0], rows)


def pack(tree: Any) -> dict[str, jax.Array]:
    """All values of a pytree's arrays, one vector for each of their types."""
    vectors: dict[str, list[jax.Array]] = {}
    for leaf in jax.tree.leaves(tree):
        vectors.setdefault(jnp.dtype(leaf.dtype).name, []).append(jnp.ravel(leaf))
    return {name: jnp.concatenate(parts) for name, parts in vectors.items()}


def unpack(shapes: Any, rows: dict[str, jax.Array]) -> Any:
    """The pytree again, of vectors with further axes before: leaves ``[..., *shape]``."""
    leaves, structure = jax.tree.flatten(shapes)
    taken = dict.fromkeys(rows, 0)
    found = []
    for leaf in leaves:
        name, size = jnp.dtype(leaf.dtype).name, int(np.prod(leaf.shape))
        part = rows[name][..., taken[name] : taken[name] + size]
        taken[name] += size
        found.append(part.reshape(*part.shape[:-1], *leaf.shape))
    return jax.tree.unflatten(structure, found)
