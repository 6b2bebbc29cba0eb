"""A sweep's directory: what lies where, and what the sweep asks.

OUT/sweep.json   what the sweep asks
OUT/study.db     the study, unless another storage was named
OUT/runs/        a run directory for each point
OUT/workers/     a folder for each process that works on it now
OUT/sweep.csv    the results; OUT/figures/ the figures
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mamt_jax.errors import ConfigError, RunError
from mamt_jax.files import write_whole
from mamt_jax.sweeps.grid import Grid
from mamt_jax.training.run_dir import disk_errors

_BEFORE = {"lock", "study.db", "study.db-journal"}  # there before the question is noted
RUNS = "runs"
"""Folder of the run directories."""


@contextmanager
def waited_lock(path: Path) -> Iterator[None]:
    """Holds the lock of a file, waiting for whoever has it; none where the system has no locks."""
    try:
        import fcntl
    except ImportError:  # not a POSIX system
        yield
        return
    with disk_errors(path.parent, "open the lock", "what is there is kept"):
        file = path.open("a")
    with file:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def check_question(known: Mapping[str, Any], asked: Mapping[str, Any], where: str) -> None:
    """Refuses to go on with another sweep.

    Raises:
        ConfigError: Names what differs.
    """
    differing = [
        f"{name} (there: {known.get(name)!r}, asked: {asked.get(name)!r})"
        for name in sorted({*known, *asked})
        if known.get(name) != asked.get(name)
    ]
    if differing:
        raise ConfigError(f"{where} holds another sweep: {'; '.join(differing)}.")


def open_directory(out: Path, grid: Grid) -> None:
    """Makes a sweep's directory, if it is not there, or checks that it asks the same.

    Raises:
        ConfigError: The directory holds another sweep.
        RunError: It holds something else, or cannot be made.
    """
    file = out / "sweep.json"
    with disk_errors(out, "begin the sweep", "nothing is changed"):
        if file.exists():
            try:
                known = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise RunError(f"{file} is corrupt: {error}.") from error
            return check_question(known, grid.question(), str(out))
        if out.exists() and (not out.is_dir() or set(_names(out)) - _BEFORE):
            raise RunError(f"{out} exists and holds no sweep; choose another directory.")
        out.mkdir(parents=True, exist_ok=True)
    return None


def note_question(out: Path, grid: Grid) -> None:
    """Notes in a sweep's directory what it asks, once its study is open."""
    text = json.dumps(grid.question(), indent=2) + "\n"
    with disk_errors(out, "begin the sweep", "nothing is changed"):
        if not (out / "sweep.json").exists():
            write_whole(out / "sweep.json", text.encode())


def _names(folder: Path) -> list[str]:
    return [each.name for each in folder.iterdir()]
