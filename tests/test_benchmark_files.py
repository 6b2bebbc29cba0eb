"""Files of measurements, and figures of them: one machine in each."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from benchmarks import __main__ as command
from benchmarks import figures, files, measure
from benchmarks.batches import SHAPES
from benchmarks.machine import Load
from mamt_jax.algorithms.registry import ALGORITHMS
from mamt_jax.errors import OutputError

COMMITTED = Path(__file__).parents[1] / "results/benchmarks"
HARDWARE = {
    "date": "2026-11-23",
    "platform": "Linux-6",
    "processor": "Some (R) CPU @ 2 GHz",
    "cores": 2,
    "device": "cpu",
    "versions": {"jax": "0.10.2"},
}
MS = {"median": 10.0, "min": 9.0, "max": 14.0}


def updates(env: str = "spread", algorithm: str = "maac", **more: Any) -> dict[str, Any]:
    """A row of updates as the harness writes it."""
    row = {"env": env, "algorithm": algorithm, "batch_size": 1024, "mamt_jax": {"8": MS}}
    return row | {"torch": {"modules": MS | {"threads": 2}, "batched": MS | {"threads": 1}}} | more


def written(path: Path, rows: list[dict[str, Any]], **hardware: Any) -> Path:
    """A file of updates, of a machine that differs in what is said."""
    path.write_text(json.dumps({"hardware": HARDWARE | hardware, "updates": rows}))
    return path


def width(path: Path) -> int:
    """Pixels, from the header of a PNG."""
    return int.from_bytes(path.read_bytes()[16:20], "big")


def texts(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))  # type: ignore[attr-defined]


def test_machines_are_never_mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = written(tmp_path / "1.json", [updates("spread")])
    more = written(tmp_path / "2.json", [updates("pursuit")], date="2026-11-24")
    other = written(tmp_path / "3.json", [updates("spread", "mamt")], platform="Linux-7")
    drawn: list[str] = []
    figure_of = figures._figure

    def watched(panels: Any, caption: str) -> Figure:
        figure = figure_of(panels, caption)
        drawn.append(texts(figure))
        return figure

    monkeypatch.setattr(figures, "_figure", watched)
    figures.draw([one, other, more], tmp_path / "out")
    label = "some-r-cpu-2-ghz-2-cores-jax-0.10.2-2026-11-23"
    found = {str(path.relative_to(tmp_path / "out")) for path in tmp_path.rglob("*.png")}
    assert found == {f"{label}/updates.png", f"{label}-2/updates.png"}
    assert ["mamt" in text.split("\n") for text in drawn] == [False, True]
    assert ["pursuit" in text for text in drawn] == [True, False]
    for text, days in zip(drawn, ("2026-11-23 to 2026-11-24", "2026-11-23."), strict=True):
        said = " ".join(text.split())
        assert f"Some (R) CPU @ 2 GHz, 2 cores, jax 0.10.2, {days}" in said


def test_figures_go_where_git_keeps_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path / "1.json", [updates()])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "plot", str(file)])
    assert command.main() == 0
    assert list(tmp_path.rglob("*.png")) == [tmp_path / "runs/benchmarks/updates.png"]


def test_figures_do_not_grow_sideways(tmp_path: Path) -> None:
    rows = [updates(env, algorithm) for env in SHAPES for algorithm in ALGORITHMS]
    figures.draw([written(tmp_path / "1.json", rows)], tmp_path)
    assert 1000 < width(tmp_path / "updates.png") <= 1600


def test_bars_start_at_zero_and_have_their_range() -> None:
    figure = figures._figure(list(figures.FIGURES["updates"]([updates()])), "where")
    (ax,) = figure.axes
    assert ax.get_xscale() == "linear"
    assert ax.get_xlim()[0] == 0
    assert all(bar.get_x() == 0 and bar.get_width() == 10 for bar in ax.patches)
    ends = [tuple(segment[:, 0]) for lines in ax.collections for segment in lines.get_segments()]
    assert ends == [(9.0, 14.0)] * 3


def test_what_was_measured_once_has_no_range() -> None:
    row = {"algorithm": "maac", "env": "spread", "cold": 9.0, "cached": 3.0}
    figure = figures._figure(list(figures.FIGURES["compile"]([row])), "where")
    assert not figure.axes[0].collections
    assert "fastest" not in texts(figure)


def test_committed_measurements_are_of_two_dated_machines() -> None:
    machines = files.by_machine(sorted(COMMITTED.glob("*.json")), list(figures.FIGURES))
    assert [sorted(machine.dates) for machine in machines] == [["2026-11-23"], ["2026-11-25"]]
    folders = {path.parent.name for path in COMMITTED.rglob("*.png")}
    assert folders == {machine.label() for machine in machines}


@pytest.mark.parametrize(
    ("content", "said"),
    (
        ([1], "holds none of updates"),
        ({"updates": [updates()]}, "does not say on which machine"),
        ({"hardware": HARDWARE, "updates": [{"env": 1}]}, "hold of updates is no measurement"),
    ),
)
def test_what_is_no_measurement_is_refused(tmp_path: Path, content: Any, said: str) -> None:
    file = tmp_path / "1.json"
    file.write_text(json.dumps(content))
    with pytest.raises(OutputError, match=said):
        figures.draw([file], tmp_path)


def test_an_earlier_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found.json"
    out.write_text("earlier")
    seen: list[list[str]] = []

    def stopped(*_: Any) -> None:
        seen.append(sorted(path.name for path in tmp_path.iterdir()))
        assert out.read_text() == "earlier"
        raise OutputError("stopped")

    small = ["update", "--envs", "spread", "--algorithms", "maac", "--against"]
    monkeypatch.setattr(sys, "argv", ["benchmarks", *small, "--out", str(out)])
    monkeypatch.setattr(command, "load", lambda: Load(0.0, 0.0))
    monkeypatch.setattr(measure, "updates", stopped)
    assert command.main() == 1
    assert seen == [["found.json"]]
    with pytest.raises(TypeError):
        files.write(out, {"never": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]
    assert out.read_text() == "earlier"
    files.write(out, {"now": 1})
    assert json.loads(out.read_text()) == {"now": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_a_place_for_a_file_is_looked_at_and_left_as_it_was(tmp_path: Path) -> None:
    files.check_out(tmp_path / "new" / "found.json")
    assert not list(tmp_path.iterdir())
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file" / "found.json"):
        with pytest.raises(OutputError, match="cannot be written: (Is|Not) a directory"):
            files.check_out(path)


def test_rows_of_earlier_files_have_no_range_of_their_own() -> None:
    row = {"env": "spread", "needed_ms": 5.0, "measured_ms": 8.0}
    (bars,) = figures.FIGURES["share_of_peak"]([copy.copy(row)])
    assert isinstance(bars, figures.Bars)
    assert bars.series["measured"] == [(8.0, 8.0, 8.0)]
