"""The summary of a run as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from experiments.record import read_record, record
from experiments.report import report
from mamt_jax import RunError
from mamt_jax.analysis.statistics import summarise
from mamt_jax.training.run import run_trainer
from mamt_jax.training.run_dir import RunDir
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
    np.testing.assert_allclose(returns.return_mean, metrics.return_mean, rtol=1e-3)
    np.testing.assert_array_equal(returns.episode_at_update, metrics.episode_at_update)
    assert returns.episodes.sum() == metrics.episodes.sum()
    tables, files = report([tmp_path / "one.json"], tmp_path / "figures")
    assert tables[0].row_count >= 1
    assert [file.name for file in files] == ["learning_curve.png"]


@pytest.mark.parametrize("content", ["", "[]", '{"config": {"seeds": 0}}'])
def test_files_that_are_no_records(tmp_path: Path, content: str) -> None:
    (tmp_path / "x.json").write_text(content)
    with pytest.raises(RunError, match="is not a record"):
        report([tmp_path / "x.json"], tmp_path)
