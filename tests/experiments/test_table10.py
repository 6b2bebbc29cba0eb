"""Runs beside the paper's Table 10."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamt_jax.experiments.paper import NAMES, TABLE10
from mamt_jax.experiments.table10 import compare, main
from mamt_jax.reports.record import record
from tests.reports.records import diverging, made_up, write_record, write_run

PAPER = ["maac", "mappo", "maddpg", "lola_dqn", "mamt"]
PAPER += ["mamd", "mamt_random", "mamt_fixed", "mamt_ws", "mamt_ppo"]


def two_seeds(points: int = 4) -> dict[str, list[float]]:
    """Both end above −38.06; smoothing does nothing to straight lines."""
    return {
        "0": [-60 + 30 * point / (points - 1) for point in range(points)],
        "1": [-52 + 30 * point / (points - 1) for point in range(points)],
    }


def test_the_paper_s_numbers() -> None:
    assert list(NAMES) == PAPER
    assert set(TABLE10) == {"spread", "multiwalker", "rover_tower", "pursuit"}
    for env, row in TABLE10.items():
        assert list(row) == [name for name in PAPER if env == "spread" or name != "lola_dqn"]
        assert max(row, key=lambda name: row[name].mean) == "mamt"
    assert TABLE10["spread"]["lola_dqn"] == (-42.08, 1.23)
    assert TABLE10["multiwalker"]["maddpg"] == (-49.76, 3.97)
    assert TABLE10["rover_tower"]["mamt_ws"] == (133.70, 6.22)
    assert TABLE10["pursuit"]["mamt_ppo"] == (25.04, 1.68)


def test_rows_and_columns(tmp_path: Path) -> None:
    mamd = write_record(tmp_path / "a.json", two_seeds(), algorithm="mamd")
    short = write_record(tmp_path / "b.json", two_seeds(2), algorithm="maac")
    table = compare([mamd, short])
    assert table.columns[6:] == ["paper", "above -50", "above -43.23", "above -38.06"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert list(rows) == PAPER
    # An interval is recorded, as versions before did it, but two seeds are too few for one.
    ours = ["2", "2,400", "-36.00 ± 1.00", "–", "-36.50"]
    # Seeds at −60, −50, −40, −30 and −52, −42, −32, −22 after 600, 1,200, 1,800, 2,400 episodes.
    times = ["1,200 (2 of 2: 1,200 to 1,800)", "1,800 (2 of 2: 1,200 to 1,800)"]
    times.append("1,800 (2 of 2: 1,800 to 2,400)")
    assert rows["mamd"] == [*ours, "-42.17 ± 1.05", *times]
    assert rows["maac"][1] == "1,200, last 120"
    assert rows["mamt_ws"] == ["–"] * 5 + ["-39.83 ± 0.72"] + ["–"] * 3


def test_one_seed_and_seeds_that_diverged(tmp_path: Path) -> None:
    one = write_record(tmp_path / "a.json", {"0": [-60.0, -40.0]})
    lost = diverging(made_up(set()), {1: 40})
    record(write_run(tmp_path / "run", lost, algorithm="maac"), tmp_path / "b.json")
    rows = {row[0]: row[1:] for row in compare([one, tmp_path / "b.json"]).rows}
    assert rows["mamt"][:5] == ["1", "1,200, last 120", "-36.00", "–", "-36.50"]
    assert rows["mamt"][-3:] == ["1,200 (1 of 1)", "1,200 (1 of 1)", "never (0 of 1)"]
    assert rows["maac"][0] == "3 (1 diverged)" and rows["maac"][-3].count("(3 of 3: ") == 1


def test_takes_a_folder(tmp_path: Path) -> None:
    paths = [
        write_record(tmp_path / "a/b.json", two_seeds()),
        write_record(tmp_path / "a/c/d.json", two_seeds(), algorithm="maac"),
    ]
    assert compare([tmp_path]) == compare(paths)


def test_no_number_where_the_paper_has_none(tmp_path: Path) -> None:
    table = compare([write_record(tmp_path / "a.json", two_seeds(), env="pursuit")])
    assert table.rows[3] == ["lola_dqn"] + ["–"] * 9


def test_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mamt = write_record(tmp_path / "a.json", two_seeds())
    out = tmp_path / "new/table.md"
    assert main([str(mamt), "--out", str(out)]) == 0
    table = compare([mamt])
    printed = capsys.readouterr().out
    assert all(cell in printed for row in table.rows for cell in row) and str(out) in printed
    title, _, *lines, _, caption = out.read_text(encoding="utf-8").splitlines()
    assert title == f"{table.title}:" and caption == table.caption
    assert "two seeds have no interval" in caption and "how many seeds" in caption
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert [cells[0], *cells[2:]] == [table.columns, *table.rows]
    assert len(cells[1]) == len(cells[0]) and {cell.strip(":-") for cell in cells[1]} == {""}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.json"], "nothing.json does not exist"),
        (["text.json"], "text.json is not a record"),
        (["mamt.json", "mamt.json"], "mamt.json is a second run of mamt"),
        (["mamt.json", "pursuit.json"], "runs in one environment, not in spread and pursuit"),
        (["mix.json"], "Table 10 has no spread3_mix"),
        (["op.json"], "Table 10 has no mamd_op"),
        (["longer.json"], "spread (episode_length=50) is not as in the paper's Table 10"),
        (["mamt.json", "--out", "text.json/x.md"], "Cannot write text.json/x.md"),
    ],
)
def test_one_sentence_for_what_cannot_be_compared(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("text.json").write_text("hello")
    for name, config in {
        "mamt": {},
        "pursuit": {"env": "pursuit"},
        "mix": {"env": "spread3_mix"},
        "op": {"algorithm": "mamd_op"},
        "longer": {"env_options": {"episode_length": 50}},
    }.items():
        write_record(Path(f"{name}.json"), two_seeds(), **config)
    assert main(arguments) == 1
    error = capsys.readouterr().err
    assert error.startswith("mamt: ") and says in error and error.count("\n") == 1
