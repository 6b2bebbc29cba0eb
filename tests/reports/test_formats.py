"""Tables for other programs, read back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mamt_jax.analysis.returns import first_and_last
from mamt_jax.cli.main import main
from mamt_jax.reports.formats import _latex
from mamt_jax.reports.sources import open_run
from tests.reports.records import diverging, made_up, write_record, write_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs and a record at several depths, on two tasks."""
    here = tmp_path_factory.mktemp("all")
    write_run(here / "a/b/c/mamt", diverging(made_up(set(), seeds=3), {1: 40}))
    write_run(here / "a/one", made_up(set(), seeds=1), algorithm="maac")
    write_record(here / "d/e.json", {"0": [-60.0, -40.0], "1": [-50.0, -30.0]}, env="pursuit")
    return here


def printed(folder: Path, kind: str, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    assert main(["report", str(folder), "--format", kind, *more]) == 0
    return capsys.readouterr().out


def test_json_has_the_numbers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not rounded, null where there is none, and nothing is drawn unless that is asked for."""
    monkeypatch.chdir(folder)
    before = sorted(folder.rglob("*"))
    spread, pursuit = json.loads(printed(folder, "json", capsys))
    assert sorted(folder.rglob("*")) == before
    assert (spread["task"], pursuit["task"]) == ("spread", "pursuit")
    assert spread["references"]["measured"] == {"random": -67.0, "greedy": -35.8}
    mamt, maac = spread["runs"]
    assert (mamt["run"], mamt["seeds"], mamt["diverged"], mamt["episodes"]) == ("mamt", 2, 1, 3000)
    first, last = first_and_last(open_run(folder / "a/b/c/mamt")[1])
    for share, summary in (("first", first), ("last", last)):
        for name, value in summary._asdict().items():
            expected = value if np.isfinite(value) else None
            assert mamt[f"{share}_{name}"] == expected
    assert maac["last_std"] is None and mamt["last_low"] is None is not mamt["last_std"]
    assert mamt["thresholds"].keys() == {"-50", "-43.23", "-38.06"}
    assert mamt["thresholds"]["-50"]["seeds"] == 2 and mamt["thresholds"]["-50"]["episodes"] > 0
    assert [run["last_mean"] for run in pursuit["runs"]] == [-36.0]


def test_csv_has_a_line_for_each_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks = json.loads(printed(folder, "json", capsys))
    lines = list(csv.DictReader(io.StringIO(printed(folder, "csv", capsys))))
    assert [(line["task"], line["run"]) for line in lines] == [
        ("spread", "mamt"),
        ("spread", "maac"),
        ("pursuit", "mamt"),
    ]
    runs: list[dict[str, Any]] = [run for task in tasks for run in task["runs"]]
    for line, run in zip(lines, runs, strict=True):
        for name, value in run.items():
            if name not in ("run", "thresholds"):
                assert line[name] == ("" if value is None else str(value)), name
    assert lines[0]["seeds_to_-50"] == "2" and lines[2]["seeds_to_-50"] == ""


def test_latex_has_the_tables(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(folder, "latex", capsys)
    for part in (
        r"mamt & 2 (1 diverged) & 3,000 & $-$",
        r"random &  &  &  & $-$67 \\",
        r"\begin{tabular}{lrrrr}",
        "% Return per episode on pursuit: mean",
    ):
        assert part in text
    assert text.count(r"\toprule") == text.count(r"\bottomrule") == 4  # two for each task
    bodies = [row for row in text.splitlines() if row.endswith(r"\\")]
    assert all(row.count(" & ") == 4 for row in bodies)


def test_cells_are_text_in_latex() -> None:
    assert _latex(r"a_b 5% {x} \y ~ ^ #1 & $") == (
        r"a\_b 5\% \{x\} \textbackslash{}y \textasciitilde{} \textasciicircum{} \#1 \& \$"
    )
    assert _latex("-3.50 ± 0.20 [-4, 3-2]") == r"$-$3.50 $\pm$ 0.20 [$-$4, 3-2]"
    assert _latex("[a]") == "{}[a]"


def test_figures_beside_other_formats(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """On demand, and without a word in between."""
    out = printed(folder, "csv", capsys, "--figures", str(tmp_path / "drawn"), "--per-seed")
    assert out.startswith("task,run,") and "drawn" not in out
    assert [file.name for file in (tmp_path / "drawn").iterdir()] == ["learning_curve.png"]
    assert main(["report", str(folder), "--format", "csv", "--per-seed"]) == 1
    assert "--per-seed is for figures" in capsys.readouterr().err
