"""The study: claims, the dead, and what is kept; nothing is trained."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import optuna
import pytest

from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError
from mamt_jax.sweeps.directory import note_question, open_directory
from mamt_jax.sweeps.grid import Grid, read_grid
from mamt_jax.sweeps.halving import Decision
from mamt_jax.sweeps.results import read_results
from mamt_jax.sweeps.study import SweepStudy, Trial


@pytest.fixture(scope="module")
def grid() -> Grid:
    tiny = {"algorithm": "mamd", "env": "toy_matching", "hidden_size": 8, "batch_size": 8}
    config = make_config(**tiny, seeds=2, episodes=60)
    return read_grid(config, {"learning_rate": [1e-3, 1e-2, 0.1], "tsallis_q": [0.2, 1.0]}, True)


def opened(out: Path, grid: Grid, url: str = "", name: str = "s") -> SweepStudy:
    open_directory(out, grid)
    study = SweepStudy(out, grid, url or f"sqlite:///{out / 'study.db'}", name)
    note_question(out, grid)
    return study


def first(count: int) -> Any:
    def choose(trials: Sequence[Trial], decision: Decision) -> list[int]:
        waiting = [point for point in decision.pending if trials[point].state.name == "WAITING"]
        return waiting[:count]

    return choose


def test_points_wait_with_their_parameters(tmp_path: Path, grid: Grid) -> None:
    study = opened(tmp_path, grid)
    with study.working():
        trials, decision, claimed = study.claim(first(0))
    assert claimed == [] and decision.pending == dict.fromkeys(range(6), 0)
    kept = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [trial.params for trial in kept.trials] == [point.values for point in grid.points]
    assert kept.trials[3].user_attrs["run"] == "runs/learning_rate=0.01,tsallis_q=1.0"


def test_two_machines_share_no_claim_and_enqueue_once(tmp_path: Path, grid: Grid) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    one, two = (opened(tmp_path / name, grid, url) for name in ("a", "b"))
    with one.working(), two.working():
        claims = [each.claim(first(2))[2] for each in (one, two, one, two)]
    assert claims == [[0, 1], [2, 3], [4, 5], []]
    assert len(optuna.load_study(study_name="s", storage=url).trials) == 6


def test_what_is_given_back_can_be_claimed_again(tmp_path: Path, grid: Grid) -> None:
    for _ in range(2):
        study = opened(tmp_path, grid)
        with study.working():
            assert study.claim(first(3))[2] == [0, 1, 2]
    assert not list((tmp_path / "workers").iterdir())


def test_the_dead_of_this_directory_are_found_at_once(tmp_path: Path, grid: Grid) -> None:
    """A process that was killed has given nothing back; its lock is lifted by the system."""
    killed = opened(tmp_path, grid)
    killed._worker.path.mkdir(parents=True)
    with killed._worker.lock():
        trials, _, claimed = killed.claim(first(2))
        killed._storage.set_trial_intermediate_value(trials[1].id, 10, -1.0)
        living = opened(tmp_path, grid)
        with living.working():
            assert living.claim(first(1))[2] == [2]
    again = opened(tmp_path, grid)
    with again.working():
        trials, decision, claimed = again.claim(first(6))
    assert claimed == [0, 2, 3, 4, 5] and trials[1].standing.values == {10: -1.0}


def test_the_dead_of_other_machines_are_found_by_their_heartbeat(
    tmp_path: Path, grid: Grid
) -> None:
    url = f"sqlite:///{tmp_path / 'shared.db'}"
    killed, other = (opened(tmp_path / name, grid, url) for name in ("a", "b"))
    killed._worker.path.mkdir(parents=True)
    with killed._worker.lock(), other.working():
        before, _, _ = killed.claim(first(6))
        killed._storage.set_trial_intermediate_value(before[2].id, 10, -1.0)
        assert other.claim(first(6))[2] == []
        with sqlite3.connect(tmp_path / "shared.db") as rows:
            rows.execute("UPDATE trial_heartbeats SET heartbeat = '2000-01-01' WHERE trial_id <= 3")
        trials, _, claimed = other.claim(first(6))
        assert claimed == [0, 1] and trials[2].standing.values == {10: -1.0}
        with pytest.warns(UserWarning, match="is in other hands"):
            killed.report(before[0], 10, 5.0, {})
        assert other.trials()[0].standing.values == {}


def test_reports_lead_to_the_end(tmp_path: Path, grid: Grid) -> None:
    worth = [-3.0, -1.0, -2.0, -1.0, -5.0, -4.0]
    study = opened(tmp_path, grid)
    with study.working():
        while True:
            trials, decision, claimed = study.claim(first(4))
            if not claimed:
                break
            for point in claimed:
                if point == 5:
                    study.lose(trials[point], "all seeds diverged")
                    continue
                level = decision.pending[point]
                value = worth[point] + level
                study.report(trials[point], grid.rungs[level], value, {"returns": [value, value]})
    found = read_results(tmp_path, grid, study.trials())
    states = {tuple(row.values.values()): row.state for row in found.rows}
    assert found.best.values == {"learning_rate": 1e-3, "tsallis_q": 1.0}  # first of two equals
    assert found.best.rungs == {10: -1.0, 20: 0.0, 60: 1.0} and found.best.state == "complete"
    assert states[(0.1, 1.0)] == "lost" and found.rows[-1].state == "lost"
    assert sorted(states.values()) == ["complete", "lost", *["stopped"] * 4]
    assert [row.last for row in found.rows[1:5]] == [-1.0, -2.0, -3.0, -5.0]
    kept = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert kept.best_trial.value == 1.0 and len(kept.trials) == 6


def test_another_sweep_is_refused(tmp_path: Path, grid: Grid) -> None:
    opened(tmp_path / "a", grid, f"sqlite:///{tmp_path / 'shared.db'}")
    more = read_grid(grid.points[0].config, {"learning_rate": [1e-3]}, True)
    with pytest.raises(ConfigError, match=r"Study 's' in sqlite.* holds another sweep: grid"):
        opened(tmp_path / "b", more, f"sqlite:///{tmp_path / 'shared.db'}")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    own = optuna.create_study(storage=f"sqlite:///{tmp_path / 'shared.db'}", study_name="own")
    own.enqueue_trial({"x": 1})
    with pytest.raises(ConfigError, match="Study 'own' in .* is no sweep of mamt_jax"):
        opened(tmp_path / "c", grid, f"sqlite:///{tmp_path / 'shared.db'}", "own")


@pytest.mark.parametrize(
    "url", ["nonsense", "sqlite:////nowhere/x.db", "nosuchbase://me:secret@nowhere/x"]
)
def test_a_storage_that_cannot_be_reached_is_one_sentence(
    tmp_path: Path, grid: Grid, url: str
) -> None:
    with pytest.raises(ConfigError, match="cannot be opened: ") as said:
        opened(tmp_path, grid, url)
    assert "secret" not in str(said.value) and "\n" not in str(said.value)
