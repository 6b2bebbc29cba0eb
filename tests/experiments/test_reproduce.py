"""``mamt reproduce``: what is trained, found, drawn and refused."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import mamt_jax
from mamt_jax.cli.main import main
from mamt_jax.config import make_config
from mamt_jax.experiments import reproduce, runs, tuning
from mamt_jax.experiments.attention import weights
from mamt_jax.experiments.budgets import (
    BUDGETS,
    FOUR,
    QUICK,
    STUDIED,
    THREE,
    VARIANTS,
    Length,
    planned,
)
from mamt_jax.experiments.targets import TARGETS
from tests.experiments.made import recorded

SHORT = Length(2, 48, {"hidden_size": 8, "batch_size": 8, "evaluation_interval": 0})


def test_every_planned_run_is_a_config() -> None:
    for budget in BUDGETS:
        cells = {cell for target in TARGETS.values() for cell in target.cells((*FOUR, *THREE))}
        planned_runs = {cell: planned(*cell, budget) for cell in cells}
        records = [run.record for run in planned_runs.values()]
        assert len(set(records)) == len(records)
        for (variant, env), run in planned_runs.items():
            assert (run.algorithm, run.env) == (VARIANTS[variant].algorithm, env)
            make_config(**run.options())


def test_the_papers_budget_is_the_papers() -> None:
    for env in FOUR:
        run = planned("mamt", env, "paper")
        assert (run.seeds, run.episodes) == (8, 10_000 if env == "spread" else 50_000)
        assert dict(run.settings) == {"delta_rule": "penalty"}
    assert all(length.why for name in ("smoke",) for length in BUDGETS[name].values())


def test_runs_of_studies_are_used() -> None:
    assert planned("maac", "spread", "cpu") is planned("maac", "spread", "paper")
    assert planned("maac", "spread", "cpu") is STUDIED["spread/maac"]
    assert planned("maac", "rover_tower", "paper").record == "paper/rover_tower/maac"
    assert planned("maac", "rover_tower", "smoke").record == "smoke/rover_tower/maac"


def test_draws_what_is_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kept, out = tmp_path / "kept", tmp_path / "out"
    returns = {"0": [-60.0, -50.0, -40.0], "1": [-61.0, -51.0, -41.0]}
    recorded(kept, "spread/maac", returns, algorithm="maac")
    recorded(kept, "rover_tower/maac", returns, algorithm="maac", env="rover_tower")
    asked = ["reproduce", "figure2", "--env", "spread", "--recorded", "--out", str(out)]
    assert main([*asked, "--records", str(kept)]) == 0
    files = {path.name for path in (out / "figure2").iterdir()}
    assert files == {f"figure2.{kind}" for kind in ("png", "svg", "csv", "md")} | {
        "figure2_table.csv"
    }
    table = (out / "figure2/figure2.md").read_text(encoding="utf-8")
    assert "| MAAC | 2 | 1,800, last 180 |" in table and "| MAMT | – |" in table
    assert "spread, 2 seeds" in (out / "figure2/figure2.csv").read_text()
    assert "rover" not in (out / "figure2/figure2.csv").read_text()
    assert str(out / "figure2/figure2.svg") in capsys.readouterr().out
    assert main([*asked[:-2], "--out", str(tmp_path / "none"), "--records", str(tmp_path)]) == 1
    assert "Nothing of figure2 is recorded at the budget cpu" in capsys.readouterr().err


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Figure 9 of two runs that were trained."""
    out = tmp_path_factory.mktemp("reproduced")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BUDGETS["smoke"], "spread3_sep", SHORT)
        target = TARGETS["figure9"]._replace(variants=("maac",))
        patch.setitem(TARGETS, "figure9", target)
        asked = ["reproduce", "figure9", "--budget", "smoke", "--env", "spread3_sep"]
        assert main([*asked, "--out", str(out)]) == 0
        patch.setattr(runs, "run_config", None)  # nothing is trained twice
        assert main([*asked, "--out", str(out)]) == 0
    return out


def test_trains_what_is_missing(trained: Path) -> None:
    made = {str(path.relative_to(trained)) for path in trained.glob("records/**/*.*")}
    assert made == {f"records/smoke/spread3_sep/maac.{kind}" for kind in ("json", "npz")}
    assert (trained / "figure9/figure9.png").stat().st_size > 10_000
    rows = (trained / "figure9/figure9_table.csv").read_text().splitlines()
    assert len(rows) == 1 + 6


def test_attention_is_a_distribution_over_the_others(trained: Path) -> None:
    found = weights(trained / "runs/smoke/spread3_sep/maac")
    assert np.isnan(found.diagonal()).all()
    np.testing.assert_allclose(np.nansum(found, axis=1), 1, rtol=1e-5)


def test_policies_are_kept_beside_a_record(trained: Path) -> None:
    run = mamt_jax.load(trained / "runs/smoke/spread3_sep/maac")
    kept = mamt_jax.pretrained(trained / "records/smoke/spread3_sep/maac.npz")
    (seed,) = kept.policies.seeds
    obs = np.random.default_rng(0).normal(size=(16, 3, run.policies.game.obs_sizes[0]))
    np.testing.assert_array_equal(
        kept.policies.act(obs.astype(np.float32)),
        run.policies.act(obs.astype(np.float32), seed=seed),
    )


def test_a_stopped_run_is_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory of the same run is resumed, that of another is refused."""
    monkeypatch.setitem(BUDGETS["smoke"], "spread3_sep", SHORT)
    run = planned("maac", "spread3_sep", "smoke")
    places, asked = runs.Places(tmp_path), []
    config = make_config(**run.options())
    runs.RunDir(places.directory(run)).create(config)

    def stop(config: object, **how: object) -> None:
        asked.append(how["resume"])
        raise mamt_jax.InterruptedRun("stopped")

    monkeypatch.setattr(runs, "run_config", stop)
    monkeypatch.setattr(runs, "is_finished", lambda _: False)
    with pytest.raises(mamt_jax.InterruptedRun):
        runs.train(run, places)
    assert asked == [True]
    monkeypatch.setitem(BUDGETS["smoke"], "spread3_sep", Length(3, 48, SHORT.settings))
    with pytest.raises(mamt_jax.RunError, match="seeds is 2 there, and 3 here"):
        runs.train(planned("maac", "spread3_sep", "smoke"), places)


def test_the_record_of_another_run_is_refused(tmp_path: Path) -> None:
    returns = {"0": [-60.0], "1": [-60.0], "2": [-60.0]}
    file = recorded(tmp_path, "smoke/spread/maac", returns, algorithm="maac", batch_size=64)
    with pytest.raises(mamt_jax.RunError, match="maac.json is of another run"):
        runs.find(planned("maac", "spread", "smoke"), runs.Places(tmp_path / "out", (tmp_path,)))
    assert file.is_file()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["figre2"], "There is no name 'figre2' (did you mean 'figure2'?)"),
        (["figure2", "--env", "sprea"], "There is no environment 'sprea' (did you mean 'spread'?)"),
        (["figure13", "--env", "spread"], "figure13 has no run in spread"),
        (["figure2", "--seeds", "0"], "seeds must be 1 or greater, got 0"),
        (["figure2", "--records", "nowhere"], "--records takes folders; nowhere is none"),
        ([], "Name what is to be reproduced: table2, "),
    ],
)
def test_bad_input(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *arguments]) == 1
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and not list(tmp_path.iterdir())


def test_other_numbers_of_seeds_are_other_runs() -> None:
    usual, asked = (
        reproduce.checked(["figure2"], envs=["spread"], seeds=seeds).runs("figure2")
        for seeds in (None, 3)
    )
    assert usual["spread", "maac"] is STUDIED["spread/maac"]
    three = asked["spread", "maac"]
    assert (three.record, three.seeds) == ("spread/maac_3_seeds", 3)


def test_lists_and_plans(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["reproduce", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in reproduce.NAMES)
    recorded(tmp_path, "spread/maac", {"0": [-60.0]}, algorithm="maac")
    asked = ["reproduce", "figure3", "--env", "spread", "--dry-run", "--records", str(tmp_path)]
    assert main([*asked, "--out", str(tmp_path / "out")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "spread/maac" and lines[0].endswith("maac.json")
    assert lines[1].split()[0] == "spread/mamt" and lines[1].endswith("to be trained")
    assert not (tmp_path / "out").exists()


def test_tuning_shows_the_best_of_each_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    def tune(algorithm: str, env: str, **how: object) -> SimpleNamespace:
        asked.append((algorithm, env, how["episodes"], how["seeds"], how["ranges"]))
        rows = [{"learning_rate": 1e-3, "return": -float(k), "run": "x"} for k in range(25)]
        return SimpleNamespace(records=lambda: rows, out=tmp_path)

    monkeypatch.setattr(tuning, "tune", tune)
    assert main(["reproduce", "tuning", "--out", str(tmp_path), "--seeds", "2"]) == 0
    assert asked == [("mamd", "spread", 10_000, 2, None), ("mamt", "spread", 10_000, 2, None)]
    table = (tmp_path / "tuning/tuning.md").read_text(encoding="utf-8")
    assert "Table 9: mamt on spread" in table and "| 0.001 | -19 |" in table
    assert "-20 |" not in table and "5 more are in" in table
    assert main(["reproduce", "tuning", "--out", str(tmp_path), "--recorded"]) == 0
    assert len(asked) == 2
    assert tuning.TABLE9.keys() > tuning.TABLE8.keys() and "tuning" in capsys.readouterr().out


@pytest.mark.slow
def test_everything_at_the_smallest_budget(tmp_path: Path) -> None:
    """Within ten minutes on two cores: most of it compiles the programs of some twenty runs."""
    assert main(["reproduce", "all", "--budget", "smoke", "--out", str(tmp_path)]) == 0
    for name in (*TARGETS, "verdicts"):
        if name not in TARGETS or TARGETS[name].cells(QUICK["smoke"]):
            assert (tmp_path / name / f"{name}.md").is_file()
