"""The progress bar and its plain stand-in, and the cache of compiled programs."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
from rich.console import Console

from mamt_jax.training import progress
from mamt_jax.training.progress import ProgressLine, StopRequest
from mamt_jax.training.run import use_compilation_cache


def show(terminal: bool, shown: bool = True) -> str:
    file = io.StringIO()
    console = Console(file=file, force_terminal=terminal, width=120)
    with ProgressLine(shown, 1000, done=100, console=console) as line:
        line.update(500, 12_345.6, -41.236)
        line.update(1000, 12_345.6, -38.5)
    return file.getvalue()


def test_bar_shows_episodes_pace_and_return() -> None:
    text = show(terminal=True)
    for part in ("1,000/1,000 episodes", "12,346 env steps/s", "return -38.50", "\x1b["):
        assert part in text


def test_plain_lines_where_nobody_sees_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    last = "1,000/1,000 episodes, 0.0 min left, 12,346 env steps/s, return -38.50\n"
    assert show(terminal=False) == last  # the line in between would come too soon
    monkeypatch.setattr(progress, "_PLAIN_INTERVAL", 0.0)
    assert show(terminal=False).count("\n") == 2
    assert show(terminal=False, shown=False) == ""


def test_signals_are_left_alone_outside_of_the_main_thread() -> None:
    entered = []

    def work() -> None:
        with StopRequest() as stop:
            entered.append(stop.requested)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert entered == [False]


@pytest.fixture
def no_cache() -> Iterator[None]:
    """Puts the cache directory back after the test."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.mark.usefixtures("no_cache")
def test_cache_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAMT_JAX_CACHE", "")
    use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    (tmp_path / "file").touch()
    monkeypatch.setenv("MAMT_JAX_CACHE", str(tmp_path / "file/cache"))  # cannot be made
    use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir is None
    monkeypatch.setenv("MAMT_JAX_CACHE", str(tmp_path / "cache"))
    use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache")
    monkeypatch.setenv("MAMT_JAX_CACHE", str(tmp_path / "other"))  # the first choice stays
    use_compilation_cache()
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "cache")
