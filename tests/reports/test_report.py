"""Reports of made-up records."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamt_jax import RunError
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError
from mamt_jax.reports.report import _labels, print_tables, report
from tests.reports.records import diverging, made_up, write_record, write_run


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
        ("spread", 1),  # thresholds
    ]
    assert [file.name for file in files] == ["learning_curve.png"]


def test_other_options_are_another_table(tmp_path: Path) -> None:
    """Options left out are the same as their defaults; references are for the defaults alone."""
    returns = {"0": [-60.0, -40.0]}
    options = {
        "a": ("spread", {}),
        "b": ("spread", {"num_agents": 3}),
        "c": ("spread", {"num_agents": 2, "variant": "paper"}),
        "d": ("pettingzoo", {"module": "mpe2.simple_reference_v3"}),
        "e": ("pettingzoo", {"module": "mpe2.simple_spread_v3"}),
        "f": ("pettingzoo", {"module": "mpe2.simple_spread_v3", "agents_may_leave": True}),
    }
    paths = [
        write_record(tmp_path / f"{name}.json", returns, env=env, env_options=chosen)
        for name, (env, chosen) in options.items()
    ]
    tables, _ = report(paths, tmp_path / "figures")
    found = [(str(table.title).split(": ")[0], table.row_count) for table in tables]
    assert found == [
        ("Return per episode on spread", 5),  # a, c and three levels
        ("Episodes until the return on spread (11-point mean) stays above a level", 2),
        ("Return per episode on spread (num_agents=3)", 1),
        ("Return per episode on pettingzoo (module=mpe2.simple_reference_v3)", 1),
        ("Return per episode on pettingzoo (module=mpe2.simple_spread_v3)", 2),
    ]
    captions = [table.caption for table in tables]
    assert "two seeds have no interval" in str(captions[0]) and "how many seeds" in str(captions[1])
    assert captions[2:] == [None] * 3


def test_tables_name_the_seeds_they_leave_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whose numbers count nowhere: the returns of what is left are those of a run without it."""
    whole = made_up(set())
    lost = write_run(tmp_path / "lost", diverging(whole, {1: 40}))
    never = write_run(tmp_path / "never", whole.isel(seed=[0, 2, 3]))
    shown = []
    for path in (lost, never):
        print_tables(*report([path], tmp_path / "figures")[0])
        lines = capsys.readouterr().out.splitlines()
        rows = [line.split("│")[1:-1] for line in lines if line.startswith("│ mamt")]
        shown.append([[cell.strip() for cell in row] for row in rows])
    for with_it, without in zip(*shown, strict=True):
        assert with_it[1] == "3 (1 diverged)" and without[1] == "3"
        assert with_it[2:] == without[2:]


def test_paths_that_cannot_be_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_record(tmp_path / "one.json", {"0": [-60.0, -40.0]})
    with pytest.raises(RunError, match=r"two\.json does not exist\."):
        report([Path("two.json")])
    with pytest.raises(ConfigError, match=r"one\.json is given more than once"):
        report([Path("one.json"), tmp_path / "one.json"])
    with pytest.raises(ConfigError, match="Name at least one"):
        report([])


def test_names_are_shown_as_they_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In tables and figures: brackets are no markup, and dollars no formula."""
    metrics = made_up({"entropy"}, seeds=2, points=12)
    for name in ("o[red]p", "[/x]", ":smile:", "a$b$c_$"):
        write_run(tmp_path / "runs" / name, metrics)
    shown, files = report([tmp_path / "runs"], tmp_path / "figures")
    print_tables(*shown)
    out = capsys.readouterr().out
    for name in ("o[red]p", "[/x]", ":smile:", "a$b$c_$"):
        assert out.count(f"mamt ({name})") == 2
    assert [file.name for file in files] == ["learning_curve.png", "entropy.png"]
