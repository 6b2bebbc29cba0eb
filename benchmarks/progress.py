"""What a measurement says on stderr while it works: what comes next, about how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Task = tuple[str, Callable[[], Any]]
"""What is measured, and the work."""


def note(text: str) -> None:
    """One line on stderr, at once: stdout has the tables alone."""
    print(text, file=sys.stderr, flush=True)


def duration(seconds: float) -> str:
    """Seconds as a person says them: ``0.4 s``, ``35 s``, ``4 min``, ``1.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s" if seconds >= 9.5 else f"{max(seconds, 0.1):.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def each(tasks: Sequence[Task]) -> list[Any]:
    """Results of the tasks, one after another, each with a line before and after it."""
    begin, results = time.monotonic(), []
    for index, (name, work) in enumerate(tasks, 1):
        note(f"{index} of {len(tasks)}: {name}")
        before = time.monotonic()
        results.append(work())
        now = time.monotonic()
        rest = (now - begin) / index * (len(tasks) - index)
        left = f"; {duration(rest)} left if the others take as long" if rest else ""
        note(f"{index} of {len(tasks)} took {duration(now - before)}{left}.")
    return results
