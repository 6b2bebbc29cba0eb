"""``mamt record``: a file of episodes, or one sentence."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mamt_jax.cli import main as cli
from mamt_jax.training import pretrained
from mamt_jax.training.result import Run
from mamt_jax.training.run import load, run_trainer
from mamt_jax.training.run_dir import RunDir
from mamt_jax.trajectories.recording import read_recording
from tests.training import fakes


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of the fake trainer on Spread, whose first seed has diverged."""
    config = fakes.config(env_options={"episode_length": 3})
    directory = RunDir(tmp_path_factory.mktemp("recorded") / "run")
    directory.create(config, fakes.trainer().game)
    with pytest.warns(UserWarning, match="diverged"):
        run_trainer(fakes.trainer(7, (5,)), fakes.algorithm(), config, directory)
    return directory.path


def test_record_writes_what_the_run_plays(
    recorded: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = partial(load, algorithm=fakes.recipe(fakes.algorithm(), "mamt"))
    monkeypatch.setattr(pretrained, "load", opened)
    file, again = recorded.parent / "x.nc", recorded.parent / "x.zarr"
    line = ["record", str(recorded), "--episodes", "2", "--key", "5"]
    assert cli.main([*line, "--checkpoint", "4", "--out", str(file)]) == 0
    assert f"{file}: episodes of seed 1 after 4 logging points" in capsys.readouterr().out
    run: Run = opened(recorded, 4)
    assert read_recording(file).identical(run.episodes(2, 1, key=5))
    options = ["--sampled", "--seed", "2", "--env-option", "episode_length=5"]
    assert cli.main([*line, *options, "--out", str(again)]) == 0
    said = read_recording(again)
    assert said.attrs | {"seed": 2, "greedy": 0, "checkpoint": 7} == said.attrs
    assert said.env_options == '{"episode_length": 5}' and said.sizes["step"] == 5
    capsys.readouterr()
    for more, says in (
        (["--out", str(file)], f"{file} exists; choose another name, or overwrite it"),
        (["--out", "x.csv"], "must end in .nc or .zarr"),
        (["--out", str(file), "--overwrite", "--checkpoint", "3"], "holds no checkpoint 3"),
        (["--out", str(file), "--overwrite", "--env-option", "num_agents=3"], "does not fit these"),
        (["--out", str(file), "--overwrite", "--seed", "9"], "No seed 9; the run has 0, 1, 2"),
    ):
        assert cli.main([*line, *more]) == 1
        captured = capsys.readouterr()
        assert says in captured.err and len(captured.err.splitlines()) == 1 and not captured.out
    assert read_recording(file).attrs["checkpoint"] == 4
