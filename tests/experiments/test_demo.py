"""The demo, with a fake trainer: whose directory it resumes, replaces or leaves alone."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mamt_jax import InterruptedRun, RunError
from mamt_jax.config import TrainConfig
from mamt_jax.experiments import demo as module
from mamt_jax.experiments.demo import demo
from mamt_jax.training.result import Run
from mamt_jax.training.resume import is_finished
from mamt_jax.training.run import run_trainer
from mamt_jax.training.run_dir import RunDir
from tests.training import fakes

SMALL: dict[str, Any] = {"episodes": 70, "seeds": 3, "updates_per_event": fakes.PER_EVENT}


@pytest.fixture(autouse=True)
def resumed(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Puts the fake trainer in; a run in a directory called ``cut`` is interrupted at first.

    Returns:
        Whether each run was resumed.
    """
    calls: list[bool] = []

    def run_config(config: TrainConfig, *, out: Path, resume: bool, progress: bool) -> Run:
        calls.append(resume)
        trainer: Any = fakes.trainer()
        if not resume:
            RunDir(out).create(config)
        if out.name == "cut" and not resume:

            def epoch(state: Any) -> Any:
                os.kill(os.getpid(), signal.SIGINT)
                return fakes.trainer().epoch(state)

            trainer = trainer._replace(epoch=epoch)
        return run_trainer(trainer, fakes.algorithm(), config, RunDir(out), resume)

    monkeypatch.setattr(module, "run_config", run_config)
    return calls


def test_finished_demo_is_replaced(
    tmp_path: Path, resumed: list[bool], capsys: pytest.CaptureFixture[str]
) -> None:
    demo(**SMALL, out=tmp_path)
    assert "MAMT on Spread: 3 seeds, 70 episodes each." in capsys.readouterr().out
    assert is_finished(RunDir(tmp_path))
    (tmp_path / "old").touch()
    demo(**SMALL, out=tmp_path)
    assert resumed == [False, False]
    assert not (tmp_path / "old").exists()
    assert (tmp_path / "figures/learning_curve.png").exists()


def test_interrupted_demo_is_resumed(tmp_path: Path, resumed: list[bool]) -> None:
    with pytest.raises(InterruptedRun, match="To go on, run make demo again") as stopped:
        demo(**SMALL, out=tmp_path / "cut")
    assert "mamt train" not in str(stopped.value)
    demo(**SMALL, out=tmp_path / "cut")
    assert resumed == [False, True]
    assert is_finished(RunDir(tmp_path / "cut"))


def test_other_run_is_left_alone(tmp_path: Path) -> None:
    demo(**SMALL, out=tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match=f"{tmp_path} holds another run"):
        demo(**SMALL | {"seeds": 2}, out=tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
