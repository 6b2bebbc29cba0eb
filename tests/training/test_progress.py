"""The progress bar and its plain stand-in."""

from __future__ import annotations

import io
import signal
import sys
import threading
import types

import pytest
from rich.console import Console

from mamt_jax.training import progress
from mamt_jax.training.progress import ProgressLine, StopRequest


def show(terminal: bool, shown: bool = True) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    with ProgressLine(shown, 1000, done=100, console=console) as line:
        line.update(500, "return -41.24")
        line.update(1000, "return -38.50")
    return file.getvalue()


def test_bar_shows_episodes_pace_and_return() -> None:
    text = show(terminal=True)
    for part in ("1,000/1,000 episodes", "return -38.50", "\x1b["):
        assert part in text


def test_plain_lines_where_nobody_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    last = "1,000/1,000 episodes, return -38.50\n"
    assert show(terminal=False) == last  # the line in between would come too soon
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL", 0.0)
    assert show(terminal=False).count("\n") == 2
    assert show(terminal=False, shown=False) == ""


def test_nobody_who_stops_reading_ends_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a closed pipe nor a closed or absent stream, nor one that lacks characters."""

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

        def flush(self) -> None:
            raise BrokenPipeError

    closed, ascii_only = io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    closed.close()
    for stream in (Gone(), closed, None, ascii_only):
        monkeypatch.setattr("sys.stderr", stream)
        progress.notice(True, "Compiling.")
        with ProgressLine(True, 2) as line:
            line.update(2, "return ± 3")
    ascii_only.seek(0)
    assert ascii_only.read() == "Compiling.\n2/2 episodes, return \\xb1 3\n"


def test_only_a_terminal_shows_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.StringIO()
    monkeypatch.setattr("sys.stderr", file)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "1")
    with ProgressLine(True, 2) as line:
        line.update(2, "return 3")
    assert file.getvalue() == "2/2 episodes, return 3\n"
    file = io.StringIO()
    dumb = Console(file=file, force_terminal=True, width=120, _environ={"TERM": "dumb"})
    with ProgressLine(True, 2, console=dumb) as line:
        line.update(2, "return 3")
    assert file.getvalue() == "2/2 episodes, return 3\n"


def test_a_notebook_shows_one_line_that_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, now = [], [0.0]

    class Handle:
        def update(self, line: dict[str, str], raw: bool) -> None:
            shown.append(line["text/plain"])

    def display(line: dict[str, str], raw: bool, display_id: bool) -> Handle:
        assert raw and display_id and not shown
        shown.append(line["text/plain"])
        return Handle()

    ipython = types.ModuleType("IPython.display")
    ipython.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", types.ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", ipython)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    console = Console(file=io.StringIO(), force_jupyter=True)
    with ProgressLine(True, 1000, done=0, console=console) as line:
        for episodes, seconds in ((250, 60), (251, 0.01), (500, 60), (1000, 0.01)):
            now[0] += seconds
            line.update(episodes, "return -3")
    assert [text.replace("█", "").replace("░", "") for text in shown] == [
        "0/1,000 episodes  compiling",
        "250/1,000 episodes  return -3",
        "500/1,000 episodes  2.0 min left, return -3",
        "1,000/1,000 episodes  return -3",
    ]
    assert [text.count("█") for text in shown] == [0, 7, 15, 30]
    assert all(text.count("█") + text.count("░") == 30 for text in shown)


def test_the_time_left_does_not_count_compilation(monkeypatch: pytest.MonkeyPatch) -> None:
    """An hour until the first logging point, then a minute each."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    file = io.StringIO()
    console = Console(file=file, force_terminal=False, width=120)
    with ProgressLine(True, 1000, done=100, console=console) as line:
        for episodes, seconds in ((200, 3600), (300, 60), (400, 60), (900, 300), (1000, 60)):
            now[0] += seconds
            line.update(episodes, "on it")
    assert file.getvalue().splitlines() == [
        "200/1,000 episodes, on it",
        "300/1,000 episodes, 7.0 min left, on it",
        "400/1,000 episodes, 6.0 min left, on it",
        "900/1,000 episodes, 1.0 min left, on it",
        "1,000/1,000 episodes, on it",
    ]


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    entered = []

    def work() -> None:
        with StopRequest() as stop:
            entered.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [False]


def test_signals_of_others_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """``nohup`` ignores SIGHUP; a batch system's own package handles SIGUSR1."""

    def own(*_: object) -> None: ...

    before = [
        (number, signal.signal(number, handler))
        for number, handler in ((signal.SIGHUP, signal.SIG_IGN), (signal.SIGUSR1, own))
    ]
    try:
        with StopRequest() as stop:
            signal.raise_signal(signal.SIGHUP)
            signal.raise_signal(signal.SIGUSR1)
            assert not stop.requested
            assert signal.getsignal(signal.SIGUSR1) is own
            signal.raise_signal(signal.SIGUSR2)
            assert stop.requested
    finally:
        for number, handler in before:
            signal.signal(number, handler)


def test_platforms_without_a_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU"):
        monkeypatch.delattr(signal, name)
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_that_is_closed_stops_nothing(
    terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Closed(io.StringIO):
        gone = False

        def write(self, text: str) -> int:
            if self.gone:
                raise OSError(5, "Input/output error")
            return super().write(text)

        def flush(self) -> None:
            self.write("")

        def isatty(self) -> bool:
            return terminal

    file = Closed()
    monkeypatch.setattr(sys, "stderr", file)
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL", 0.0)
    with StopRequest() as stop, ProgressLine(True, 1000) as line:
        line.update(100, "return -41.24")
        file.gone = True
        signal.raise_signal(signal.SIGHUP)
        line.update(500, "return -41.24")
        assert stop.requested
    assert "500/1,000" not in file.getvalue()
