"""The command for the day a GPU is there: what it plans, leaves out, keeps and packs."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import gpu, gpu_parts, gpu_runs, tables, turns, wheels
from benchmarks.gpu_parts import FULL, TINY, Wave
from mamt_jax.experiments.paper import TABLE10
from mamt_jax.reports.record import read_record
from tests.training import fakes

MACHINE = {"device": "cpu", "cores": 2, "processor": "x", "versions": {"jax": "0"}, "gpus": []}


@pytest.fixture
def sheet(tmp_path: Path) -> gpu.Sheet:
    head = {"hardware": MACHINE, "commit": "unknown"}
    return gpu.Sheet(tmp_path, gpu.Clock(100.0), head)


def written(sheet: gpu.Sheet) -> dict[str, Any]:
    return json.loads((sheet.folder / "gpu.json").read_text())


BUILT = """
import json, sys, time
spec = json.loads(sys.argv[1])
def say(**content): print(json.dumps(content), flush=True)
if spec["seeds"] == 4: time.sleep(60)
if spec["seeds"] == 3: sys.exit("RESOURCE_EXHAUSTED: Out of memory.")
say(built_seconds=1.5)
sys.stdin.readline()
if spec["seeds"] == 2: sys.exit("RuntimeError: no.")
say(first_call_seconds=1.0, warm_call_seconds=0.5)
for _ in sys.stdin: say(seconds=0.004, count=2)
"""


def contenders(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    """Lets this program take the place of all contenders."""
    start = subprocess.Popen

    def popen(arguments: list[str], **options: Any) -> Any:
        return start([sys.executable, "-c", program, arguments[-1]], **options)

    monkeypatch.setattr(turns.subprocess, "Popen", popen)


def updates(*seeds: int) -> Wave:
    specs = (gpu_parts._update(TINY, "spread", "mamt", count) | {"waits": True} for count in seeds)
    return Wave("updates", tuple(specs), least=30.0)


def test_what_fails_or_is_late_is_left_out_and_the_others_are_kept(
    sheet: gpu.Sheet, monkeypatch: pytest.MonkeyPatch
) -> None:
    contenders(monkeypatch, BUILT)
    monkeypatch.setattr(gpu, "BUILDING", 1.0)
    monkeypatch.setattr(gpu, "cores", lambda: range(5))
    gpu.work(updates(2, 3, 4, 1, 8), sheet, repetitions=2)
    found = written(sheet)
    (row,) = found["updates"]
    assert (row["env"], row["algorithm"]) == ("spread", "mamt")
    assert {seeds: ms["median"] for seeds, ms in row["mamt_jax"].items()} == {"1": 2.0, "8": 2.0}
    assert row["built_seconds"] == {"1": 1.5, "8": 1.5}
    out = {each["what"].split(", ")[2]: each["why"] for each in found["left_out"]}
    assert out.keys() == {"2 seeds", "3 seeds", "4 seeds"}
    assert "RuntimeError: no." in out["2 seeds"]
    assert "Out of memory" in out["3 seeds"]
    assert "not done when its time was over" in out["4 seeds"]
    assert "Out of memory" in (sheet.folder / "gpu.log").read_text()
    tables.show(found)


def test_what_no_time_is_left_for_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns.subprocess, "Popen", None)  # nothing may be started
    clock = gpu.Clock(gpu.RESERVE + 29.0)
    sheet = gpu.Sheet(tmp_path, clock, {"hardware": MACHINE, "commit": "unknown"})
    gpu.work(updates(1, 8), sheet, repetitions=2)
    session = SimpleNamespace(sheet=sheet, coming={})
    gpu.record_runs(gpu_parts.runs(TINY, ["maac:spread"]), session)  # type: ignore[arg-type]
    first, second = written(sheet)["left_out"]
    assert "8 seeds" in first["what"] and first["why"] == "29 s left, and it takes at least 30 s"
    assert "maac on spread" in second["what"] and second["why"] == "29 s left"


def test_an_exception_ends_a_part_and_not_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: Any) -> Any:
        raise RuntimeError("no such file")

    monkeypatch.setattr(gpu_parts, "golden", fail)
    monkeypatch.setattr(gpu, "work", lambda wave, sheet, _: sheet.say(wave.name))
    arguments = ["gpu", "--parts", "environments", "golden", "--tiny", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments, "--commit", "abc"])
    monkeypatch.setattr(gpu.os, "environ", dict(gpu.os.environ))
    assert command.main() == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["commit"] == "abc"
    why = "RuntimeError: no such file"
    assert found["left_out"] == [{"what": "the rest of golden", "why": why}]
    said = capsys.readouterr().err
    assert said.index("the rest of golden") < said.index("] environments")


def test_the_plan() -> None:
    waves = gpu_parts.updates(FULL, "cuda", memory=73e9)
    rover = next(wave for wave in waves if wave.name == "updates on rover_tower").specs
    seeds = {name: [s["seeds"] for s in rover if s["algorithm"] == name and "seeds" in s]
             for name in ("maac", "mamt")}  # fmt: skip
    assert seeds == {"maac": [1, 8, 64, 256, 1024], "mamt": [1, 8, 64, 256]}
    assert len([spec for spec in rover if spec["kind"] == "torch_update"]) == 2
    assert len(waves[-1].specs) == 8 and all(spec["compiled"] for spec in waves[-1].specs)
    assert all(spec["updates"] % 2 == 0 for wave in waves for spec in wave.specs)
    cells = [cell.split(":") for cell in gpu_parts.RUNS]
    assert all(algorithm in TABLE10[env] for algorithm, env in cells)
    runs = gpu_parts.runs(FULL, gpu_parts.RUNS)
    assert {(run["seeds"], run["episodes"], run["batch_size"]) for run in runs} == {
        (8, 50_000, 1024)
    }
    assert not [spec for wave in gpu_parts.updates(FULL, None, 1e12) for spec in wave.specs
                if spec["kind"] == "torch_update"]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    (
        (["--minutes", "0"], "minutes must be greater than 0"),
        (["--only-runs", "mamt"], "only_runs must be ALGORITHM:ENV"),
        (["--only-runs", "mamt:nowhere"], "nowhere"),
    ),
)
def test_bad_input_is_one_sentence(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(gpu.os, "environ", dict(gpu.os.environ))
    monkeypatch.setattr(
        sys, "argv", ["benchmarks", "gpu", *options, "--out", str(tmp_path / "out")]
    )
    assert command.main() == 1
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seconds", (0.0, 60.0))
def test_a_run_is_kept_whenever_it_ends(
    seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = fakes.trainer()
    monkeypatch.setattr(gpu_runs, "prepare_together", lambda found: fakes.prepared(made)(found, ()))
    monkeypatch.setattr(gpu_runs, "fitted", lambda trainer: trainer)
    monkeypatch.setattr(gpu_runs, "_compile_all", lambda trainer: None)
    work = gpu_runs.run(
        "mamt", "spread", 3, 70, str(tmp_path / "one"), time.time() + seconds, "Here."
    )
    (tmp_path / "one").mkdir()
    work()
    points = 1 if seconds == 0.0 else 7
    assert work.said["partial"] == (points == 1)  # type: ignore[attr-defined]
    config, metrics = read_record(tmp_path / "one" / "record.json")
    assert metrics.sizes["update"] == points and config.episodes == 70
    note = json.loads((tmp_path / "one" / "record.json").read_text())["note"]
    assert ("Partial: stopped after" in note) == (points == 1) and note.startswith("Here. ")
    assert gpu_runs.pack(tmp_path, tmp_path / "runs.tar.gz") == []
    with tarfile.open(tmp_path / "runs.tar.gz") as tar:
        names = tar.getnames()
    assert names[0] == "one/record.json" and "one/run/config.json" in names
    assert not [name for name in names if "checkpoints" in name or "lock" in name]
    monkeypatch.setattr(gpu_runs, "LARGEST", 100)
    assert gpu_runs.pack(tmp_path, tmp_path / "runs.tar.gz") == ["one"]
    with tarfile.open(tmp_path / "runs.tar.gz") as tar:
        assert tar.getnames() == ["one/record.json"]


def test_wheels_are_those_of_the_lock_file() -> None:
    found = wheels.locked(wheels.LOCK.read_text())
    assert len(found) == len(wheels.NAMES) and "jraph==0.0.6.dev0" in found
