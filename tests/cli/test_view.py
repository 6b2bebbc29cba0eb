"""``mamt view``: what it takes, chooses and refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mamt_jax.cli.main import main
from mamt_jax.training.run import load, train
from mamt_jax.trajectories.recording import write_recording


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two seeds of a game that takes no time, and two checkpoints."""
    path = tmp_path_factory.mktemp("runs") / "toy"
    sizes = {"hidden_size": 8, "attention_heads": 2, "batch_size": 8, "steps_per_update": 8}
    lengths = {"episodes": 8, "num_envs": 2, "log_interval": 4, "checkpoint_interval": 1}
    train("maac", "toy_matching", seeds=2, out=path, **sizes, **lengths)
    return path


def test_it_writes_a_page_and_says_what_is_on_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["view", str(run), "--episodes", "2"]) == 0
    page = (tmp_path / "toy.html").read_text("utf-8")
    assert page.count('"seed":') == 1 and '"seed":0' in page and '"checkpoint":2' in page
    said = capsys.readouterr().out
    assert "2 greedy episodes with key 0; seeds 0; checkpoints 2." in said and "toy.html" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["toy.html"]


def test_seeds_checkpoints_and_recordings_are_chosen(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_recording(load(run).episodes(2), "kept.nc")
    asked = ["view", str(run), "kept.nc", "--episodes", "2", "--out", "both.html"]
    assert main([*asked, "--seeds", "all", "--checkpoints", "1", "2"]) == 0
    page = (tmp_path / "both.html").read_text("utf-8")
    assert page.count('"seed":0') == 3 and page.count('"seed":1') == 2
    assert page.count('"checkpoint":1,') == 2 and page.count('"checkpoint":2,') == 3
    # Of one algorithm and environment, so where they are tells them apart.
    assert re.findall(r'"label":"([^"]*)","recordings"', page) == [
        f"maac on toy_matching, {place}" for place in (run, "kept.nc")
    ]


def test_it_refuses_in_one_sentence(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.html").write_text("<p>mine")
    for arguments, sentence in (
        ([], "Give at least one run directory or recording."),
        (["nowhere"], "nowhere"),
        ([str(run), "--seeds", "7"], "No seed 7; the run has 0, 1."),
        ([str(run), "--checkpoints", "9"], "holds no checkpoint 9; it holds 1, 2."),
        (["kept.nc", "--seeds", "1"], "A recording is of one seed and checkpoint"),
        ([str(run), "--episodes", "0"], "episodes must be"),
        ([str(run), "--out", "mine.html"], "mine.html exists and is no page of mamt view"),
        ([str(run), "--out", "page.pdf"], "must end in .html"),
    ):
        assert main(["view", *arguments]) == 1, arguments
        error = capsys.readouterr().err
        assert sentence in error and error.count("\n") == 1, error
    monkeypatch.chdir(run)
    assert main(["view", str(run)]) == 1
    assert "say where the page goes (--out)" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine.html"]
