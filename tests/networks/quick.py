"""Compilation that takes a fraction of the time: tests run small programs once."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

import jax

if TYPE_CHECKING:
    from mamt_jax.training.off_policy import Trainer

T = TypeVar("T", bound="Trainer")

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def trainer(real: T) -> T:
    """The same training functions, compiled quickly."""
    return real._replace(
        init=jit(real.init.__wrapped__), epoch=jit(real.epoch.__wrapped__, donate_argnums=0)
    )
