"""Memory that a trainer and its workers share: one row for each copy of a host environment."""

from __future__ import annotations

import math
import mmap
import os
import tempfile
from typing import IO, NamedTuple

import numpy as np

from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.hosted import HostEnvironment


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
