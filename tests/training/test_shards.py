"""Parts of a run's seeds in directories of their own: read, trained and gone on with as one run."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mamt_jax
from mamt_jax.errors import RunError
from mamt_jax.training import checkpoint, loop, memory
from mamt_jax.training.prepare import Objects, prepare
from mamt_jax.training.result import Run
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import GROUPS, PROCESSES, Recorded, divide, evenly, leaves
from tests.training.test_together import CLIMBING, TINY, same

SEEDS = 5


def train(**options: Any) -> Any:
    return mamt_jax.train(CLIMBING, "toy_matching", **TINY | {"seeds": SEEDS} | options)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run: Run = train(out=tmp_path_factory.mktemp("whole") / "run")
    return run


def load(path: Path) -> Run:
    return mamt_jax.load(path, algorithm=CLIMBING)


def names(path: Path) -> list[str]:
    return [leaf.path.name for leaf in leaves(RunDir(path))]


def room_for(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """Memory that holds so many seeds, and an update."""
    config = mamt_jax.make_config(CLIMBING.settings, env="toy_matching", **TINY | {"seeds": SEEDS})
    trainer = prepare(config, Objects(CLIMBING))[0]
    each = memory.memory_of(trainer).total // SEEDS
    free = rows * each + (memory.working_bytes(trainer) or 0)
    monkeypatch.setattr(memory, "free_bytes", lambda: free)


def test_seeds_that_do_not_fit_are_trained_in_groups(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(monkeypatch, 2)
    told: list[tuple[int, ...]] = []
    run = train(out=tmp_path / "run", callback=lambda point: told.append(point.config.seed_ids))
    assert names(tmp_path / "run") == ["0-1", "2-3", "4-4"]
    assert list(dict.fromkeys(told)) == [(0, 1), (2, 3), (4,)]
    for each in (run, load(tmp_path / "run"), train()):
        same(whole, each)
    assert run.path == tmp_path / "run" and len(run.evaluate(3)) == SEEDS
    step = sorted(RunDir(tmp_path / "run" / "shards/0-1").saved())[0]
    earlier = [mamt_jax.load(path, step, algorithm=CLIMBING) for path in (whole.path, run.path)]
    np.testing.assert_array_equal(*(one.policies.learner for one in earlier))
    with pytest.warns(UserWarning, match="nothing to do"):
        same(whole, train(out=tmp_path / "run", resume=True))


def test_settings_that_do_not_fit_are_trained_in_groups(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(monkeypatch, 7)
    rates = [0.1, CLIMBING.settings.flat()["learning_rate"]]
    runs = train(out=tmp_path, learning_rate=rates)
    assert [run.path.name for run in runs] == [f"learning_rate={rate}" for rate in rates]
    same(whole, runs[1])


def test_an_interrupted_group_goes_on_and_the_rest_follows(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(monkeypatch, 3)
    place = tmp_path / "run"
    assert train(out=place, callback=lambda point: point.point == 2).metrics.sizes["seed"] == 3
    with pytest.warns(UserWarning, match="Seeds 3-4 have recorded nothing yet"):
        assert load(place).metrics.sizes["update"] == 2
    same(whole, train(out=place, resume=True))
    longer = train(out=place, resume=True, episodes=50)
    assert longer.metrics.sizes["update"] == 5 and load(place).config.episodes == 50
    monkeypatch.undo()
    same(longer, train(episodes=50))


def test_a_run_is_divided_and_joined_again(whole: Run, tmp_path: Path) -> None:
    """From one piece into two, three, one: always the same run, also gone on with."""
    assert whole.path is not None
    place = tmp_path / "run"
    part = train(out=place, callback=lambda point: point.point == 3)
    for count in (2, 3, 1, 5):
        divide(RunDir(place), evenly(part.config, count), PROCESSES)
        assert len(names(place)) == count and not RunDir(place).checkpoints.exists()
        same(part, load(place))
        assert sorted(Recorded(place).saved()) == [1, 2, 3]
    assert train(out=place, resume=True).path == place
    assert names(place) == ["0-4"]
    same(whole, load(place))


def test_a_shard_that_is_behind_catches_up(whole: Run, tmp_path: Path) -> None:
    place = tmp_path / "run"
    part = train(out=place, callback=lambda point: point.point == 1)
    divide(RunDir(place), evenly(part.config, 2), PROCESSES)
    ahead = RunDir(place / "shards/0-2")
    mamt_jax.train(
        CLIMBING, "toy_matching", **TINY | {"seeds": 3}, out=ahead.path, resume=True,
        keep_checkpoints=2, callback=lambda point: point.point == 3,
    )  # fmt: skip
    assert load(place).metrics.sizes["update"] == 1 and load(place).policies.points == -1
    with pytest.raises(RunError, match="holds no checkpoint 3"):
        mamt_jax.load(place, 3)
    divide(RunDir(place), evenly(part.config, 1), PROCESSES)
    assert names(place) == ["0-2", "3-4"] and RunDir(place).path.joinpath("shards/0-4").exists()
    told: list[tuple[int, ...]] = []
    run = train(
        out=place,
        resume=True,
        callback=lambda point: told.append((*point.config.seed_ids, point.point)),
    )
    assert told == [(3, 4, 2), (3, 4, 3), (0, 1, 2, 3, 4, 4)] and names(place) == ["0-4"]
    same(whole, run)


def test_nothing_is_lost_where_dividing_fails(
    whole: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert whole.path is not None
    place = RunDir(Path(shutil.copytree(whole.path, tmp_path / "run")))

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "recut", full)
    with pytest.raises(RunError, match="Could not divide the run .* disk is full; it is kept"):
        divide(place, evenly(whole.config, 2), GROUPS)
    same(whole, load(place.path))
    monkeypatch.undo()
    divide(place, evenly(whole.config, 2), GROUPS)
    same(whole, load(place.path))
    (place.path / "shards.json").write_text('{"why": "groups", "shards": ["../.."]}')
    with pytest.raises(RunError, match=r"shards.json is corrupt"):
        load(place.path)


def test_a_lost_group_takes_no_other_with_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seeds of a group diverge; those after it are trained, and what was recorded is read."""
    room_for(monkeypatch, 2)
    append, appended = loop.Recorder.append, []

    def failing(self: Any, output: Any, greedy: Any = None) -> None:
        appended.append(self.seeds)
        if self.seeds == [0, 1] and self.points == 1:
            output = output._replace(return_sum=output.return_sum * np.nan)
        append(self, output, greedy)

    monkeypatch.setattr(loop.Recorder, "append", failing)
    with pytest.warns(UserWarning, match="no other seed is left.* The other seeds went on"):
        run = train(out=tmp_path / "run")
    assert run.metrics.sizes["update"] == 4
    assert np.isfinite(run.metrics.diverged_at_update).values.tolist() == [1, 1, 0, 0, 0]
    assert np.isnan(run.metrics.return_mean[0, 1:]).all() and run.metrics.attrs["divergence"][0]
    assert np.isfinite(run.metrics.return_mean[2:]).all() and np.isfinite(run.metrics.episode).all()
    before = len(appended)
    with pytest.warns(UserWarning, match="nothing to do"):
        train(out=tmp_path / "run", resume=True)
    assert len(appended) == before
