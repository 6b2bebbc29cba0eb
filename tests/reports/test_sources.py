"""Runs found in folders, and what lies beside them."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

from mamt_jax import RunError
from mamt_jax.cli.main import main
from mamt_jax.config import make_config
from mamt_jax.reports.sources import find_runs, open_run
from mamt_jax.training.run_dir import RunDir
from tests.reports.records import diverging, made_up, write_record, write_run

BENCHMARK = {"command": "update", "hardware": {"cores": 2}, "updates": []}
OLD_BENCHMARK = [{"environment": "pursuit", "steps_per_second": 1.0}]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two runs and two records, two benchmarks and a picture."""
    write_record(tmp_path / "all/spread/mamt.json", {"0": [-60.0, -40.0]})
    write_record(tmp_path / "all/maac.json", {"0": [-60.0, -40.0]}, algorithm="maac")
    write_run(tmp_path / "all/runs/mamd", made_up(set(), points=3), algorithm="mamd")
    write_run(tmp_path / "all/runs/mappo", made_up(set(), points=3), algorithm="mappo")
    write_record(tmp_path / "all/.trash/x.json", {"0": [-60.0, -40.0]}, algorithm="mamt_ws")
    (tmp_path / "all/benchmarks.json").write_text(json.dumps(OLD_BENCHMARK))
    (tmp_path / "all/spread/update.json").write_text(json.dumps(BENCHMARK))
    (tmp_path / "all/spread/delta.png").write_bytes(b"")
    return tmp_path / "all"


def test_folders_are_searched(folder: Path) -> None:
    with pytest.warns(UserWarning, match=r"^Left out: 2 benchmark files\.$"):
        found = find_runs([folder])
    names = ["maac.json", "runs/mamd", "runs/mappo", "spread/mamt.json"]
    assert found == [folder / name for name in names]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_runs([folder / "runs", folder / "maac.json"]) == [*found[1:3], found[0]]


def test_report_takes_folders_and_globs(
    folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.warns(UserWarning, match=r"^Left out: 2 benchmark files\.$"):
        assert main(["report", str(folder), "--figures", str(tmp_path / "figures")]) == 0
    printed = capsys.readouterr().out
    assert all(f"│ {name}" in printed for name in ("maac", "mamd", "mappo", "mamt"))
    files = [str(path) for path in sorted((folder / "spread").glob("*.json"))]
    with pytest.warns(UserWarning, match=r"^Left out: 1 benchmark file\.$"):
        assert main(["report", *files]) == 0
    assert (folder / "spread/figures/learning_curve.png").exists()


@pytest.mark.filterwarnings("ignore:Left out")
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            ["all/other.json"],
            "{here}/all/other.json is not a record written by mamt report --keep.",
        ),
        (["strange"], "{here}/strange holds no run and no record of one."),
        (["empty"], "{here}/empty holds no run and no record of one."),
        (["all/benchmarks.json"], "Only benchmark files were given, no run and no record of one."),
        (["nothing"], "{here}/nothing does not exist."),
        (
            ["all/maac.json", "all/./maac.json"],
            "report was given {here}/all/maac.json more than once.",
        ),
        (["lost"], "{here}/lost: all seeds diverged, the first at update 40."),
        ([], "report needs at least one run directory, record or folder of these."),
    ],
)
def test_one_sentence_for_what_cannot_be_reported(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(folder.parent)
    Path("empty").mkdir()
    Path("strange").mkdir()
    Path("strange/other.json").write_text("{}")
    (folder / "other.json").write_text('{"name": "package", "scripts": {}}')
    write_run(Path("lost"), diverging(made_up(set(), seeds=2, points=3), {0: 40, 1: 48}))
    assert main(["report", *given, "--figures", "figures"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"mamt: {says.format(here=folder.parent)}"


def test_what_a_search_finds_and_cannot_open_is_left_out(folder: Path) -> None:
    """A run that has just begun, one that lost all its seeds, and a file of something else."""
    RunDir(folder / "runs/begun").create(make_config())
    write_run(folder / "runs/lost", diverging(made_up(set(), seeds=1, points=3), {0: 40}))
    (folder / "package.json").write_text('{"name": "package"}')
    with pytest.warns(UserWarning) as said:
        found = find_runs([folder])
    assert [path.name for path in found] == ["maac.json", "mamd", "mappo", "mamt.json"]
    texts = sorted(str(each.message).replace(f"{folder}/", "") for each in said)
    assert texts == [
        "Left out: 2 benchmark files.",
        "Left out: package.json is not a record written by mamt report --keep.",
        "Left out: runs/begun holds no metrics yet.",
        "Left out: runs/lost: all seeds diverged, the first at update 40.",
    ]


def test_runs_are_opened_without_the_seeds_that_diverged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", diverging(made_up({"delta"}), {1: 40, 3: 12}))
    _, metrics = open_run(run)
    assert metrics.seed.values.tolist() == [0, 2]
    assert metrics.attrs["diverged"] == {1: 40, 3: 12}
    assert metrics.delta.sel(moment="mean").values[-1].tolist() == [2, 2, 2]  # of 1 and 3


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="does not exist"):
        open_run(tmp_path / "nothing")
