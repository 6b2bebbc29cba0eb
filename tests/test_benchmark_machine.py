"""What a benchmark looks at before it starts, what it says meanwhile, and how it is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import devices, machine, measure, plans, progress, turns
from benchmarks.machine import Load


def torch_with(built: bool, gpus: int) -> Any:
    """A PyTorch that was built with CUDA or not, and sees so many GPUs."""
    return SimpleNamespace(
        __version__="9.9",
        backends=SimpleNamespace(cuda=SimpleNamespace(is_built=lambda: built)),
        cuda=SimpleNamespace(is_available=lambda: gpus > 0, device_count=lambda: gpus),
    )


@pytest.mark.parametrize("what", ("update", "training"))
@pytest.mark.parametrize(
    ("torch", "device", "said"),
    (
        (torch_with(False, 0), "cuda", "needs a PyTorch with CUDA, and torch 9.9 has none"),
        (torch_with(True, 0), "cuda", "needs a GPU, and PyTorch sees none"),
        (torch_with(True, 2), "cuda:2", "the last that PyTorch sees is cuda:1"),
        (torch_with(True, 1), "gpu", "device must be cpu, cuda or cuda:N, got 'gpu'"),
    ),
)
def test_a_device_that_is_not_there_is_one_sentence(
    what: str,
    torch: Any,
    device: str,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(plans, "have_torch", lambda: True)
    monkeypatch.setattr(turns.subprocess, "Popen", None)  # no contender may be started
    monkeypatch.setattr(sys, "argv", ["benchmarks", what, "--device", device])
    assert command.main() == 1
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_a_device_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch_with(True, 2))
    assert devices.torch_device("cuda:1", used=True) == "cuda:1"
    monkeypatch.setattr(devices.jax, "default_backend", lambda: "gpu")
    assert devices.torch_device(None, used=True) == "cuda"
    monkeypatch.setattr(devices.jax, "default_backend", lambda: "tpu")
    assert devices.torch_device(None, used=True) == "cpu"
    monkeypatch.setitem(sys.modules, "torch", torch_with(False, 0))
    assert devices.torch_device("cuda", used=False) == "cuda"  # nothing to compare with


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="the system does not say")
def test_a_busy_core_is_noticed() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as other:
        try:
            time.sleep(0.2)
            now = machine.load(0.5)
        finally:
            other.kill()
    assert now.busy is not None
    assert 0.3 < now.busy <= len(machine.cores()) + 0.1


def test_ticks_become_busy_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter(({0: (50, 100), 1: (0, 100)}, {0: (150, 200), 1: (25, 200)}))
    monkeypatch.setattr(machine, "_ticks", lambda: next(looks))
    assert machine.load(0.0).busy == 1.25


def test_a_system_that_does_not_say_its_load_is_no_hindrance(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(machine, "_ticks", lambda: None)
    monkeypatch.setattr(os, "getloadavg", lambda: (3.0, 2.0, 1.0), raising=False)
    assert machine.load() == Load(3.0, None)
    monkeypatch.delattr(os, "getloadavg")
    assert machine.load() == Load(None, None)
    found = machine.hardware(machine.load())
    assert (found["load_before"], found["busy_cores_before"]) == (None, None)


@pytest.mark.parametrize(
    ("now", "said"),
    (
        (Load(9.0, 0.4), None),  # what was there a while ago is over
        (Load(0.0, 1.26), "other processes keep 1.3 of 2 cores busy"),
        (Load(3.0, None), "the load average is 3.0"),
        (Load(0.4, None), None),
        (Load(None, None), None),
    ),
)
def test_a_busy_machine_is_one_sentence(
    now: Load, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "cores", lambda: [0, 1])
    found = machine.warning(now)
    assert found is None if said is None else found is not None and said in found


def test_a_measurement_says_what_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "found.json"
    row = {"algorithm": "maac", "env": "spread", "cold": 2.0, "cached": 1.0}
    monkeypatch.setattr(measure, "compile_seconds", lambda *_: row)
    monkeypatch.setattr(command, "load", lambda: Load(2.5, 1.5))
    what = ["compile", "--envs", "spread", "--algorithms", "maac", "maac", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *what])
    assert command.main() == 0
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "compile: 2 to measure; on two cores each takes about half a minute."
    assert said[1] == "Load average of the last minute: 2.5."
    assert said[2].startswith("Warning: other processes keep 1.5 of ")
    assert said[3] == "1 of 2: two starts of maac on spread"
    assert said[4] == "1 of 2 took 0.1 s; 0.1 s left if the others take as long."
    assert said[6] == "2 of 2 took 0.1 s."
    assert '"load_before": 2.5' in out.read_text()
    assert '"busy_cores_before": 1.5' in out.read_text()


def test_durations_are_read_at_a_glance() -> None:
    said = [progress.duration(seconds) for seconds in (0.01, 4.26, 42.4, 100, 3000, 7200)]
    assert said == ["0.1 s", "4.3 s", "42 s", "2 min", "50 min", "2.0 h"]


def children(of: int) -> list[int]:
    """Processes that a process has started and that still work."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = status.read_text().rpartition(")")[2].split()[:2]
        except OSError:
            continue  # it has just ended
        if int(parent) == of and state != "Z":
            found.append(int(status.parent.name))
    return found


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("stop", (signal.SIGINT, signal.SIGTERM))
def test_stopping_ends_all_contenders_and_leaves_no_file(tmp_path: Path, stop: int) -> None:
    out = tmp_path / "found.json"
    small = ["--envs", "spread", "--algorithms", "maac", "--against", "--out", str(out)]
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks", "update", *small],
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[1],
    ) as process:
        assert process.stderr is not None
        next(line for line in process.stderr if line.startswith("1 of 1"))
        while not (contenders := children(process.pid)):
            time.sleep(0.05)
        process.send_signal(stop)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert rest == "mamt: stopped at once.\n"
    assert not [pid for pid in contenders if Path(f"/proc/{pid}").exists()]
    assert not list(tmp_path.iterdir())


def test_ctrl_c_while_a_contender_starts_ends_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    class Starting:
        def __init__(self, spec: dict[str, str]) -> None:
            signal.raise_signal(signal.SIGINT)

        def __enter__(self) -> None:
            pass

        def __exit__(self, *_: object) -> None:
            ended.append(True)

    monkeypatch.setattr(turns, "Contender", Starting)
    with pytest.raises(KeyboardInterrupt), ExitStack() as stack:
        turns.started({}, stack)
    assert ended


def test_a_contender_that_dies_ends_the_command_in_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    start = subprocess.Popen
    fails = [sys.executable, "-c", "raise AssertionError('Torch has no CUDA')"]
    monkeypatch.setattr(turns.subprocess, "Popen", lambda _, **more: start(fails, **more))
    monkeypatch.setattr(command, "load", lambda: Load(0.0, 0.0))
    what = ["update", "--envs", "spread", "--algorithms", "maac", "--against"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *what])
    assert command.main() == 1
    said = capsys.readouterr().err.splitlines()
    assert said[-1] == (
        "mamt: mamt_jax, maac on spread, 8 seeds ended: AssertionError: Torch has no CUDA"
    )
    assert not [line for line in said if "Traceback" in line]
