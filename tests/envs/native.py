"""Which registered environments are JAX, and which are stepped on the host."""

from __future__ import annotations

from mamt_jax import envs

HOSTED = tuple(
    name for name in envs.names() if issubclass(envs._constructor(name), envs.HostEnvironment)
)
NATIVE = tuple(name for name in envs.names() if name not in HOSTED)
