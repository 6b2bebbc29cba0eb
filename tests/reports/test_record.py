"""The summary of a run as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from mamt_jax import RunError
from mamt_jax.analysis.seeds import over_seeds
from mamt_jax.analysis.statistics import summarise
from mamt_jax.reports.record import read_record, record
from mamt_jax.reports.report import report
from mamt_jax.training.run import run_trainer
from mamt_jax.training.run_dir import RunDir
from tests.reports.records import diverging, made_up, write_run
from tests.training import fakes


@pytest.fixture
def directory(tmp_path: Path) -> RunDir:
    """A finished run of the fake trainer."""
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config())
    run_trainer(fakes.trainer(), fakes.algorithm(), fakes.config(), directory)
    return directory


def test_returns_that_are_not_known_are_null(directory: RunDir, tmp_path: Path) -> None:
    record(directory.path, tmp_path / "new/one.json")
    assert json.loads((tmp_path / "new/one.json").read_text())["last_return"]["mean"] is not None
    metrics = directory.read_metrics()
    metrics["return_sum"] = metrics.return_sum * np.nan
    directory.write_metrics(metrics)
    record(directory.path, tmp_path / "two.json")
    text = (tmp_path / "two.json").read_text()
    assert "NaN" not in text
    assert set(json.loads(text)["last_return"].values()) == {None}


def test_last_returns_of_every_seed(directory: RunDir, tmp_path: Path) -> None:
    record(directory.path, tmp_path / "one.json")
    summary = json.loads((tmp_path / "one.json").read_text())
    metrics = directory.read_metrics()
    last = metrics.isel(event=slice(-2, None)).astype(np.float64)  # ten
    expected = (last.return_sum.sum("event") / last.episodes.sum("event")).values
    by_seed = summary["last_return_by_seed"]
    assert list(by_seed) == list(summary["return_mean"])
    assert list(by_seed.values()) == expected.tolist()
    assert summarise(expected)._asdict() == summary["last_return"]


def test_old_records_have_an_approximate_iqm(directory: RunDir, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    record(directory.path, file)
    summary = json.loads(file.read_text())
    exact = read_record(file)[1].attrs["last_return"]
    assert exact.iqm == summary["last_return"].pop("iqm")
    del summary["last_return_by_seed"], summary["first_return"]["iqm"]
    file.write_text(json.dumps(summary))
    last = read_record(file)[1].attrs["last_return"]
    # One logging point of 15 episodes holds the last tenth, 10 of 105.
    expected = np.mean([returns[-1] for returns in summary["return_mean"].values()])
    np.testing.assert_allclose(last.iqm, expected)
    assert last[:4] == exact[:4]


@pytest.mark.parametrize("content", [None, "{"])
def test_versions_that_cannot_be_read(
    directory: RunDir, tmp_path: Path, content: str | None
) -> None:
    file = directory.path / "versions.json"
    file.unlink()
    if content:
        file.write_text(content)
    with pytest.raises(RunError, match="versions.json is missing or corrupt"):
        record(directory.path, tmp_path / "one.json")


def test_report_reads_records_like_runs(directory: RunDir, tmp_path: Path) -> None:
    record(directory.path, tmp_path / "one.json")
    config, returns = read_record(tmp_path / "one.json")
    metrics = directory.read_metrics()
    assert config == directory.read_config()
    np.testing.assert_allclose(
        returns.critic_loss, over_seeds(metrics).critic_loss, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(returns.return_mean, metrics.return_mean, rtol=1e-3)
    np.testing.assert_array_equal(returns.episode_at_update, metrics.episode_at_update)
    np.testing.assert_array_equal(returns.episode, metrics.episode)
    assert returns.agent.values.tolist() == metrics.agent.values.tolist() == ["left", "right"]
    assert returns.episodes.sum() == metrics.episodes.sum()
    tables, files = report([tmp_path / "one.json"], tmp_path / "figures")
    assert tables[0].row_count >= 1
    names = ["learning_curve.png", "greedy_return.png", "critic_loss.png"]
    assert [file.name for file in files] == names
    greedy = over_seeds(metrics).greedy_return
    np.testing.assert_allclose(returns.greedy_return, greedy, rtol=1e-3)
    assert np.isfinite(greedy.values).any()


def test_deviations_are_the_sample_s(directory: RunDir, tmp_path: Path) -> None:
    record(directory.path, tmp_path / "one.json")
    summary = json.loads((tmp_path / "one.json").read_text())
    expected = directory.read_metrics().critic_loss.values.std(axis=0, ddof=1)
    found = np.array(summary["over_seeds"]["critic_loss"]["std"], np.float64)
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    assert summary["over_seeds"]["critic_loss"]["dims"] == ["update", "agent"]


@pytest.mark.parametrize("seeds", [1, 2])
def test_what_few_seeds_cannot_tell_is_null(tmp_path: Path, seeds: int) -> None:
    run = write_run(tmp_path / "run", made_up({"delta"}, seeds))
    record(run, tmp_path / "one.json")
    summary = json.loads((tmp_path / "one.json").read_text())
    deviations = set(np.ravel(summary["over_seeds"]["delta"]["std"])[3:])  # after the first updates
    assert deviations == ({None} if seeds == 1 else {0.7071})
    for part in ("first_return", "last_return"):
        assert summary[part]["low"] is None and summary[part]["high"] is None
        assert (summary[part]["std"] is None) == (seeds == 1)


@pytest.mark.parametrize("seeds", [1, 2])
def test_old_records_of_few_seeds(tmp_path: Path, seeds: int) -> None:
    """They hold deviations of 0 and intervals from the smallest to the largest."""
    run = write_run(tmp_path / "run", made_up({"delta"}, seeds))
    record(run, tmp_path / "one.json")
    new = read_record(tmp_path / "one.json")[1]
    summary = json.loads((tmp_path / "one.json").read_text())
    for part in ("first_return", "last_return"):
        summary[part] |= {"low": -40.0, "high": -30.0}
        summary[part]["std"] = summary[part]["std"] or 0.0
    if seeds == 1:
        summary["over_seeds"]["delta"]["std"] = np.zeros((30, 3)).tolist()
    (tmp_path / "old.json").write_text(json.dumps(summary))
    xr.testing.assert_equal(read_record(tmp_path / "old.json")[1], new)
    for part in ("first_return", "last_return"):
        found = read_record(tmp_path / "old.json")[1].attrs[part]
        np.testing.assert_array_equal(found, new.attrs[part])
        assert np.isnan(found.low) and np.isnan(found.std) == (seeds == 1)


def test_quantities_of_other_versions_are_passed_over(directory: RunDir, tmp_path: Path) -> None:
    file = tmp_path / "one.json"
    record(directory.path, file)
    summary = json.loads(file.read_text())
    summary["over_seeds"]["phlogiston"] = "much"
    summary["over_seeds"]["delta"] = {"dims": ["update"], "mean": [1.0] * 7, "std": [0.1] * 7}
    file.write_text(json.dumps(summary))
    metrics = read_record(file)[1]
    assert "critic_loss" in metrics and not {"phlogiston", "delta"} & set(metrics)
    del summary["over_seeds"]
    file.write_text(json.dumps(summary))
    assert "critic_loss" not in read_record(file)[1]


def test_seeds_that_diverged_are_named_and_left_out(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", diverging(made_up({"delta"}), {3: 1234}))
    record(run, tmp_path / "one.json")
    summary = json.loads((tmp_path / "one.json").read_text())
    assert summary["diverged"] == {"3": 1234}
    assert list(summary["return_mean"]) == list(summary["last_return_by_seed"]) == ["0", "1", "2"]
    assert summary["over_seeds"].keys() == {"delta"}
    metrics = read_record(tmp_path / "one.json")[1]
    assert metrics.attrs["diverged"] == {3: 1234} and metrics.sizes["seed"] == 3
    record(write_run(tmp_path / "whole", made_up(set())), tmp_path / "two.json")
    assert "diverged" not in json.loads((tmp_path / "two.json").read_text())
    lost = write_run(tmp_path / "lost", diverging(made_up(set(), seeds=1), {0: 4}))
    with pytest.raises(RunError, match="lost: all seeds diverged, the first at update 4"):
        record(lost, tmp_path / "three.json")


@pytest.mark.parametrize("content", ["", "[]", '{"config": {"seeds": 0}}'])
def test_files_that_are_no_records(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(RunError, match="is not a record"):
        report([tmp_path / "x.json"], tmp_path)


def test_a_record_takes_the_place_of_records_alone(tmp_path: Path) -> None:
    """Not of a run's config, which a wrong name could hit."""
    run = write_run(tmp_path / "run", made_up(set(), seeds=2, points=12))
    config = run / "config.json"
    before = config.read_bytes()
    with pytest.raises(RunError, match="config.json is there already, and is no record"):
        record(run, config)
    assert config.read_bytes() == before
    kept = record(run, tmp_path / "kept.json", "one")
    assert record(run, kept, "two") == kept and json.loads(kept.read_text())["note"] == "two"
