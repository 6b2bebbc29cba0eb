"""Policies to take home: small, exact, and nothing in them is executed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

import mamt_jax
from mamt_jax.cli.main import main
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.policies import names
from mamt_jax.training.pretrained import LARGEST, pretrained, save_policies
from mamt_jax.training.result import Run

TINY = {"hidden_size": 8, "attention_heads": 2, "batch_size": 8, "num_envs": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    out = tmp_path_factory.mktemp("run") / "x"
    mamt_jax.train(
        "maac", "toy_matching", seeds=2, episodes=40, out=out, evaluation_interval=1, **TINY
    )
    return mamt_jax.load(out)


@pytest.fixture(scope="module")
def file(run: Run) -> Path:
    assert run.path is not None
    return save_policies(run, run.path.parent / "policies.npz", "A test.")


def test_they_play_as_in_the_run(run: Run, file: Path) -> None:
    kept = pretrained(file)
    (seed,) = kept.policies.seeds
    played, row = run.evaluate(100), run.policies.seeds.index(seed)
    assert played.mean(axis=1)[row] == played.mean(axis=1).max()
    np.testing.assert_array_equal(kept.evaluate(20)[0], run.evaluate(20)[row])
    assert f"{run.evaluate(100, seed=1)[row].mean():.2f} ± " in kept.card["score"]
    assert kept.episodes(2).sizes["episode"] == 2
    assert kept.card["task"] == "toy_matching" and kept.card["limits"].endswith("A test.")
    assert "chosen of 2 seeds" in kept.card["score"] and kept.card["score"] in repr(kept)
    assert "<th>score</th>" in kept._repr_html_()


def test_only_what_actions_depend_on_is_kept(run: Run, file: Path) -> None:
    with np.load(file, allow_pickle=False) as archive:
        kept = set(archive.files) - {"card"}
        assert all(archive[name].dtype != object for name in archive.files)
    assert kept and all("actor" in name or "norm" in name for name in kept)
    assert not any("target" in name or "critic" in name or "optim" in name for name in kept)
    assert file.stat().st_size < 20_000


def test_nothing_is_said_beside_actions(file: Path) -> None:
    kept = pretrained(file)
    with pytest.raises(ConfigError):
        kept.attention(np.zeros((2, kept.policies.game.obs_sizes[0])), np.zeros(2, int))


def test_halves_where_they_are_large(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mamt_jax.training.pretrained.LARGEST", 100)
    half = save_policies(run, tmp_path / "half.npz")
    with np.load(half) as archive:
        kinds = {archive[name].dtype.name for name in archive.files if "kernel" in name}
    assert kinds == {"float16"} and "float16" in pretrained(half).card["limits"]
    assert LARGEST == 2**20


def rewritten(file: Path, target: Path, **changed: object) -> Path:
    """The file with parts of its document changed."""
    with np.load(file) as archive:
        arrays = dict(archive)
    document = json.loads(arrays["card"].tobytes()) | changed
    arrays["card"] = np.frombuffer(json.dumps(document).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, **arrays)
    target.write_bytes(content.getvalue())
    return target


def test_hostile_and_damaged_files(file: Path, tmp_path: Path) -> None:
    config = pretrained(file).config.to_dict()
    code = tmp_path / "evil.py"
    code.write_text("raise SystemExit('executed')")
    for what in ("algorithm", "env"):
        hostile = rewritten(file, tmp_path / "a.npz", config=config | {what: "evil:thing"})
        with pytest.raises(RunError, match=f"its {what} is somebody's own code"):
            pretrained(hostile)
    with pytest.raises(RunError, match="of format 2; this version reads 1"):
        pretrained(rewritten(file, tmp_path / "b.npz", format=2))
    objects = tmp_path / "c.npz"
    np.savez(objects, card=np.array([{"a": 1}], object), allow_pickle=True)
    truncated = tmp_path / "d.npz"
    truncated.write_bytes(file.read_bytes()[:-200])
    text = tmp_path / "e.npz"
    text.write_text("hello")
    for damaged in (objects, truncated, text):
        with pytest.raises(RunError, match="is damaged, or no file of policies"):
            pretrained(damaged)


def test_names_that_are_none() -> None:
    with pytest.raises(ConfigError, match="There are no policies 'spread/mammt'"):
        pretrained("spread/mammt")


@pytest.mark.parametrize("name", names())
def test_those_of_the_package_open(name: str) -> None:
    kept = pretrained(name)
    assert kept.card["task"].startswith(name.partition("/")[0])
    game = kept.policies.game
    actions = kept.policies.act(np.zeros((game.num_agents, max(game.obs_sizes)), np.float32))
    assert actions.shape == (game.num_agents,) and (actions >= 0).all()


def test_from_the_command_line(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["report", str(run.path), "--figures", str(tmp_path / "figures"), "--policies"]
    assert main([*asked, str(tmp_path / "x.npz")]) == 0
    assert pretrained(tmp_path / "x.npz").config.env == "toy_matching"
    capsys.readouterr()
    assert main([*asked, str(tmp_path / "x.bin")]) == 1
    assert "--policies takes a file that ends with .npz" in capsys.readouterr().err
    file = str(tmp_path / "x.npz")
    assert main(["evaluate", file, "--episodes", "5"]) == 0
    assert "seed" in capsys.readouterr().out
    assert main(["record", file, "--out", str(tmp_path / "x.nc"), "--episodes", "2"]) == 0
    capsys.readouterr()
    assert main(["evaluate", file, "--checkpoint", "3"]) == 1
    assert "they have no checkpoints" in capsys.readouterr().err
    assert main(["list"]) == 0
    assert all(name in capsys.readouterr().out for name in names()[:1])
