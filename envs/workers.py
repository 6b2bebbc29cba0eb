"""Many host environments at once, stepped by worker processes through shared memory.

The parent writes actions and reads results in one block of memory that all processes map; a pipe
to each worker carries nothing but "step" and "done". A worker is a new Python that imports
`envs.workers` alone: no fork of a process with threads in it, and no second run of the user's main
module. Workers end when the parent's end of their pipe closes, however that comes about.
"""

from __future__ import annotations

import contextlib
import faulthandler
import math
import mmap
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import weakref
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from typing import IO, Any, NamedTuple

import numpy as np

from envs.base import EnvSpec
from envs.bridge import HostEnvironment, HostEpisodes

_DONE = "done"
_GRACE = 2.0  # seconds that a worker is given to say where it hangs, or to end
_LONGEST = 1e6  # seconds that a poll can be asked to wait
_REPORT_BYTES = 8192  # of what a worker wrote last


class WorkerError(RuntimeError):
    """A worker process crashed or hangs; the text ends with its traceback."""


class Rows(NamedTuple):
    """One step of R environments, one row each; views of memory that the next step overwrites."""

    action: np.ndarray  # [R, n] int32, written by the parent
    idle: np.ndarray  # [R] bool, written by the parent: rows that steps leave as they are
    obs: np.ndarray  # [R, n, O] float32, to act on next: of a new episode where one has finished
    next_obs: np.ndarray  # [R, n, O] float32, what the step led to, also at the end of an episode
    reward: np.ndarray  # [R, n] float32
    alive: np.ndarray  # [R, n] bool, agents that acted
    terminated: np.ndarray  # [R, n] bool
    finished: np.ndarray  # [R] bool
    finished_return: np.ndarray  # [R] float32, averaged over agents, 0 if not finished


def _layout(spec: EnvSpec, rows: int) -> dict[str, tuple[tuple[int, ...], type]]:
    agents, obs = (rows, spec.num_agents), (rows, spec.num_agents, spec.obs_size)
    return {
        "action": (agents, np.int32),
        "idle": ((rows,), np.bool_),
        "obs": (obs, np.float32),
        "next_obs": (obs, np.float32),
        "reward": (agents, np.float32),
        "alive": (agents, np.bool_),
        "terminated": (agents, np.bool_),
        "finished": ((rows,), np.bool_),
        "finished_return": ((rows,), np.float32),
    }


def _bytes(spec: EnvSpec, rows: int) -> int:
    return sum(
        8 * math.ceil(math.prod(s) * np.dtype(t).itemsize / 8)
        for s, t in _layout(spec, rows).values()
    )


def _map(descriptor: int, spec: EnvSpec, rows: int) -> Rows:
    """Maps the shared file into memory."""
    memory = mmap.mmap(descriptor, _bytes(spec, rows))
    arrays, start = {}, 0
    for name, (shape, dtype) in _layout(spec, rows).items():
        array: np.ndarray = np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)
        arrays[name] = array
        start += 8 * math.ceil(array.nbytes / 8)
    return Rows(**arrays)


class Task(NamedTuple):
    """What a worker is told when it starts."""

    env: HostEnvironment
    rows: range
    """Rows that are this worker's."""
    total: int
    """Rows of all workers."""


class HostVectorEnv:
    """R copies of a host environment in worker processes; finished episodes start anew.

    Attributes:
      spec: of one of them.
      rows: results of the last step, see `Rows`.
      timeout: seconds that a step or a reset may take.
    """

    def __init__(
        self, env: HostEnvironment, num_rows: int, workers: int = 0, timeout: float = 120.0
    ) -> None:
        """Starts the workers.

        Args:
          env: what to step.
          num_rows: copies R.
          workers: processes; 0 for one per core. No more than copies.
          timeout: seconds that a step or a reset may take.
        """
        self.spec = env.spec
        self.timeout = timeout
        count = min(workers or _cores(), num_rows)
        bounds = [num_rows * worker // count for worker in range(count + 1)]
        self._slices = [slice(*ends) for ends in zip(bounds[:-1], bounds[1:], strict=True)]
        self._workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _end, self._workers)
        with _shared_file(_bytes(env.spec, num_rows)) as file:
            self.rows = _map(file.fileno(), env.spec, num_rows)
            for part in self._slices:
                task = Task(env, range(num_rows)[part], num_rows)
                self._workers.append(_Worker(task, file.fileno(), len(self._workers)))

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
            end = time.monotonic() + self.timeout
            for worker in self._workers:
                worker.wait(end, self.timeout)
        except BaseException:
            self.close()  # whatever interrupts this, the next answer would be out of turn
            raise
        return self.rows

    def close(self) -> None:
        """Ends the workers; happens by itself when this object is gone."""
        self._finalizer()


def _shared_file(size: int) -> IO[bytes]:
    """A file of that size without a name, gone with its last user; in memory where there is room.

    Its space is taken at once: without that, the first to write beyond it would die of SIGBUS.
    """
    error: OSError | None = None
    for folder in ("/dev/shm", None):
        if folder and not os.access(folder, os.W_OK):
            continue
        file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
            else:
                file.truncate(size)
            return file
        except OSError as found:
            file.close()
            error = found
    raise WorkerError(f"No room for {size / 1e6:,.0f} MB of shared memory: {error}.")


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Worker:
    """The parent's side of one worker process."""

    def __init__(self, task: Task, memory: int, number: int) -> None:
        self.number = number
        self._log: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long
        ours, theirs = Pipe()
        command = f"from envs.workers import main; main({theirs.fileno()}, {memory})"
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", command],  # -P: not what lies in the working directory
            env=environment,
            pass_fds=(theirs.fileno(), memory),
            process_group=0,  # a signal to the parent's group is the parent's to handle
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        theirs.close()
        self.connection = ours
        self.send(pickle.dumps(task))

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # a dead worker is noticed by whoever waits for it
            self.connection.send(message)

    def wait(self, end: float, timeout: float) -> None:
        """Waits until `end` (monotonic seconds) for the worker to be done with its step."""
        try:
            if not self.connection.poll(min(max(end - time.monotonic(), 0.0), _LONGEST)):
                raise WorkerError(
                    f"Environment worker {self.number} has not answered for {timeout:g} seconds. "
                    f"It hangs here:\n{self._where_it_hangs()}"
                )
            answer = self.connection.recv()
        except (EOFError, OSError) as error:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_GRACE)
            raise WorkerError(
                f"Environment worker {self.number} died ({_how(self.process.returncode)}). "
                f"It last wrote:\n{self._last_words()}"
            ) from error
        if answer != _DONE:
            raise WorkerError(f"Environment worker {self.number} failed:\n{answer}")

    def _where_it_hangs(self) -> str:
        before = self._log.seek(0, os.SEEK_END)
        self.process.send_signal(signal.SIGUSR1)
        end = time.monotonic() + _GRACE
        while self._log.seek(0, os.SEEK_END) == before and time.monotonic() < end:
            time.sleep(0.05)
        time.sleep(0.05)
        return self._last_words()

    def _last_words(self) -> str:
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(size - _REPORT_BYTES, 0))
        return self._log.read().decode(errors="replace").strip() or "(nothing)"

    def reap(self, end: float) -> None:
        """Waits until `end` (monotonic seconds) for the process to end, then kills it."""
        try:
            self.process.wait(max(end - time.monotonic(), 0.0))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self._log.close()


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
        worker.connection.close()
    end = time.monotonic() + _GRACE
    for worker in workers:
        worker.reap(end)


def main(connection: int, memory: int) -> None:
    """What a worker process runs: its rows' episodes, one step at each request.

    Ends when the parent has closed the connection, also in the middle of a step that hangs. An
    exception is sent to the parent in text.
    """
    for ignored in (signal.SIGINT, signal.SIGTERM):  # the parent's to handle
        signal.signal(ignored, signal.SIG_IGN)
    threading.Thread(target=_follow, args=(connection,), daemon=True).start()
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    parent = Connection(connection)
    try:
        task: Task = pickle.loads(parent.recv())
        episodes = _Episodes(task, _map(memory, task.env.spec, task.total))
        while True:
            entropy = parent.recv()
            if entropy is None:
                episodes.step()
            else:
                episodes.reset(entropy)
            parent.send(_DONE)
    except (EOFError, ConnectionError):
        return
    except BaseException:
        with contextlib.suppress(OSError):
            parent.send(traceback.format_exc().strip())


def _follow(connection: int) -> None:
    """Ends this process when the other end of the connection is closed."""
    poll = select.poll()
    poll.register(connection, 0)  # a hang-up is reported whatever is asked for
    poll.poll()
    os._exit(0)


class _Episodes:
    """A worker's rows."""

    def __init__(self, task: Task, rows: Rows) -> None:
        self._rows = rows
        self._envs = {row: HostEpisodes(task.env) for row in task.rows}
        self._entropy: dict[int, tuple[int, ...]] = {}
        self._played: dict[int, int] = {}
        self._returns: dict[int, float] = {}

    def reset(self, entropy: Sequence[tuple[int, ...]]) -> None:
        self._entropy = dict(zip(self._envs, entropy, strict=True))
        self._played = dict.fromkeys(self._envs, 0)
        for row in self._envs:
            self._start(row)

    def _start(self, row: int) -> None:
        """Starts the next episode of a row, drawn from the row's entropy and its number."""
        sequence = np.random.SeedSequence([*self._entropy[row], self._played[row]])
        seed = int(sequence.generate_state(1)[0]) >> 1  # below 2**31: some environments want that
        self._rows.obs[row] = self._envs[row].reset(seed)
        self._played[row] += 1
        self._returns[row] = 0.0

    def step(self) -> None:
        rows = self._rows
        for row, env in self._envs.items():
            if rows.idle[row]:
                continue
            result = env.step(rows.action[row])
            rows.next_obs[row] = result.obs
            rows.obs[row] = np.where(result.present[:, None], result.obs, 0.0)
            rows.reward[row] = result.reward
            rows.alive[row] = result.alive
            rows.terminated[row] = result.terminated
            rows.finished[row] = result.finished
            self._returns[row] += float(result.reward.mean())
            rows.finished_return[row] = self._returns[row] if result.finished else 0.0
            if result.finished:
                self._start(row)
