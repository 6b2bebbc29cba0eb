"""What environments have started and not ended: processes, known by a variable that they inherit.

Process groups do not hold them all: simulators are often started in a session of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

MARK = "MAMT_JAX_STARTED_BY"
"""The variable."""
_LONGEST = 2.0  # seconds after which a process that does not end is let be


def end_marked(mark: str) -> None:
    """Ends all processes but this one that have a mark. Without /proc none of them is found."""
    line, end = f"{MARK}={mark}".encode(), time.monotonic() + _LONGEST
    while time.monotonic() < end:
        found = False
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # gone, or somebody else's
                marked = line in (folder / "environ").read_bytes().split(b"\0")
                if marked and int(folder.name) != os.getpid():
                    os.kill(int(folder.name), signal.SIGKILL)
                    found = True
        if not found:  # nor started meanwhile
            return
