"""What a person sees of a run while it trains, and how they stop it."""

from __future__ import annotations

import io
import math
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

_PLAIN_INTERVAL = 20.0  # seconds between lines where the output is not a terminal
_ASKED = ("SIGINT", "SIGTERM")
"""What a person sends to end a run; sent a second time, it ends at once."""
_WARNED = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU", "SIGBREAK")
"""What terminals, batch systems and limits send before they end a run. They may repeat it."""

_NOTEBOOK_INTERVAL = 0.2  # seconds between bars in a notebook, which keeps up with no more
_NOTEBOOK_BAR = 30  # characters


class _Spoken:
    """A stream that never fails: whoever trains is not to be stopped by who no longer reads."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes what can be written; characters that the encoding lacks as escapes."""
        encoding = getattr(self._stream, "encoding", None) or "utf-8"
        with suppress(OSError, ValueError):
            self._stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def flush(self) -> None:
        """Hands on what was written."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def standard_error() -> Console:
    """Where progress goes. Only a terminal is one, ``FORCE_COLOR`` or not."""
    stream: Any = sys.stderr or io.StringIO()
    return Console(file=_Spoken(stream), force_terminal=None if _is_terminal(stream) else False)  # type: ignore[arg-type]


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except ValueError:  # it is closed
        return False


def notice(shown: bool, text: str) -> None:
    """Says what is being done before there is a progress bar."""
    if shown:
        standard_error().print(text, soft_wrap=True, highlight=False)


class _Notebook:
    """One line below a notebook's cell that is written anew again and again."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = -math.inf

    def show(self, done: int, total: int, text: str) -> None:
        """Shows a bar and the text; what follows too fast, but for the end, is left out."""
        now = time.monotonic()
        if done < total and now - self._shown < _NOTEBOOK_INTERVAL:
            return
        self._shown = now
        full = _NOTEBOOK_BAR * done // total
        bar = "█" * full + "░" * (_NOTEBOOK_BAR - full)
        line = {"text/plain": f"{done:,}/{total:,} episodes {bar} {text}"}
        if self._handle is None:
            from IPython.display import display

            self._handle = display(line, raw=True, display_id=True)
        else:
            self._handle.update(line, raw=True)


class ProgressLine:
    """A bar on a terminal or in a notebook, an occasional plain line elsewhere, or nothing.

    Args:
        shown: False shows nothing.
        episodes: Episodes of the whole run, per seed.
        done: Episodes done before this process.
        console: Where to write; standard error by default.
    """

    def __init__(
        self, shown: bool, episodes: int, done: int = 0, console: Console | None = None
    ) -> None:
        self._console = console or standard_error()
        self._episodes, self._done = episodes, done
        self._printed = time.monotonic()
        self._timed: tuple[int, float] | None = None
        """Episodes and time at the first logging point: what is before it is compilation, too."""
        self._shown = shown
        self._bar: Progress | None = None
        self._notebook = _Notebook() if shown and self._console.is_jupyter else None
        if shown and self._console.is_terminal and not self._console.is_dumb_terminal:
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
        elif self._notebook:
            self._notebook.show(self._done, self._episodes, "compiling")
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
        said = f"{self._left(episodes, now)}{note}"
        if self._bar:
            self._bar.update(self._task, completed=episodes, note=said)
        elif self._notebook:
            self._notebook.show(episodes, self._episodes, said)
        elif self._shown and (episodes >= self._episodes or now - self._printed >= _PLAIN_INTERVAL):
            self._printed = now
            line = f"{episodes:,}/{self._episodes:,} episodes, {said}"
            self._console.print(line, soft_wrap=True, highlight=False)
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
        self.when = "before training begins"
        """When the request is met, for people."""
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
                f"\nStopping {self.when}; Ctrl-C again stops at once.",
                file=sys.stderr,
            )
