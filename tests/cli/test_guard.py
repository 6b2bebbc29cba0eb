"""Streams that are closed, full, or lack characters, and errors before anything runs."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from mamt_jax.cli import guard
from mamt_jax.errors import RunError


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"3 +- 1 -- \\u03b4 \\udcff -2\n"),
        ("latin-1", b"3 \xb1 1 -- \\u03b4 \\udcff -2\n"),
        ("utf-8", "3 ± 1 -- δ \\udcff −2\n".encode()),
    ],
)
def test_any_text_can_be_printed(
    encoding: str, shown: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding=encoding) for _ in range(2)]
    monkeypatch.setattr("sys.stdout", streams[0])
    monkeypatch.setattr("sys.stderr", streams[1])

    def work() -> None:
        print("3 ± 1 -- δ \udcff −2")
        raise RunError("3 ± 1 -- δ \udcff −2")

    assert guard.guarded(work) == 1
    streams[0].flush()
    assert streams[0].buffer.getvalue() == shown  # type: ignore[attr-defined]
    assert streams[1].buffer.getvalue() == b"mamt: " + shown  # type: ignore[attr-defined]
    assert [stream.errors for stream in streams] == ["strict"] * 2
    assert (sys.stdout, sys.stderr) == tuple(streams)


@pytest.mark.parametrize("lines", [1, 100_000])
@pytest.mark.parametrize("leaves", [False, True])
def test_output_that_nobody_takes(
    lines: int, leaves: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A reader that has gone, and a disk that is full, whether noticed at once or at the end."""

    def work() -> None:
        print("line\n" * lines)
        if leaves:
            raise SystemExit(0)

    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as gone, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", gone)
        assert guard.guarded(work) == 141
    assert capsys.readouterr().err == ""
    with open("/dev/full", "w") as full, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", full)
        assert guard.guarded(work) == 1
    says = "mamt: the output could not be written: No space left on device.\n"
    assert capsys.readouterr().err == says


def test_errors_of_other_files_are_not_taken_for_those_of_the_output(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        guard.guarded(lambda: print((tmp_path / "nothing").read_text()))


@pytest.mark.parametrize(
    ("line", "status", "says"),
    [
        ("-m mamt_jax list >&- 2>&- <&-", 0, ""),
        ("-m mamt_jax train --algorithm x --dry-run 2>&-", 1, ""),
        ("-m mamt_jax list", 1, "mamt: JAX cannot be loaded: invalid truth value 'maybe'"),
    ],
)
def test_what_a_shell_may_do(line: str, status: int, says: str) -> None:
    environment = os.environ | ({"JAX_ENABLE_X64": "maybe"} if says else {})
    command = ["sh", "-c", f"{sys.executable} {line}"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == status and "Traceback" not in done.stderr
    assert done.stderr.startswith(says) and len(done.stderr.splitlines()) == bool(says)


def test_warnings_that_python_makes_errors_of_end_no_command(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        warnings.warn("of a library", DeprecationWarning, stacklevel=1)
        warnings.warn("2 of 8 seeds diverged", stacklevel=1)
        print("done")

    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("error")
        assert guard.guarded(work) == 0
        with pytest.raises(UserWarning):  # what it was before
            warnings.warn("afterwards", stacklevel=1)
    assert [str(each.message) for each in shown] == ["2 of 8 seeds diverged"]
    assert capsys.readouterr().out == "done\n"


def test_packages_that_need_docstrings() -> None:
    code = "from mamt_jax.cli.guard import guarded; guarded(lambda: print.nothing + 'x')"
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True)
    assert done.stderr.startswith("mamt: ") and "PYTHONOPTIMIZE" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_process_does_not_wait_for_threads_of_others() -> None:
    script = (
        "import threading, time, mamt_jax.cli.guard as guard\n"
        "guard._LEAVING = 0.2\n"
        "threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "guard.end_process(3)"
    )
    assert subprocess.run([sys.executable, "-c", script], timeout=20).returncode == 3
