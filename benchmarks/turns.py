"""Contenders taking turns: what disturbs the machine disturbs them all."""

from __future__ import annotations

import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from typing import IO, Any

from benchmarks.progress import duration, note
from mamt_jax.errors import MamtError
from mamt_jax.reports.texts import counted

Spec = dict[str, Any]

QUIET = {
    "JAX_TRACEBACK_FILTERING": "off",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    "MAMT_JAX_CACHE": "",
}
"""Environment of processes on JAX: their last line is their error, they share a GPU, and what they
compile they compile anew.
"""


class ContenderError(MamtError):
    """A contender ended early; the message says with what."""


def in_turns(
    specs: list[Spec], repetitions: int, together: tuple[int, ...] = ()
) -> list[dict[str, Any]]:
    """Milliseconds per unit of work, and units per second, of every contender.

    All get ready first, one after another; then, ``repetitions`` times, each works once while the
    others wait. Each of them and each turn is a line on stderr.

    Args:
      specs: as :mod:`benchmarks.contender` reads them.
      repetitions: of each contender's work.
      together: indices of contenders that work at the same time, in the first of their turns.

    Raises:
      ContenderError: if one ends.
    """
    groups = _groups(len(specs), together)
    with ExitStack() as stack:  # whatever ends this, Ctrl-C too, ends all processes
        processes = [_ready(spec, stack) for spec in specs]
        turn = sum(max(processes[index].seconds for index in group) for group in groups)
        note(f"  {counted(repetitions, 'turn')} of all: about {duration(turn * repetitions)}")
        runs: list[list[tuple[float, int]]] = [[] for _ in specs]
        for done in range(repetitions):
            begin = time.monotonic()
            for group in groups:
                for index in group:
                    processes[index].go()
                for index in group:
                    answer = processes[index].reply()
                    runs[index].append((answer["seconds"], answer["count"]))
            note(f"  turn {done + 1} of {repetitions}: {duration(time.monotonic() - begin)}")
    return [
        {"spec": process.spec, "first_call_seconds": round(process.first, 2)} | summary(timings)
        for process, timings in zip(processes, runs, strict=True)
    ]


def title(spec: Spec) -> str:
    """What a contender is, to read."""
    if spec["kind"] == "environment":
        return f"{spec['num_envs']:,} x {spec['name']}"
    what = f"{spec.get('algorithm')} on {spec.get('env', 'spread')}"
    if spec["kind"] == "deviations":
        return f"what less precise products change, {what}"
    if spec["kind"] == "golden":
        kind = spec["precision"] if spec["products"] == "float32" else spec["products"]
        return f"golden file {spec['case']}, {spec['algorithm']} in {kind}"
    if not spec["kind"].startswith("torch"):
        return f"mamt_jax, {what}, {counted(spec.get('seeds', 1), 'seed')}" + (
            f", {spec['precision']}" if "precision" in spec else ""
        )
    how = [f"PyTorch {spec.get('idiom')}", what, counted(spec.get("threads", 1), "thread")]
    how += [f"core {core}" for core in spec.get("cores", ())]
    how += [name for name in ("compiled", "graphs") if spec.get(name)]
    return ", ".join(how)


def last_words(errors: bytes, status: int) -> str:
    """What killed a process, or the last line that it has written, or its exit status."""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}."
    lines = errors.decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else f"exit status {status}."


def summary(runs: list[tuple[float, int]]) -> dict[str, Any]:
    """Median, fastest and slowest of (seconds, count) pairs."""
    each = [1e3 * seconds / count for seconds, count in runs]
    return {
        "ms": {"median": statistics.median(each), "min": min(each), "max": max(each)},
        "per_second": 1e3 / statistics.median(each),
        "ms_of_turns": each,
        "repetitions": len(runs),
    }


def _groups(count: int, together: tuple[int, ...]) -> list[tuple[int, ...]]:
    alone: list[tuple[int, ...]] = [(i,) for i in range(count) if i not in together]
    return [*alone, together] if together else alone


def _ready(spec: Spec, stack: ExitStack) -> Contender:
    """A contender that is warm; ``stack`` ends it."""
    begin = time.monotonic()
    process = started(spec, stack)
    process.warm()
    note(f"  ready after {duration(time.monotonic() - begin)}: {title(spec)}")
    return process


def started(spec: Spec, stack: ExitStack, **environment: str) -> Contender:
    """A contender, which ``stack`` ends.

    Ctrl-C waits until it does: within the call that starts a process it would leave one behind.
    """
    came: list[int] = []
    stops = signal.SIGINT, signal.SIGTERM
    before = {stop: signal.signal(stop, lambda number, _: came.append(number)) for stop in stops}
    try:
        return stack.enter_context(Contender(spec, **environment))
    finally:
        for stop, handler in before.items():
            signal.signal(stop, handler)
        if came:
            signal.raise_signal(came[0])


class Contender:
    """A contender's process.

    Args:
      spec: as :mod:`benchmarks.contender` reads it.
      **environment: variables that it gets beside those of this process.
    """

    def __init__(self, spec: Spec, **environment: str) -> None:
        self.spec = spec
        self.first = self.seconds = 0.0  # of its first call, and of a warm one
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
            env=os.environ | tuned | environment,
        )

    def __enter__(self) -> Contender:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Kills it; a second time does nothing."""
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            with suppress(OSError):  # what it was told last may not have gone out
                stream.close()
        self.errors.close()

    def warm(self) -> None:
        """Waits until it is ready."""
        said = self.reply()
        self.first, self.seconds = said["first_call_seconds"], said["warm_call_seconds"]

    def go(self) -> None:
        """Lets it work once."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # its reply will be missing, which says why
            print("go", file=self.process.stdin, flush=True)

    def answers(self, seconds: float | None) -> bool:
        """Whether its next line is there within so many seconds, or it has ended; None: waits."""
        # There is one line for each that it was told, so that none waits in Python's buffer.
        wait = None if seconds is None else max(seconds, 0.0)
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], wait)[0])

    def reply(self, seconds: float | None = None) -> dict[str, Any]:
        """Waits for its next line.

        Args:
          seconds: how long at most; None for ever.

        Raises:
          ContenderError: it has ended, or was not done in time.
        """
        if not self.answers(seconds):
            raise ContenderError(f"{title(self.spec)}: not done when its time was over.")
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            status = self.process.wait()
            self.errors.seek(0)
            said = last_words(self.errors.read(), status)
            raise ContenderError(f"{title(self.spec)} ended: {said}")
        reply: dict[str, Any] = json.loads(line)
        return reply
