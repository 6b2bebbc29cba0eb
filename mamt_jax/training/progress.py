"""What a person sees of a run while it trains, and how they stop it."""

from __future__ import annotations

import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any, TextIO, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_PLAIN_INTERVAL = 20.0  # seconds between lines where the output is not a terminal
_ASKED = ("SIGINT", "SIGTERM")
"""What a person sends to end a run; sent a second time, it ends at once."""
_WARNED = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
"""What terminals, batch systems and limits send before they end a run. They may repeat it."""


class _Lenient:
    """A stream that nobody has to read: writing to a closed terminal or pipe is no error."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError, ValueError):
            self._stream.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ProgressLine:
    """A rich progress bar on a terminal, an occasional plain line elsewhere, or nothing.

    Args:
        shown: False shows nothing.
        episodes: Episodes of the whole run, per seed.
        done: Episodes done before this process.
        console: Where to write; standard error by default.
    """

    def __init__(
        self, shown: bool, episodes: int, done: int = 0, console: Console | None = None
    ) -> None:
        self._console = console or Console(file=cast(TextIO, _Lenient(sys.stderr)))
        self._episodes = episodes
        self._printed = time.monotonic()
        self._timed: tuple[int, float] | None = None
        """Episodes and time at the first logging point: what is before it is compilation, too."""
        self._shown = shown
        self._bar: Progress | None = None
        if shown and self._console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.completed:,.0f}/{task.total:,.0f} episodes"),
                BarColumn(),
                TextColumn("{task.fields[note]}"),
                console=self._console,
            )
            self._task = self._bar.add_task("", total=episodes, completed=done, note="compiling")

    def __enter__(self) -> ProgressLine:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, episodes: int, note: str) -> None:
        """Shows the state after a logging point; ``note`` says what else there is to say."""
        now = time.monotonic()
        if self._bar:
            shown = f"{self._left(episodes, now)}{note}"
            self._bar.update(self._task, completed=episodes, note=shown)
        elif self._shown and (episodes >= self._episodes or now - self._printed >= _PLAIN_INTERVAL):
            self._printed = now
            left = self._left(episodes, now)
            self._console.print(
                f"{episodes:,}/{self._episodes:,} episodes, {left}{note}", highlight=False
            )
        self._timed = self._timed or (episodes, now)

    def _left(self, episodes: int, now: float) -> str:
        """The time left at the pace since the first logging point; nothing before the second."""
        if self._timed is None or not self._timed[0] < episodes < self._episodes:
            return ""
        first, begin = self._timed
        seconds = (now - begin) / (episodes - first) * (self._episodes - episodes)
        minutes = f"{seconds / 60:.1f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"
        return f"{minutes} left, "


class StopRequest:
    """Turns signals that would end the process into a polite request.

    SIGINT and SIGTERM for the second time raise KeyboardInterrupt. Of the others only those are
    taken that would end the process: ``nohup`` goes on ignoring SIGHUP, and who has a handler of
    their own keeps it. In a thread other than the main one signals are left alone and nothing is
    ever requested.
    """

    def __init__(self) -> None:
        self.requested = False
        self._asked = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            for name in (*_ASKED, *_WARNED):
                number = getattr(signal, name, None)  # no platform has them all
                if number is None:
                    continue
                before = signal.getsignal(number)
                if before == signal.SIG_DFL or (name in _ASKED and before is not None):
                    self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        asked = signal.Signals(number).name in _ASKED
        if asked and self._asked:
            raise KeyboardInterrupt
        if self.requested and not asked:
            return
        self.requested, self._asked = True, asked
        with suppress(OSError, ValueError, RuntimeError):  # the terminal is gone, or being written
            print(
                "\nStopping after this logging point and saving; Ctrl-C again stops at once.",
                file=sys.stderr,
            )
