"""Which processes a test has started, directly or not, and which of them still live."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_NAME = "MAMT_TEST_MARK"


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Marks all processes that a test starts, by a variable of their environment."""
    text = f"{os.getpid()}_{time.monotonic_ns()}"
    monkeypatch.setenv(_NAME, text)
    yield text
    end_all(text)


def end_all(mark: str) -> None:
    """Kills them, and what they have started meanwhile."""
    while pids := living(mark):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def living(mark: str) -> list[int]:
    """Processes that were started under this mark and are neither gone nor dead."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal() or int(folder.name) == os.getpid():
            continue
        try:
            marked = f"{_NAME}={mark}".encode() in (folder / "environ").read_bytes()
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if marked and state not in "ZX":
            found.append(int(folder.name))
    return found


def nothing_lives(mark: str, seconds: float = 8.0) -> bool:
    """Whether all of them are gone within some seconds."""
    end = time.monotonic() + seconds
    while living(mark) and time.monotonic() < end:
        time.sleep(0.05)
    return not living(mark)


def some_live(count: int, mark: str, seconds: float = 4.0) -> bool:
    """Whether there are so many of them, or soon will be: one that begins is not marked at once."""
    end = time.monotonic() + seconds
    while len(living(mark)) < count and time.monotonic() < end:
        time.sleep(0.05)
    return len(living(mark)) >= count
