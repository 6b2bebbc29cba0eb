"""Contenders taking turns: what disturbs the machine disturbs them all."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from typing import IO, Any

from mamt_jax.errors import MamtError

Spec = dict[str, Any]

QUIET = {"JAX_TRACEBACK_FILTERING": "off", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
"""Environment of processes on JAX: their last line is their error, and they share a GPU."""


class ContenderError(MamtError):
    """A contender ended early; the message says with what."""


def in_turns(
    specs: list[Spec], repetitions: int, together: tuple[int, ...] = ()
) -> list[dict[str, Any]]:
    """Milliseconds per unit of work, and units per second, of every contender.

    All get ready first, one after another; then, ``repetitions`` times, each works once while the
    others wait.

    Args:
      specs: as :mod:`benchmarks.contender` reads them.
      repetitions: of each contender's work.
      together: indices of contenders that work at the same time, in the first of their turns.

    Raises:
      ContenderError: if one ends.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(_Contender(spec)) for spec in specs]
        first = [process.reply()["first_call_seconds"] for process in processes]
        runs: list[list[tuple[float, int]]] = [[] for _ in specs]
        for _ in range(repetitions):
            for group in _groups(len(specs), together):
                for index in group:
                    processes[index].go()
                for index in group:
                    answer = processes[index].reply()
                    runs[index].append((answer["seconds"], answer["count"]))
    return [
        {"spec": spec, "first_call_seconds": round(ready, 2)} | summary(timings)
        for spec, ready, timings in zip(specs, first, runs, strict=True)
    ]


def last_words(errors: bytes, status: int) -> str:
    """The last line that a process has written, or its exit status."""
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {status}"


def summary(runs: list[tuple[float, int]]) -> dict[str, Any]:
    """Median, fastest and slowest of (seconds, count) pairs."""
    each = [1e3 * seconds / count for seconds, count in runs]
    return {
        "ms": {"median": statistics.median(each), "min": min(each), "max": max(each)},
        "per_second": 1e3 / statistics.median(each),
        "repetitions": len(runs),
    }


def _groups(count: int, together: tuple[int, ...]) -> list[tuple[int, ...]]:
    alone: list[tuple[int, ...]] = [(i,) for i in range(count) if i not in together]
    return [*alone, together] if together else alone


class _Contender:
    """A contender's process."""

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed on exit
        # PyTorch allocates anew in every step and would fault its pages in again each time: glibc
        # keeps them for it. mamt_jax runs as users run it.
        allocator = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(8 * 10**9)}
        tuned = allocator if spec["kind"].startswith("torch") else QUIET
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.contender", json.dumps(spec)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            env=os.environ | tuned,
        )

    def __enter__(self) -> _Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()

    def go(self) -> None:
        """Lets it work once."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its reply will be missing, which says why
            print("go", file=self.process.stdin, flush=True)

    def reply(self) -> dict[str, Any]:
        """Waits for its next line."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            said = last_words(self.errors.read(), status)
            raise ContenderError(f"The benchmark's process for {self.spec} ended: {said}")
        reply: dict[str, Any] = json.loads(line)
        return reply
