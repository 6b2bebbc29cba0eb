"""mamt_jax's settings as the PyTorch side reads them."""

from __future__ import annotations

from types import SimpleNamespace

from mamt_jax.algorithms.registry import get
from mamt_jax.settings import Settings


def flat(settings: Settings | None, algorithm: str) -> SimpleNamespace:
    """Every setting by its name; an algorithm's defaults where none are given."""
    return SimpleNamespace(**(settings or get(algorithm).settings).settled().flat())
