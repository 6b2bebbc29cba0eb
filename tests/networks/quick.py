"""Compilation that takes a fraction of the time, for programs that run once; plain arrays."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

if TYPE_CHECKING:
    from mamt_jax.training.trainer import Trainer

T = TypeVar("T", bound="Trainer")

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def trainer(real: T) -> T:
    """The same training functions, compiled quickly."""
    settings = real.init.args[0]
    init = jit(real.init.func.__wrapped__)
    epoch = jit(real.epoch.func.__wrapped__, donate_argnums=1)
    return real._replace(init=partial(init, settings), epoch=partial(epoch, settings))


def plain(tree: Any) -> Any:
    """NumPy arrays, random keys as their data."""

    def convert(leaf: jax.Array) -> np.ndarray:
        keyed = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.array(jax.random.key_data(leaf) if keyed else leaf)

    return jax.tree.map(convert, tree)
