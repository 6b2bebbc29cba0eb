"""Settings as data: a pytree whose leaves are the numbers and whose structure is all the rest.

An algorithm is built from settings inside of the program that runs it, with arrays in the place of
numbers. So the same program serves for all numbers, and settings of one structure can be stacked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.settings.fields import fields_of
from mamt_jax.settings.tree import Part, Settings


def as_data(settings: Settings) -> Settings:
    """The same, settled, with scalar arrays float32 and int32 for the numbers: a pytree.

    Equal structures make equal tree definitions.
    """
    settled = settings.settled()
    for part in settled.parts:
        _register(type(part))
    return jax.tree.map(_array, settled)


def stacked(each: Sequence[Settings], repeats: int = 1) -> Settings:
    """Several settings of one structure as one.

    Args:
        each: K of them.
        repeats: How many rows each stands for.

    Returns:
        Numbers in which they differ as arrays ``[K * repeats]``, all others as scalars ``[]``.

    Raises:
        ValueError: Their structures differ.
    """

    def join(*values: Any) -> Any:
        if all(value == values[0] for value in values):
            return values[0]
        return jnp.repeat(jnp.stack(values), repeats)

    return jax.tree.map(join, *map(as_data, each))


def axes(settings: Settings) -> Settings:
    """For ``jax.vmap``: 0 of every number that has a leading axis, None of the others."""
    return jax.tree.map(lambda leaf: 0 if jnp.ndim(leaf) else None, settings)


def row(settings: Settings, index: Any, count: int | None = None) -> Settings:
    """One row of stacked settings, or ``count`` of them from ``index`` on."""

    def take(leaf: Any) -> Any:
        if not jnp.ndim(leaf):
            return leaf
        if count is None:
            return leaf[index]
        return jax.lax.dynamic_slice_in_dim(leaf, index, count)

    return jax.tree.map(take, settings)


def _array(value: Any) -> Any:
    return np.int32(value) if isinstance(value, int) else np.float32(value)


def _remake(kind: type, values: dict[str, Any]) -> Any:
    """An instance without its checks: arrays may stand in the place of numbers."""
    made: Any = object.__new__(kind)
    for name, value in values.items():
        object.__setattr__(made, name, value)
    return made


_REGISTERED: set[type[Part]] = set()


def _register(kind: type[Part]) -> None:
    """Makes a pytree of a part's class, once."""
    if kind in _REGISTERED:
        return
    _REGISTERED.add(kind)
    numbers = [name for name, field in fields_of(kind).items() if field.is_number]

    def flatten(part: Part) -> tuple[Any, Any]:
        held = vars(part)
        keyed = [(jax.tree_util.GetAttrKey(name), held[name]) for name in numbers]
        return keyed, tuple((name, value) for name, value in held.items() if name not in numbers)

    def unflatten(static: Any, leaves: Any) -> Part:
        made: Part = _remake(kind, dict(static) | dict(zip(numbers, leaves, strict=True)))
        return made

    jax.tree_util.register_pytree_with_keys(kind, flatten, unflatten)


def _flatten_settings(settings: Settings) -> tuple[Any, None]:
    keyed = [(jax.tree_util.GetAttrKey(part.group), part) for part in settings.parts]
    return keyed, None


jax.tree_util.register_pytree_with_keys(
    Settings, _flatten_settings, lambda _, parts: _remake(Settings, {"parts": tuple(parts)})
)
