"""Batches in smaller chunks than any cache asks for."""

from __future__ import annotations

import dataclasses

import pytest

from mamt_jax.backend import choices_for
from mamt_jax.ops import chunking


def cut(monkeypatch: pytest.MonkeyPatch, values: int, least: int | None = None) -> None:
    """Chunks of at most so many values of a layer, and at least so many samples."""
    choices = dataclasses.replace(choices_for("cpu"), chunk_values=values)
    monkeypatch.setattr(chunking, "chosen", lambda: choices)
    if least is not None:
        monkeypatch.setattr(chunking, "MIN_SAMPLES", least)
