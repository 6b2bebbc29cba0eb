"""Memory that a trainer and its workers share: one row for each copy of a host environment."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import IO, NamedTuple

import numpy as np

from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.hosted import HostEnvironment, HostEpisodes


class Rows(NamedTuple):
    """One step of R environments, one row each; views of memory that the next step overwrites."""

    action: np.ndarray  # [R, n] int32, written by the parent
    idle: np.ndarray  # [R] bool, written by the parent: rows that steps leave as they are
    done: np.ndarray  # [R] int64, things asked of a row's environment that are done; -1 once closed
    obs: np.ndarray  # [R, n, O] float32, to act on next: of a new episode where one has finished
    next_obs: np.ndarray  # [R, n, O] float32, what the step led to, also at the end of an episode
    reward: np.ndarray  # [R, n] float32
    alive: np.ndarray  # [R, n] bool, agents that acted
    terminated: np.ndarray  # [R, n] bool
    finished: np.ndarray  # [R] bool
    finished_return: np.ndarray  # [R] float32, averaged over agents, 0 if not finished
    return_so_far: np.ndarray  # [R] float32, of the episode that the step belongs to


def _layout(spec: EnvSpec, rows: int) -> dict[str, tuple[tuple[int, ...], type]]:
    agents, obs = (rows, spec.num_agents), (rows, spec.num_agents, spec.obs_size)
    return {
        "action": (agents, np.int32),
        "idle": ((rows,), np.bool_),
        "done": ((rows,), np.int64),
        "obs": (obs, np.float32),
        "next_obs": (obs, np.float32),
        "reward": (agents, np.float32),
        "alive": (agents, np.bool_),
        "terminated": (agents, np.bool_),
        "finished": ((rows,), np.bool_),
        "finished_return": ((rows,), np.float32),
        "return_so_far": ((rows,), np.float32),
    }


def rows_bytes(spec: EnvSpec, rows: int) -> int:
    return sum(
        8 * math.ceil(math.prod(s) * np.dtype(t).itemsize / 8)
        for s, t in _layout(spec, rows).values()
    )


def map_rows(descriptor: int, spec: EnvSpec, rows: int) -> Rows:
    """Maps the shared file into memory."""
    memory = mmap.mmap(descriptor, rows_bytes(spec, rows))
    arrays, start = {}, 0
    for name, (shape, dtype) in _layout(spec, rows).items():
        array: np.ndarray = np.frombuffer(memory, dtype, math.prod(shape), start).reshape(shape)
        arrays[name] = array
        start += 8 * math.ceil(array.nbytes / 8)
    return Rows(**arrays)


def private_rows(spec: EnvSpec, rows: int) -> Rows:
    """Rows that nobody shares."""
    return Rows(**{name: np.zeros(*of) for name, of in _layout(spec, rows).items()})


class Row:
    """The episodes of one row, played by one open copy and written down step by step.

    Attributes:
      env: the open copy.
    """

    def __init__(self, rows: Rows, index: int, env: HostEpisodes) -> None:
        self.env = env
        self._rows, self._index = rows, index
        self._entropy: tuple[int, ...] = ()
        self._played, self._return = 0, 0.0

    def reset(self, entropy: tuple[int, ...]) -> None:
        """Starts the first of the episodes that are drawn from these numbers."""
        self._entropy, self._played = entropy, 0
        self.start()

    def start(self) -> None:
        """Starts the next episode, drawn from the row's entropy and the episode's number."""
        sequence = np.random.SeedSequence([*self._entropy, self._played])
        seed = int(sequence.generate_state(1)[0]) >> 1  # below 2**31: some environments want that
        self._rows.obs[self._index] = self.env.reset(seed)
        self._rows.done[self._index] += 1
        self._played += 1
        self._return = 0.0

    def step(self) -> bool:
        """Moves all agents by the row's action; whether the episode is over."""
        rows, row = self._rows, self._index
        result = self.env.step(rows.action[row])
        rows.done[row] += 1
        rows.next_obs[row] = result.obs
        rows.obs[row] = np.where(result.present[:, None], result.obs, 0.0)
        rows.reward[row] = result.reward
        rows.alive[row] = result.alive
        rows.terminated[row] = result.terminated
        rows.finished[row] = result.finished
        self._return += float(result.reward.mean())
        rows.return_so_far[row] = self._return
        rows.finished_return[row] = self._return if result.finished else 0.0
        return result.finished


class Task(NamedTuple):
    """What a worker is told when it starts."""

    env: HostEnvironment
    rows: range
    """Rows that are this worker's."""
    total: int
    """Rows of all workers."""


def shared_file(size: int) -> IO[bytes]:
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
    raise OSError(f"No room for {size / 1e6:,.0f} MB of shared memory: {error}.")
