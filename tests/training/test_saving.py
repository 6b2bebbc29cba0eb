"""How often checkpoints are written, where writing one takes as long as a GPU trains meanwhile."""

from __future__ import annotations

import pytest

from mamt_jax.training import loop


def saves(monkeypatch: pytest.MonkeyPatch, saving: float, point: float, points: int) -> int:
    """Checkpoints of a run whose logging points, each due for one, and saves take these seconds."""
    now = [100.0]
    monkeypatch.setattr(loop.time, "monotonic", lambda: now[0])
    clock, count = loop._Clock(0.0, 1, 1), 0
    for _ in range(points):
        now[0] += point
        if clock.may_save:
            count += 1
            with clock.saving():
                now[0] += saving
    return count


def test_saving_takes_a_twentieth_of_the_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves(monkeypatch, saving=2.0, point=1.0, points=410) == pytest.approx(10, abs=1)
    assert saves(monkeypatch, saving=2.0, point=50.0, points=10) == 10


def test_what_takes_no_time_is_always_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    assert saves(monkeypatch, saving=0.4, point=0.01, points=50) == 50
