"""What is plotted, as CSV; and figures that are the same bytes each time."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from mamt_jax.analysis.seeds import over_seeds
from mamt_jax.analysis.statistics import smooth
from mamt_jax.reports.figures import Panel, figure_of
from mamt_jax.reports.plots import Figure
from mamt_jax.reports.plotted import plotted, save
from tests.reports.records import made_up


def rows(figure: Figure) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(plotted(figure))))


def panel(per_seed: bool = False) -> dict[str, Panel]:
    metrics = over_seeds(made_up({"local_kl", "nonstationarity"}))
    return {"spread": Panel({"MAAC": metrics}, None, {"MAAC": metrics} if per_seed else {})}


def test_curves_and_their_bands() -> None:
    figure, metrics = figure_of("return_mean", panel()), over_seeds(made_up(set()))
    each = smooth(metrics.return_mean.values)
    found = rows(figure)
    assert {row["curve"] for row in found} == {"MAAC"} and len(found) == each.shape[1]
    x, y, low, high = (
        np.array([float(row[name]) for row in found]) for name in ("x", "y", "low", "high")
    )
    np.testing.assert_allclose(x, metrics.episode_at_update.mean("seed"))
    mean, std = each.mean(axis=0), each.std(axis=0, ddof=1)
    for shown, computed in ((y, mean), (low, mean - std), (high, mean + std)):
        np.testing.assert_allclose(shown, computed, rtol=1e-5)


def test_a_line_for_each_seed() -> None:
    """Of what all agents have together; the made-up quantities of a seed are its number + 1."""
    found = rows(figure_of("nonstationarity_sum", panel(per_seed=True)))
    lines = [float(row["y"]) for row in found if row["curve"] == "MAAC: seed"]
    assert sorted(set(lines)) == [3.0, 6.0, 9.0, 12.0]  # three agents
    mean = [float(row["y"]) for row in found if row["curve"] == "MAAC"]
    assert set(mean) == {7.5}
    one_agent = rows(figure_of("local_kl_mean", panel(per_seed=True)))
    assert {float(row["y"]) for row in one_agent if row["curve"] == "MAAC"} == {2.5}


def test_levels_bars_and_matrices() -> None:
    figure = Figure()
    curves, bars, cells = figure.subplots(3)
    curves.plot([1, 2, 3], [4, 5, 6], label="a")
    curves.axhline(7, label="level")
    bars.bar(range(2), [1.5, np.nan], label="ours")
    bars.set_xticks(range(2), ["one", "two"])
    figure.colorbar(cells.imshow([[1, 2], [3, 4]]), ax=cells)
    found = [(row["curve"], row["x"], row["y"]) for row in rows(figure)]
    assert found == [
        *[("a", "1", "4"), ("a", "2", "5"), ("a", "3", "6"), ("level", "", "7")],
        *[("ours", "one", "1.5"), ("ours", "two", "nan")],
        *[("0", "0", "1"), ("0", "1", "2"), ("1", "0", "3"), ("1", "1", "4")],
    ]


@pytest.mark.filterwarnings("error")
def test_same_figure_same_bytes(tmp_path: Path) -> None:
    first, second = (
        save(figure_of("return_mean", panel()), tmp_path / each / "x") for each in "ab"
    )
    assert [path.name for path in first] == ["x.png", "x.svg", "x.csv"]
    for one, other in zip(first, second, strict=True):
        assert one.read_bytes() == other.read_bytes() != b""
