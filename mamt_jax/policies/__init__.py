"""Trained policies that come with the package, for :func:`mamt_jax.pretrained`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> tuple[str, ...]:
    """What there is, such as ``spread/mamt``."""
    found = sorted(FOLDER.rglob("*.npz"))
    return tuple(str(file.relative_to(FOLDER).with_suffix("")) for file in found)
