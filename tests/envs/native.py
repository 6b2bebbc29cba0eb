"""Which registered environments are JAX, and which are stepped on the host."""

from __future__ import annotations

from mamt_jax import envs

HOSTED = tuple(
    name for name in envs.names() if issubclass(envs._constructor(name), envs.HostEnvironment)
)
LONG_TO_COMPILE = ("multiwalker",)
"""Those whose programs take ten seconds each to compile: their own tests compile few."""
NATIVE = tuple(name for name in envs.names() if name not in (*HOSTED, *LONG_TO_COMPILE))
