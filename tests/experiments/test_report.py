"""Reports of made-up records."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.report import _labels, report
from mamt_jax import RunError
from mamt_jax.config import ConfigError, make_config
from tests.experiments.records import write_record


def test_labels_are_algorithms_and_what_tells_their_paths_apart() -> None:
    paths = [Path("runs/a/mamt.json"), Path("runs/b/c"), Path("/elsewhere/maac"), Path("runs/mamt")]
    configs = [make_config(algorithm=name) for name in ("mamt", "mamt", "maac", "mamt")]
    assert _labels(paths, configs) == ["mamt (a/mamt.json)", "mamt (b/c)", "maac", "mamt (mamt)"]
    assert _labels(paths[:1], configs[:1]) == ["mamt"]


def test_every_environment_has_tables_and_a_panel(tmp_path: Path) -> None:
    returns = {"0": [-60.0, -40.0]}
    paths = [
        write_record(tmp_path / "one.json", returns, env="spread3_mix"),
        write_record(tmp_path / "two.json", returns, env="spread"),
        write_record(tmp_path / "three.json", returns, env="spread3_mix", algorithm="maac"),
    ]
    tables, files = report(paths, tmp_path / "figures")
    assert [
        (str(table.title).split(" on ")[1].split()[0], table.row_count) for table in tables
    ] == [
        ("spread3_mix:", 2),
        ("spread:", 4),  # the run and three levels
        ("spread", 1),
    ]
    assert [file.name for file in files] == ["learning_curve.png"]


def test_paths_that_cannot_be_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path / "one.json", {"0": [-60.0, -40.0]})
    with pytest.raises(RunError, match=r"two\.json does not exist\."):
        report([Path("two.json")])
    with pytest.raises(RunError, match="holds no run"):
        report([tmp_path])
    with pytest.raises(ConfigError, match=r"one\.json more than once"):
        report([Path("one.json"), tmp_path / "one.json"])
    with pytest.raises(ConfigError, match="at least one"):
        report([])
