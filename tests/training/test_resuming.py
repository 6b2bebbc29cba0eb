"""Resuming with other settings, and runs that become longer or shorter."""

from __future__ import annotations

import os
import shutil
import signal
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import mamt_jax
from mamt_jax import InterruptedRun, RunError
from mamt_jax.errors import ConfigError
from mamt_jax.training import checkpoint
from mamt_jax.training import run as run_module
from mamt_jax.training.prepare import prepare
from mamt_jax.training.result import Run
from mamt_jax.training.run import run_trainer
from mamt_jax.training.run_dir import RunDir
from tests.training import fakes


def go(path: Path, points: int, *, resume: bool = True, **options: Any) -> Run:
    """Starts or resumes a run of the fake trainer, of so many logging points of ten episodes."""
    config, directory = fakes.config(episodes=10 * points, **options), RunDir(path)
    if not resume:
        directory.create(config)
    return run_trainer(fakes.trainer(points), fakes.algorithm(), config, directory, resume)


def assert_same(one: Run, two: Run) -> None:
    assert set(one.metrics.variables) == set(two.metrics.variables)
    for name in one.metrics.variables:
        np.testing.assert_array_equal(one.metrics[name].values, two.metrics[name].values, name)
    jax.tree.map(np.testing.assert_array_equal, one.policies.learner, two.policies.learner)


@pytest.mark.parametrize("interval", [3, 5, 0])
def test_a_finished_run_is_prolonged(tmp_path: Path, interval: int) -> None:
    """As if it had been so long from the start: the evaluation at the old end goes."""
    whole = go(tmp_path / "whole", 8, resume=False, evaluation_interval=interval)
    short = go(tmp_path / "run", 5, resume=False, evaluation_interval=interval)
    assert short.metrics.sizes["update"] == 5
    assert_same(whole, go(tmp_path / "run", 8, evaluation_interval=interval))
    again = run_module.load_with(fakes.algorithm(), fakes.config(), RunDir(tmp_path / "run"))
    assert_same(whole, again)
    assert RunDir(tmp_path / "run").read_config().episodes == 80


def test_a_run_is_shortened_to_what_is_done_and_not_below(tmp_path: Path) -> None:
    whole = go(tmp_path / "whole", 4, resume=False)
    RunDir(tmp_path / "run").create(fakes.config(episodes=80))
    inner, calls = fakes.trainer(8), [0]

    def epoch(state: Any) -> Any:
        calls[0] += 1
        if calls[0] == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return inner.epoch(state)

    with pytest.raises(InterruptedRun):
        run_trainer(
            inner._replace(epoch=epoch),  # type: ignore[arg-type]
            fakes.algorithm(),
            fakes.config(episodes=80),
            RunDir(tmp_path / "run"),
        )
    with pytest.raises(ConfigError, match="episodes must be at least the 40 that are done in"):
        go(tmp_path / "run", 3)
    assert RunDir(tmp_path / "run").read_config().episodes == 80
    assert_same(whole, go(tmp_path / "run", 4))
    with pytest.warns(UserWarning, match="is finished; nothing to do"):
        assert_same(whole, go(tmp_path / "run", 4))


def test_a_prolonged_run_that_is_killed_at_once_is_not_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = go(tmp_path / "whole", 8, resume=False)
    go(tmp_path / "run", 5, resume=False)

    def killed(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "train_loop", killed)
        with pytest.raises(MemoryError):
            go(tmp_path / "run", 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert_same(whole, go(tmp_path / "run", 8))


def test_a_finished_run_whose_last_checkpoint_is_damaged_is_finished_again(tmp_path: Path) -> None:
    whole = go(tmp_path / "run", 7, resume=False)
    (tmp_path / "run/checkpoints/000007/rest.npz").write_bytes(b"garbage")
    with pytest.warns(UserWarning, match="000007 is corrupt.*Falling back to .*000006"):
        assert_same(whole, go(tmp_path / "run", 7))


def test_metrics_after_the_checkpoint_go_before_training_goes_on(tmp_path: Path) -> None:
    """Who reads in between must not see rows of two runs."""
    whole = go(tmp_path / "whole", 7, resume=False)
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config(episodes=70))
    seen, inner = [], fakes.trainer(7)
    calls = [0]

    def epoch(state: Any) -> Any:
        calls[0] += 1
        if calls[0] in (3, 4):
            seen.append(directory.read_metrics().sizes["update"])
            if calls[0] == 3:
                raise MemoryError("killed")
        return inner.epoch(state)

    trainer: Any = inner._replace(epoch=epoch)
    with pytest.raises(MemoryError):
        run_trainer(trainer, fakes.algorithm(), fakes.config(episodes=70), directory)
    directory.write_metrics(whole.metrics)
    resumed = run_trainer(trainer, fakes.algorithm(), fakes.config(episodes=70), directory, True)
    assert seen == [2, 2]
    assert_same(whole, resumed)


def test_kept_checkpoints_are_loaded_by_their_number(tmp_path: Path) -> None:
    inner, learners = fakes.trainer(9), {}
    config, directory = fakes.config(episodes=90, checkpoint_interval=1), RunDir(tmp_path / "run")
    directory.create(config)

    def epoch(state: Any) -> Any:
        state, output = inner.epoch(state)
        learners[len(learners) + 1] = jax.device_get(state.learner)
        return state, output

    trainer: Any = inner._replace(epoch=epoch)
    run_trainer(trainer, fakes.algorithm(), config, directory)
    assert list(directory.saved()) == [1, 4, 7, 8, 9]
    for points in directory.saved():
        run = run_module.load_with(fakes.algorithm(), config, directory, points)
        jax.tree.map(np.testing.assert_array_equal, run.policies.learner, learners[points])
    with pytest.raises(RunError, match=r"holds no checkpoint 3; it holds 1, 4, 7, 8, 9\."):
        _ = run_module.load_with(fakes.algorithm(), config, directory, 3).policies
    for other in ("4", [4]):
        with pytest.raises(RunError, match=r"holds no checkpoint .*4.*; it holds 1, 4"):
            directory.checkpoint_at(other)  # type: ignore[arg-type]


def test_all_checkpoints_are_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    go(tmp_path / "run", 7, resume=False, checkpoint_interval=1, keep_checkpoints="all")
    directory = RunDir(tmp_path / "run")
    assert list(directory.saved()) == list(range(1, 8))
    whole = [(step / "rest.npz").exists() for step in directory.saved().values()]
    assert whole == [False] * 5 + [True] * 2
    go(tmp_path / "run", 9, checkpoint_interval=1, keep_checkpoints=3)
    assert list(directory.saved()) == [1, 8, 9]


def test_a_run_that_is_deleted_meanwhile_says_so(tmp_path: Path) -> None:
    """And a folder of checkpoints that is deleted is made again."""
    directory, inner = RunDir(tmp_path / "run"), fakes.trainer(7)
    directory.create(fakes.config())

    def deleting(name: str) -> Any:
        def epoch(state: Any) -> Any:
            if (directory.path / name).exists():
                shutil.rmtree(directory.path / name)
            return inner.epoch(state)

        return inner._replace(epoch=epoch)

    with pytest.raises(RunError, match="was moved or deleted while the run was being written"):
        run_trainer(deleting(""), fakes.algorithm(), fakes.config(), directory)
    assert not directory.path.exists()
    directory.create(fakes.config())
    once = deleting("checkpoints")._replace(plan=fakes.FakePlan(points=1))
    run_trainer(once, fakes.algorithm(), fakes.config(), directory)
    assert [checkpoint.read_meta(step).points for step in directory.saved().values()] == [1]


def test_logging_points_keep_their_length(tmp_path: Path) -> None:
    """A run shorter than a logging point of the longer run had shorter ones."""
    settings: dict[str, Any] = {"algorithm": "maac", "env": "toy_matching", "batch_size": 8}
    config = mamt_jax.make_config(**settings, seeds=1, episodes=8, num_envs=2, steps_per_update=10)
    trainer, _, config = prepare(config)
    RunDir(tmp_path / "run").create(config, trainer.game)
    with pytest.raises(ConfigError, match="episodes cannot change from 8 to 4,000: logging points"):
        mamt_jax.train(
            **settings,
            seeds=1,
            episodes=4000,
            num_envs=2,
            steps_per_update=10,
            out=tmp_path / "run",
            resume=True,
        )
    assert RunDir(tmp_path / "run").read_config() == config


OFF = {"algorithm": "maac", "batch_size": 32, "steps_per_update": 20}


@pytest.mark.slow
@pytest.mark.parametrize(
    "regime",
    [
        OFF,
        OFF | {"buffer_size": 300},  # wraps before the old end
        OFF | {"buffer_size": 600},  # and between the ends
        {"algorithm": "mappo", "rollout_size": 40, "ppo_minibatches": 2},
    ],
)
def test_prolonged_training_is_the_longer_training(tmp_path: Path, regime: dict[str, Any]) -> None:
    small: dict[str, Any] = {"env": "toy_matching", "seeds": 2, "hidden_size": 8, "num_envs": 4}
    small |= {"attention_heads": 2, "log_interval": 20, "evaluation_interval": 4, **regime}
    whole = mamt_jax.train(**small, episodes=200)
    mamt_jax.train(**small, episodes=100, out=tmp_path / "run")
    assert_same(whole, mamt_jax.train(**small, episodes=200, out=tmp_path / "run", resume=True))
