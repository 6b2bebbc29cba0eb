"""Whole sweeps of an algorithm that learns in an instant."""

from __future__ import annotations

import csv
import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from PIL import Image

import mamt_jax
from mamt_jax.cli import main as cli
from mamt_jax.errors import ConfigError, InterruptedRun, RunError
from mamt_jax.sweeps import run as sweeping
from mamt_jax.sweeps import storage
from mamt_jax.sweeps.plots import draw, explained
from mamt_jax.sweeps.results import Sweep
from tests.training.test_together import CLIMBING, TINY

GRID = {"learning_rate": [0.1, 5.0], "target_tau": [0.25, 0.5]}
SETTINGS = TINY | {"episodes": 60, "evaluation_interval": 0}


def swept(out: Path, **options: Any) -> Sweep:
    given = SETTINGS | {"grid": GRID, "halving": True} | options
    found: Sweep = mamt_jax.sweep(CLIMBING, "toy_matching", out=out, **given)
    return found


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return swept(tmp_path_factory.mktemp("sweep") / "s")


def last_six(metrics: xr.Dataset) -> float:
    """Mean return of a seed's last tenth of 60 episodes, in whole events."""
    total, count = 0.0, 0
    for event in reversed(range(metrics.sizes["event"])):
        if count < 6:
            total += metrics.return_sum[event].item()
            count += metrics.episodes[event].item()
    return total / count


def test_the_best_is_what_training_alone_makes_of_it(whole: Sweep) -> None:
    """Stopped at two rungs and prolonged, it is the run that was never stopped."""
    best = whole.best
    alone = mamt_jax.train(CLIMBING, "toy_matching", **SETTINGS | best.values)
    kept = mamt_jax.load(whole.out / best.run).metrics
    assert best.state == "complete" and list(best.rungs) == [10, 20, 60]
    for name in ("return_mean", "return_sum", "policy_grad_norm"):
        np.testing.assert_array_equal(kept[name], alone.metrics[name], name)
    late = [last_six(alone.metrics.isel(seed=seed)) for seed in (0, 1)]
    np.testing.assert_allclose(best.returns, late)
    assert best.rungs[60] == pytest.approx(np.mean(late))
    others = [mamt_jax.load(whole.out / row.run).metrics for row in whole.rows[1:]]
    assert [each.sizes["update"] for each in others] == [1, 1, 1]
    assert best.rungs[10] == max(row.rungs[10] for row in whole.rows)


def test_the_same_sweep_again_trains_nothing(whole: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "run_together", None)
    assert swept(whole.out).records() == whole.records()


def test_another_grid_is_refused(whole: Sweep) -> None:
    with pytest.raises(ConfigError, match="holds another sweep: grid .*0.75"):
        swept(whole.out, grid=GRID | {"target_tau": [0.25, 0.75]})
    with pytest.raises(RunError, match="exists and holds no sweep"):
        swept(whole.out / whole.best.run)


def test_interrupted_and_gone_on_with(
    whole: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each rung once, two settings at a time: results are those of the sweep in one go."""
    train = sweeping.run_together
    episodes: list[tuple[int, int]] = []

    def stopped(configs: Any, *rest: Any, **more: Any) -> Any:
        episodes.append((configs[0].episodes, len(configs)))
        if len(episodes) in (2, 4):
            raise InterruptedRun("here")
        return train(configs, *rest, **more)

    monkeypatch.setattr(sweeping, "run_together", stopped)
    for _ in range(2):
        with pytest.raises(InterruptedRun, match=r"saved in .*; ask for the same|To go on"):
            swept(tmp_path / "s", together=2)
    found = swept(tmp_path / "s", together=2)
    assert episodes == [(10, 2), (10, 2), (10, 2), (20, 1), (20, 1), (60, 1)]
    told = ("seconds",)
    for row, other in zip(found.records(), whole.records(), strict=True):
        assert {k: v for k, v in row.items() if k not in told} == {
            k: v for k, v in other.items() if k not in told
        }


def test_runs_that_are_elsewhere_are_named(
    whole: Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a sweep that machines share, the best goes on where its run is."""
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    grid = sweeping.read_grid(whole.grid.points[0].config, GRID, True, _objects())
    study = sweeping.SweepStudy(_made(tmp_path / "a"), grid, url, "climbing-toy_matching")
    with study.working():
        trials, _, claimed = study.claim(lambda trials, decision: [0, 1, 2, 3])
        for point in claimed:
            study.report(trials[point], 10, -float(point), {})
    monkeypatch.setattr(sweeping, "POLL", 0.01)
    monkeypatch.setattr(sweeping, "PATIENCE", 0.02)
    with pytest.raises(RunError, match=r"1 setting .* and nobody does: .*target_tau=0.25\)"):
        swept(tmp_path / "b", storage=url)


def _objects() -> Any:
    return sweeping.Objects(CLIMBING)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_tables_and_figures(whole: Sweep) -> None:
    with whole.write_csv().open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["return_10"]) for row in rows] == [row.rungs[10] for row in whole.rows]
    assert [row["return_60"] != "" for row in rows] == [True, False, False, False]
    assert whole.table().row_count == 4 and "best learning_rate=" in repr(whole)
    for file in draw(whole):
        assert np.asarray(Image.open(file)).std() > 5, file


def test_the_share_of_variance_that_a_setting_explains() -> None:
    assert explained([[1.0, 1.0], [3.0, 3.0]]) == 1.0
    assert explained([[1.0, 3.0], [1.0, 3.0]]) == 0.0
    assert explained([[2.0], [2.0]]) == 0.0
    # Both settings of a grid without interaction and noise explain all, together.
    worth = np.array([[0.0, 1.0, 5.0], [2.0, 3.0, 7.0]])
    assert explained(list(worth)) + explained(list(worth.T)) == pytest.approx(1.0)


def test_what_is_in_the_grid_is_not_given_beside_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="learning_rate is in the grid"):
        swept(tmp_path, learning_rate=0.1)
    with pytest.raises(ConfigError, match="discount has several values, which belong into grid"):
        swept(tmp_path, discount=[0.9, 0.99])
    with pytest.raises(ConfigError, match="together must be an integer, 0 or greater, got -1"):
        swept(tmp_path, together=-1)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--grid learning_rate", "--grid must be SETTING=VALUE,VALUE"),
        ("--grid learning_rate=1,", "--grid must be SETTING=VALUE,VALUE"),
        ("--grid learning_rate=1 --grid learning-rate=2", "is given to --grid more than once"),
        ("--grid learning_rate=1,x", "learning_rate must have numbers in a grid, got 'x'"),
        ("--grid updates_per_event=2.5", "updates_per_event must have whole numbers in a grid"),
        ("--grid discount=0.9 --discount 0.9", "discount is in the grid"),
    ],
)
def test_command_lines_that_are_none(
    line: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["sweep", *line.split()]) == 1
    assert said in capsys.readouterr().err


def test_values_are_read_by_what_settings_are() -> None:
    line = "sweep --grid learning-rate=3e-4,1 --grid batch_size=8,1e2 --grid trd_monotone=true"
    line += " --grid coordination_threshold=none,0.1 --grid coordination=released"
    assert cli.parse(line.split()).axes == {
        "learning_rate": [3e-4, 1.0],
        "batch_size": [8, 100],
        "trd_monotone": [True],
        "coordination_threshold": [None, 0.1],
        "coordination": ["released"],
    }


def test_without_optuna_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r'install it with pip install "mamt-jax\[sweep\]"'):
        importlib.reload(storage)
    monkeypatch.undo()
    importlib.reload(storage)


@pytest.mark.slow
def test_killed_at_any_moment(whole: Sweep, tmp_path: Path) -> None:
    """SIGKILL while it trains, and the same command again."""
    options = {name.replace("_", "-"): value for name, value in SETTINGS.items()}
    flags = [f"--{name}={value}" for name, value in options.items()]
    flags += [f"--grid={name}={','.join(map(str, each))}" for name, each in GRID.items()]
    name = "tests.training.test_together:CLIMBING"
    code = "import sys; from mamt_jax.cli.main import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "sweep", f"--algorithm={name}", "--env=toy_matching"]
    command += [*flags, f"--out={tmp_path / 's'}", "--halving", "--together=1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while len(list((tmp_path / "s" / "runs").glob("*/checkpoints/*"))) < 2:
            assert process.poll() is None
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
    before = {each: each.stat().st_mtime_ns for each in tmp_path.glob("s/runs/*/metrics.zarr")}
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first = min(before, key=lambda each: before[each])
    assert first.stat().st_mtime_ns == before[first] or whole.best.run.endswith(first.parent.name)
    with (tmp_path / "s" / "sweep.csv").open() as file:
        rows = list(csv.DictReader(file))
    expected = [[row.values["learning_rate"], row.rungs[10], row.last] for row in whole.rows]
    names = ("learning_rate", "return_10", "return")
    assert [[float(row[each]) for each in names] for row in rows] == expected
