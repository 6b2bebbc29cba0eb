"""Work that a contender repeats, with a clock around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Work = Callable[[], tuple[float, int]]
"""() -> (seconds, how much was done). What its attribute ``said`` holds goes into replies."""


def timed(work: Callable[[], Any], count: int) -> Work:
    """Work with a clock around it."""

    def run() -> tuple[float, int]:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin, count

    return run
