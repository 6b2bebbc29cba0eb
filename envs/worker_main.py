"""What a worker process runs: the episodes of its rows, one step at each request.

A new Python that imports `envs` and no JAX: no fork of a process with threads in it, and no second
run of the user's main module.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import select
import signal
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

from mamt_jax.envs.hosted import BadEnvironment, HostEpisodes
from mamt_jax.envs.leftovers import end_marked
from mamt_jax.envs.rows import Row, Task, map_rows

DONE = "done"
"""What a worker answers to a request that it has fulfilled."""
END = "end"
"""What it is told last, by a parent that will see to what it leaves behind."""
GRACE = 2.0
"""Seconds that it is given to end by itself, or to say where it hangs."""
CLOSING = 10.0
"""Seconds that closing one environment may take."""
CLOSED = -1
"""In the place of the things that a row's environment has done."""
_PARENT = os.getppid()
_marks: list[str] = []
_LEFT_TO_PARENT = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGUSR2,
    signal.SIGXCPU,
)


def main(connection: int, memory: int, own_mark: str, parents_mark: str) -> None:
    """Serves requests until the parent has closed the connection; then closes all environments.

    Also in the middle of a step that hangs. What goes wrong is sent to the parent in text.

    Args:
      connection: descriptor of its end of the pipe.
      memory: descriptor of the file that holds the rows.
      own_mark: of what is started here, see `mamt_jax.envs.leftovers`.
      parents_mark: of what the parent has started, to be ended where the parent was killed.
    """
    _marks[:] = own_mark, parents_mark
    for number in _LEFT_TO_PARENT:
        if signal.getsignal(number) is not signal.SIG_IGN:
            # Not SIG_IGN, which whatever an environment starts would inherit.
            signal.signal(number, _leave_to_parent)
    os.register_at_fork(after_in_child=_hear_signals)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    episodes, cared_for = _Episodes(), False
    threading.Thread(target=_follow, args=(connection, episodes), daemon=True).start()
    try:
        cared_for = _serve(Connection(connection), memory, episodes)
    finally:
        episodes.close()
        if not cared_for:
            _end_group()


def _leave_to_parent(*_: Any) -> None:
    """A signal that the parent heard, too, and does about it what is to be done."""


def _hear_signals() -> None:
    """What an environment forks, a `multiprocessing.Process` say, is ended by signals as usual."""
    for number in _LEFT_TO_PARENT:
        if signal.getsignal(number) is _leave_to_parent:
            signal.signal(number, signal.SIG_DFL)


def _serve(parent: Connection, memory: int, episodes: _Episodes) -> bool:
    """Does as the parent says until it says no more, or something goes wrong.

    Returns:
      Whether the parent lives, and will see to what is left of this process.
    """
    with contextlib.suppress(EOFError, OSError):
        message = parent.recv()
        while message != END:
            answer = _answer(message, memory, episodes)
            if answer:
                parent.send(answer)
            if answer not in ("", DONE):
                break
            message = parent.recv()
        return True
    return False


def _answer(message: Any, memory: int, episodes: _Episodes) -> str:
    """Fulfils a request: a pickled `Task` without an answer, entropy of resets, None for a step."""
    try:
        if isinstance(message, bytes):
            episodes.open(pickle.loads(message), memory)
            return ""
        if message is None:
            episodes.step()
        else:
            episodes.reset(message)
        return DONE
    except BadEnvironment as error:
        return str(error)
    except BaseException:
        return traceback.format_exc().strip()


def _follow(connection: int, episodes: _Episodes) -> None:
    """Ends this process where the other end of the connection is closed and it hangs."""
    poll = select.poll()
    poll.register(connection, 0)  # a hang-up is reported whatever is asked for
    poll.poll()
    episodes.closing.wait(GRACE)
    last = threading.Timer(CLOSING * (1 + episodes.open_copies), _end_group)
    last.daemon = True
    last.start()
    if not episodes.closing.is_set():
        episodes.close()
        _end_group()


def _parent_is_gone() -> bool:
    """Whether the parent is no more; its files are closed a moment before it is."""
    end = time.monotonic() + GRACE / 10
    while os.getppid() == _PARENT and time.monotonic() < end:
        time.sleep(0.01)
    return os.getppid() != _PARENT


def _end_group() -> None:
    """Ends this process and all that environments have started and left behind."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # environments may have put anything there
            stream.flush()
    for mark in _marks if _parent_is_gone() else _marks[:1]:
        end_marked(mark)
    os.killpg(0, signal.SIGKILL)


class _Episodes:
    """A worker's rows.

    Attributes:
      closing: set when they begin to be closed.
    """

    def __init__(self) -> None:
        self.closing = threading.Event()
        self._home = contextlib.ExitStack()
        self._open: list[tuple[int, HostEpisodes]] = []
        self._played: dict[int, Row] = {}

    @property
    def open_copies(self) -> int:
        """How many are open."""
        return len(self._open)

    def open(self, task: Task, memory: int) -> None:
        """Opens the copies, one after another."""
        self._rows = map_rows(memory, task.env.spec, task.total)
        self._home.enter_context(task.env.at_home())  # threads of their own included
        task.env.load()
        for row in task.rows:
            self._rows.done[row] += 1  # all is loaded, or the copy before is open
            env = HostEpisodes(task.env)
            self._open.append((row, env))
            self._played[row] = Row(self._rows, row, env)

    def close(self) -> None:
        """Closes all copies, each once, whichever thread it is that asks."""
        self.closing.set()
        while self._open:
            row, env = self._open.pop()
            env.close()
            self._rows.done[row] = CLOSED

    def reset(self, entropy: Sequence[tuple[int, ...]]) -> None:
        for row, numbers in zip(self._played.values(), entropy, strict=True):
            row.reset(numbers)

    def step(self) -> None:
        for index, row in self._played.items():
            if not self._rows.idle[index] and row.step():
                row.start()
