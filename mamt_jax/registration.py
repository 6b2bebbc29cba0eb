"""One way to give a name to an environment or an algorithm of one's own."""

from __future__ import annotations

from typing import Any

from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.algorithms.registry import Builder, Recipe


def register(name: str, own: type[Any] | Recipe | Builder) -> None:
    """Makes ``own`` known by ``name`` to all of mamt_jax, in this process.

    Without it, ``"my_module:Maze"`` is a name already, for the command line too.

    Args:
        name: Letters, digits and _.
        own: The class of an environment, whose fields are its options; or an algorithm, as a
            :class:`~mamt_jax.algorithms.registry.Recipe` or a function that builds it.

    Raises:
        ConfigError: The name is taken or is none, or ``own`` is neither.
    """
    if isinstance(own, type):
        envs.register(name, own)
    else:
        registry.register(name, own)
