"""Whatever goes wrong: one sentence on standard error, a non-zero exit, and nothing lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

import mamt_jax
from mamt_jax import ConfigError
from mamt_jax.cli import main as cli
from mamt_jax.training import checkpoint
from mamt_jax.training.run_dir import RunDir

SMALL: dict[str, Any] = {
    "algorithm": "maac",
    "env": "toy_matching",
    "seeds": 2,
    "episodes": 200,
    "hidden_size": 8,
    "attention_heads": 2,
    "batch_size": 32,
    "buffer_size": 400,
    "num_envs": 4,
    "steps_per_update": 20,
    "log_interval": 20,
    "checkpoint_interval": 2,
}


def arguments(out: Path, **changed: Any) -> list[str]:
    """Command line of a small run."""
    line = ["train", "--out", str(out)]
    for name, value in (SMALL | changed).items():
        line += ["--" + name.replace("_", "-"), str(value)]
    return line


def complaint(line: list[str], capsys: pytest.CaptureFixture[str], exit_code: int = 1) -> str:
    """What a command that must fail says: one line."""
    assert cli.main(line) == exit_code
    text = capsys.readouterr().err
    assert "Traceback" not in text
    said = [row for row in text.splitlines() if row.startswith("mamt: ")]
    assert len(said) == 1, text
    assert said[0].endswith((".", "?")) or "--resume" in said[0]
    return said[0]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished small run with the real trainer."""
    path = tmp_path_factory.mktemp("finished") / "run"
    mamt_jax.train(**SMALL, out=path)
    return path


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"algorithm": "mamtt"}, "mamtt"),
        ({"env": "spred"}, "spred"),
        ({"seeds": 0}, "seeds must be greater than 0, got 0"),
        ({"episodes": -5}, "episodes must be greater than 0, got -5"),
        ({"num_envs": 0}, "num_envs must be greater than 0"),
        ({"batch_size": 64, "buffer_size": 32}, r"batch_size must be at most buffer_size"),
        ({"batch_size": 10**5, "buffer_size": 10**6}, "batch_size must be at most the transitions"),
        ({"hidden_size": 9}, "multiple of attention_heads"),
        ({"learning_rate": "nan"}, "learning_rate must be a finite number"),
        ({"env_option": "wheels=3"}, "wheels"),
        ({"env_option": "wheels"}, "KEY=VALUE"),
    ],
)
def test_bad_settings_leave_nothing_behind(
    changed: dict[str, Any], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert says in complaint(arguments(tmp_path / "run", **changed), capsys)
    assert not (tmp_path / "run").exists()


def test_unknown_option_of_the_api() -> None:
    with pytest.raises(
        ConfigError, match=r"'learning_rat' \(did you mean 'learning_rate'\?\); accepted are"
    ):
        mamt_jax.train("mamt", learning_rat=0.1)
    with pytest.raises(ConfigError, match="resume needs the run directory"):
        mamt_jax.train(**SMALL, resume=True)
    assert issubclass(ConfigError, ValueError) and issubclass(ConfigError, mamt_jax.MamtError)


def test_directory_of_another_run(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "already holds a run" in complaint(arguments(finished), capsys)
    said = complaint([*arguments(finished, seeds=1), "--resume"], capsys)
    assert "seeds (run: 2, asked: 1)" in said


def test_resuming_a_finished_run(finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.warns(UserWarning, match="is finished; nothing to do"):
        assert cli.main(["train", "--resume", "--out", str(finished)]) == 0
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_corrupt_checkpoint(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"garbage")
    for line in (["evaluate", str(run)], ["train", "--resume", "--out", str(run)]):
        said = complaint(line, capsys)
        assert f"{run}/checkpoints/000010 is corrupt" in said and "start the run anew" in said
    with pytest.raises(mamt_jax.RunError, match="is corrupt"):
        _ = mamt_jax.load(run).policies


def test_full_disk_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written = checkpoint.save

    def save(directory: Path, state: Any, meta: checkpoint.Meta, *how: Any) -> None:
        if meta.points >= 4:
            raise OSError(28, "No space left on device")
        written(directory, state, meta, *how)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", save)
        said = complaint(arguments(tmp_path / "run"), capsys)
    assert "Could not write a checkpoint" in said and "the disk is full" in said
    assert [step.name for step in checkpoint.steps(tmp_path / "run/checkpoints")] == ["000002"]
    assert RunDir(tmp_path / "run").read_metrics().sizes["update"] == 4


def assert_same_run(one: Path, two: Path) -> None:
    a, b = mamt_jax.load(one), mamt_jax.load(two)
    for name in a.metrics.variables:
        np.testing.assert_array_equal(a.metrics[name].values, b.metrics[name].values, name)
    jax.tree.map(np.testing.assert_array_equal, a.policies.learner, b.policies.learner)


def test_interrupted_process_resumes_bit_identically(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in a real process, then --resume without repeating any option."""
    run = tmp_path / "run"
    command = [sys.executable, "-m", "mamt_jax.cli.main", *arguments(run, checkpoint_interval=1)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    while process.poll() is None and not (run / "metrics.zarr").exists():
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert f"mamt train --resume --out {run}" in said and "Traceback" not in said
    assert 0 < RunDir(run).read_metrics().sizes["update"] < 10
    assert cli.main(["train", "--resume", "--out", str(run)]) == 0
    assert_same_run(finished, run)


def test_a_finished_run_is_prolonged(finished: Path, tmp_path: Path) -> None:
    """Its replay has wrapped by then; settings change where that changes no number."""
    run = tmp_path / "run"
    mamt_jax.train(**SMALL | {"episodes": 100}, out=run, keep_checkpoints=2)
    line = ["train", "--resume", "--out", str(run), "--episodes", "200"]
    assert cli.main([*line, "--keep-checkpoints", "all", "--checkpoint-interval", "1"]) == 0
    assert_same_run(finished, run)
    assert list(RunDir(run).saved()) == [4, 5, 6, 7, 8, 9, 10]


def test_nan_in_a_loss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A step size that blows the networks up within few updates."""
    said = complaint(
        arguments(tmp_path / "run", learning_rate=1e30, soft_reward_scale=1e-30), capsys
    )
    assert "is NaN or infinite at update" in said and "metrics up to there are kept" in said
    with xr.open_zarr(tmp_path / "run/metrics.zarr") as metrics:
        assert metrics.sizes["update"] >= 1
