"""Functions of many environments at once, with the environments along the last axis.

What `jax.vmap` makes of a function of one environment has the environments first. Where the arrays
of one are tiny, that leaves a processor nothing wide to do; along the last axis they fill its
vectors. `lanes` wraps a function written that way into one of a single environment, under which
`jax.vmap`, also nested (seeds of environments), adds to that last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def lanes(wide: Callable[..., Any]) -> Callable[..., Any]:
    """A function of one environment, from one of arrays [..., E] that returns such arrays."""

    @jax.custom_batching.custom_vmap
    def many(*args: Any) -> Any:
        return wide(*args)

    @many.def_vmap
    def _(size: int, batched: Any, *args: Any) -> Any:
        envs = jax.tree.leaves(args)[0].shape[-1]

        def merged(x: jax.Array, has: bool) -> jax.Array:
            x = jnp.moveaxis(x, 0, -2) if has else _repeated(x[..., None, :], -2, size)
            return x.reshape(*x.shape[:-2], size * envs)

        def parted(x: jax.Array) -> jax.Array:
            return jnp.moveaxis(x.reshape(*x.shape[:-1], size, envs), -2, 0)

        out = jax.tree.map(parted, many(*jax.tree.map(merged, args, tuple(batched))))
        return out, jax.tree.map(lambda _: True, out)

    @jax.custom_batching.custom_vmap
    def one(*args: Any) -> Any:
        out = many(*jax.tree.map(lambda x: x[..., None], args))
        return jax.tree.map(lambda x: x[..., 0], out)

    @one.def_vmap
    def _(size: int, batched: Any, *args: Any) -> Any:
        def last(x: jax.Array, has: bool) -> jax.Array:
            return jnp.moveaxis(x, 0, -1) if has else _repeated(x[..., None], -1, size)

        out = many(*jax.tree.map(last, args, tuple(batched)))
        out = jax.tree.map(lambda x: jnp.moveaxis(x, -1, 0), out)
        return out, jax.tree.map(lambda _: True, out)

    return one


def _repeated(x: jax.Array, axis: int, size: int) -> jax.Array:
    shape = list(x.shape)
    shape[axis] = size
    return jnp.broadcast_to(x, shape)


def apart(stage: Callable[..., Any], *args: Any) -> Any:
    """`stage(*args)`, computed by itself.

    XLA computes what several results need again for each of them, which makes long chains of small
    operations slow beyond all measure. It does not look through a condition, and does not know that
    this one always holds.
    """
    first = next(
        leaf
        for leaf in jax.tree.leaves(args)
        if isinstance(leaf, jax.Array) and leaf.dtype == jnp.float32
    )
    holds = first.reshape(-1)[0] != -jnp.inf

    def never(*args: Any) -> Any:
        return jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(stage, *args))

    return jax.lax.cond(holds, stage, never, *args)
