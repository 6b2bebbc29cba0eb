"""Many host environments at once, stepped by worker processes through shared memory.

The parent writes actions and reads results in one block of memory that all processes map; a pipe
to each worker carries nothing but "step" and "done". A worker is a new Python that runs
`mamt_jax.envs.worker_main`. It ends, its environments closed, when the parent's end of its pipe
closes, however that comes about.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import uuid
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Pipe
from typing import Any

import numpy as np

from mamt_jax.envs.hosted import OWN_MARK, QUIET, HostEnvironment
from mamt_jax.envs.leftovers import MARK, end_marked
from mamt_jax.envs.rows import Rows, Task, map_rows, rows_bytes, shared_file
from mamt_jax.envs.worker_main import CLOSED, CLOSING, DONE, END, GRACE

_SLICE = 1.0  # seconds between looks at whether a worker gets on
_START = 60.0  # seconds that Python is given to start and to import, at least
_REPORT_BYTES = 8192  # of what a worker wrote last


class WorkerError(RuntimeError):
    """A worker process crashed or hangs, or its environment cannot be used; the text says where."""


class HostVectorEnv:
    """R copies of a host environment in worker processes; finished episodes start anew.

    Attributes:
      spec: of one of them.
      rows: results of the last step, see `Rows`.
      timeout: seconds that one environment may take for one thing.
    """

    def __init__(
        self, env: HostEnvironment, num_rows: int, workers: int = 0, timeout: float = 120.0
    ) -> None:
        """Starts the workers.

        Args:
          env: what to step.
          num_rows: copies R.
          workers: processes; 0 for one per core. No more than copies.
          timeout: seconds that one environment may take for one thing: to open, reset, or step.
        """
        self.spec = env.spec
        self.timeout = timeout
        count = min(workers or _cores(), num_rows)
        bounds = [num_rows * worker // count for worker in range(count + 1)]
        self._slices = [slice(*ends) for ends in zip(bounds[:-1], bounds[1:], strict=True)]
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _end, self._workers)
        with shared_file(rows_bytes(env.spec, num_rows)) as file:
            self.rows = map_rows(file.fileno(), env.spec, num_rows)
            for part in self._slices:
                task = Task(env, range(num_rows)[part], num_rows)
                done = self.rows.done[part]
                self._workers.append(_Worker(task, file.fileno(), len(self._workers), done))

    def reset(self, entropy: Sequence[tuple[int, ...]]) -> Rows:
        """Starts an episode in every row.

        Args:
          entropy: for each row the numbers that all of its episodes from here on are drawn from.

        Raises:
          WorkerError: a worker failed; all are stopped then.
        """
        self.rows.idle[...] = False
        return self._request([list(entropy[part]) for part in self._slices])

    def step(self, actions: np.ndarray) -> Rows:
        """Moves all agents of all copies by `actions` [R, n] and starts finished episodes anew.

        Raises:
          WorkerError: a worker failed; all are stopped then.
        """
        self.rows.action[...] = actions
        return self._request([None] * len(self._workers))

    def set_idle(self, idle: np.ndarray) -> None:
        """Says which rows [R] the next steps leave as they are; nothing comes of them."""
        rows = self.rows
        rows.idle[...] = idle
        rows.reward[idle], rows.terminated[idle] = 0.0, False
        rows.finished[idle], rows.finished_return[idle] = False, 0.0

    def _request(self, messages: list[Any]) -> Rows:
        """Sends every worker its message and waits for all to be done."""
        try:
            for worker, message in zip(self._workers, messages, strict=True):
                worker.send(message)
            for worker in self._workers:
                worker.wait(self.timeout)
        except BaseException:
            self.close()  # whatever interrupts this, the next answer would be out of turn
            raise
        return self.rows

    def close(self) -> None:
        """Closes all copies and ends the workers; happens by itself when this object is gone."""
        self._finalizer()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """The parent's side of one worker process, which leads a process group of its own."""

    def __init__(self, task: Task, memory: int, number: int, done: np.ndarray) -> None:
        self.number = number
        self._done = done
        ours, theirs = Pipe()
        paths = [path for path in sys.path if path and isinstance(path, str)]  # as Python reads it
        self._mark = uuid.uuid4().hex
        command = (
            f"import sys; sys.path[:] = {ascii(paths)}; "
            "from mamt_jax.envs.worker_main import main; "
            f"main({theirs.fileno()}, {memory}, {self._mark!r}, {OWN_MARK!r})"
        )
        self._output = _Tail()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-c", command],  # -P: not what lies in the working directory
                env=QUIET | os.environ | {MARK: self._mark},
                pass_fds=(theirs.fileno(), memory),
                process_group=0,  # a signal to the parent's group is the parent's to handle
                stdin=subprocess.DEVNULL,
                stdout=self._output.end,
                stderr=self._output.end,
            )
        finally:
            self._output.start()
            theirs.close()
        self.connection = ours
        self.send(pickle.dumps(task))

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # a dead worker is noticed by whoever waits for it
            self.connection.send(message)

    def wait(self, timeout: float) -> None:
        """Waits for the worker to be done, `timeout` seconds for each thing that it does.

        Only time that was spent waiting counts: not that in which this process was stopped.
        """
        before = self._progress()
        left = timeout if before else max(timeout, _START)
        try:
            while not self.connection.poll(min(left, _SLICE)):
                if self.process.poll() is not None and not self.connection.poll():
                    raise EOFError  # whoever it has forked holds the connection open
                now = self._progress()
                left = left - _SLICE if now == before else timeout
                before = now
                if left <= 0:
                    raise WorkerError(
                        f"Environment worker {self.number} has not answered for {timeout:g} "
                        f"seconds. It hangs here:\n{self._where_it_hangs()}"
                    )
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE)
            raise WorkerError(
                f"Environment worker {self.number} died ({_how(self.process.returncode)}). "
                f"It last wrote:\n{self._output.text(ended=True)}"
            ) from error
        if answer != DONE:
            raise WorkerError(f"Environment worker {self.number} failed:\n{answer}")

    def _progress(self) -> int:
        return int(self._done.sum())

    def _where_it_hangs(self) -> str:
        before = self._output.count
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + GRACE
        while self._output.count == before and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.05)
        return self._output.text()

    def reap(self) -> None:
        """Waits for the process to end while it gets on with closing; ends what is left of it."""
        before, end = self._progress(), time.monotonic() + CLOSING
        while self.process.poll() is None and time.monotonic() < end:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(0.05)
            if (now := self._progress()) != before:
                # Threads that environments have left behind do not end with them.
                closed = bool((self._done == CLOSED).all())
                before, end = now, time.monotonic() + (GRACE if closed else CLOSING)
        # Its number is not given away while its group has members.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        end_marked(self._mark)
        self.process.wait()
        self._output.close()


class _Tail:
    """The last of what a process writes, read as it is written and kept in memory.

    Attributes:
      end: descriptor to write to.
      count: bytes written so far.
    """

    def __init__(self) -> None:
        self._read, self.end = os.pipe()
        self.count = 0
        self._last = b""
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def start(self) -> None:
        """Begins to read; from here on only others write."""
        os.close(self.end)
        self._thread.start()

    def _follow(self) -> None:
        while chunk := os.read(self._read, 1 << 16):
            self._last = (self._last + chunk)[-_REPORT_BYTES:]
            self.count += len(chunk)
        os.close(self._read)

    def text(self, ended: bool = False) -> str:
        """What was written last; `ended`: by a process that is no more."""
        if ended:
            self._thread.join(GRACE)
        return self._last.decode(errors="replace").strip() or "(nothing)"

    def close(self) -> None:
        """Waits for the end of what is written, unless somebody else goes on writing."""
        self._thread.join(GRACE)


def _how(status: int | None) -> str:
    if status is None:
        return "its connection broke"
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-status).name
    return f"signal {-status}"


def _end(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.send(END)
        worker.connection.close()
    for worker in workers:
        worker.reap()
