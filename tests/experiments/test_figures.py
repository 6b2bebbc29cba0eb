"""Tables and figures of made-up records."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import matplotlib.colors
import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure
from rich.console import Console

import envs
from experiments.figures import Panel, _coordination_matrices, _curve, draw_all, learning_curve
from experiments.paper import NAMES
from experiments.references import references
from experiments.report import merge_references, returns_table, thresholds_table
from mamt_jax.config import make_config
from mamt_jax.training.metrics import QUANTITIES, Recorder

SIZES = {"agent": 3, "opponent": 3, "head": 2}


def record(names: set[str], seeds: int = 4, points: int = 30) -> xr.Dataset:
    """Returns that rise from −67 to about −37, and ones for every other quantity."""
    recorder = Recorder(list(range(seeds)), updates_per_event=4)
    for point in range(points):
        metrics = {
            name: np.ones((seeds, 2, 4, *(SIZES[dim] for dim in QUANTITIES[name].dims)))
            for name in names
        }
        level = -37 - 30 * np.exp(-point / 5) + np.arange(seeds) / 10
        returns = np.repeat(level[:, None], 2, axis=1)
        recorder.append(
            SimpleNamespace(
                metrics=metrics,
                updated=np.full(2, point > 0),
                return_sum=returns * 50,
                episodes=np.full((seeds, 2), 50),
            )
        )
    return recorder.to_dataset()


def test_all_figures_of_two_runs(tmp_path: Path) -> None:
    runs = {"mamt": record(set(QUANTITIES)), "maac": record({"local_kl", "entropy"}, seeds=1)}
    panels = {"spread": Panel(runs, references(make_config()))}
    files = draw_all(panels, tmp_path / "new/figures")
    assert sorted(file.name for file in files) == [
        "coordination.png",
        "delta.png",
        "learning_curve.png",
        "local_kl.png",
        "nonstationarity.png",
    ]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")


def test_learning_curve_shows_what_was_recorded() -> None:
    metrics = record(set())
    panel = Panel({"mamt": metrics}, references(make_config()))
    (axes,) = learning_curve({"spread": panel}).axes
    assert axes.get_title("left") == "spread, 4 seeds"
    curve, *levels = axes.lines
    assert curve.get_xdata()[-1] == 3000
    np.testing.assert_allclose(curve.get_ydata()[-1], -37 + 0.15, atol=0.5)
    assert [line.get_ydata()[0] for line in levels] == [-67.0, -35.8, -38.06]


def test_one_panel_per_environment() -> None:
    """A label keeps its style in every panel, and is once in the legend, before the levels."""
    one, four = record(set(), seeds=1), record(set())
    panels = {
        "spread": Panel({"maac": one}, references(make_config(algorithm="maac"))),
        "spread3_sep": Panel({"mamd": one, "maac": one}, None),
        "spread3_mix": Panel({"mamd": four, "mamt": one}, None),
    }
    figure = learning_curve(panels)
    titles = [axes.get_title("left") for axes in figure.axes]
    assert titles == ["spread, 1 seed", "spread3_sep, 1 seed", "spread3_mix, 1/4 seeds"]
    styles: dict[str, set[tuple[str, str]]] = {}
    for axes in figure.axes:
        for line in axes.lines:
            style = (matplotlib.colors.to_hex(line.get_color()), line.get_linestyle())
            styles.setdefault(line.get_label(), set()).add(style)
    assert all(len(found) == 1 for found in styles.values())
    assert len({*styles["maac"], *styles["mamd"], *styles["mamt"]}) == 3
    (legend,) = figure.legends
    shown = [text.get_text() for text in legend.get_texts()]
    assert shown[:3] == ["maac", "mamd", "mamt"]
    assert shown[3:] == ["random (-67)", "greedy (-35.8)", "paper's MAAC (-43.23)"]


def test_ten_algorithms_in_one_panel() -> None:
    """Ten colours, faint bands, and no lines of the paper's ten levels."""
    runs = {name: record(set(), points=3) for name in NAMES}
    known = merge_references([make_config(algorithm=name) for name in NAMES])
    assert known is not None and len(known.paper) == 10
    (axes,) = learning_curve({"spread": Panel(runs, known)}).axes
    curves, levels = axes.lines[:10], axes.lines[10:]
    assert len({curve.get_color() for curve in curves}) == 10
    assert [level.get_label() for level in levels] == ["random (-67)", "greedy (-35.8)"]
    assert max(band.get_alpha() for band in axes.collections) < 0.1


def test_long_labels_leave_the_axes_their_size() -> None:
    sizes = []
    for long in ("", " (as long as a path may well be, and then a little longer)"):
        runs = {f"{name}{long}": record(set(), points=3) for name in "abcde"}
        figure = learning_curve({"spread": Panel(runs, None)})
        figure.draw_without_rendering()
        box = figure.axes[0].get_window_extent()
        sizes.append([box.width / figure.dpi, box.height / figure.dpi])
        legend = figure.legends[0].get_window_extent()
        assert legend.x0 >= 0 and legend.x1 <= figure.bbox.width and legend.y1 < box.y0
    np.testing.assert_allclose(*sizes, rtol=0.05)
    assert sizes[0][0] > 6 and sizes[0][1] > 3


def test_many_agents_coordinate_in_a_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mean over seeds and the last tenth of the run, as a picture and as numbers."""
    monkeypatch.setitem(SIZES, "agent", 6)
    monkeypatch.setitem(SIZES, "opponent", 6)
    metrics = record({"coordination_mean"})
    values = np.zeros_like(metrics.coordination_mean.values)
    values[:, -3:] = np.arange(36).reshape(6, 6) / 100
    values[:2, -1] += 0.06  # two seeds of four, one point of three: 0.01 in the mean
    metrics["coordination_mean"] = (metrics.coordination_mean.dims, values)
    axes = _coordination_matrices({"mamt": metrics}).axes[0]
    expected = np.arange(36).reshape(6, 6) / 100 + 0.01
    np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
    assert [text.get_text() for text in axes.texts][:3] == [".01", ".02", ".03"]


def test_band_of_logarithms_stays_positive() -> None:
    levels = np.array([[0.1] * 5, [10.0] * 5])
    episodes = (("seed", "update"), np.tile([12.0, 12, 24, 24, 24], (2, 1)))
    coords = {"episode_at_update": episodes}
    values = xr.DataArray(levels, dims=("seed", "update"), coords=coords)
    axes = Figure().subplots()
    _curve(axes, values, "delta", 0, logarithmic=True)
    (line,), (band,) = axes.lines, axes.collections
    np.testing.assert_allclose(line.get_ydata(), [1, 1])
    assert line.get_xdata().tolist() == [12, 24]  # one point for those between two ends of episodes
    heights = band.get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([heights.min(), heights.max()], [10 ** -(2**0.5), 10 ** (2**0.5)])


def test_band_is_one_standard_deviation_on_both_sides() -> None:
    episodes = ("update", np.arange(5.0))
    values = xr.DataArray(
        np.outer([0, 2], np.ones(5)), {"episode_at_update": episodes}, ("seed", "update")
    )
    values = values.assign_coords(episode_at_update=values.episode_at_update.expand_dims(seed=2))
    axes = Figure().subplots()
    _curve(axes, values, "never negative", 0)
    band = axes.collections[0].get_paths()[0].vertices[:, 1]
    np.testing.assert_allclose([band.min(), band.max()], [1 - 2**0.5, 1 + 2**0.5])


def test_table_times_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    known = references(make_config())
    assert known is not None
    panel = Panel({"mamt": record(set()), "maac": record(set(), points=3)}, known)
    Console(width=100).print(returns_table("spread", panel), thresholds_table("spread", panel))
    text = capsys.readouterr().out
    assert "3,000" in text and "first 30/300" in text and "last 30/1,000" in text
    late, early = (text.rsplit(f"│ {name} ", 1)[1].splitlines()[0] for name in ("mamt", "maac"))
    assert "never" not in late and early.count("never") == 3


def test_references_are_for_the_paper_s_spread_only() -> None:
    assert references(make_config(env_options=envs.options("spread"))) is not None
    assert references(make_config(env_options={"episode_length": 50})) is None
    assert references(make_config(env_options={"num_agents": 3})) is None
    assert references(make_config(env_options={"variant": "mpe2"})) is None
    assert references(make_config(env="spread3_mix")) is None
    merged = merge_references([make_config(), make_config(algorithm="maac")])
    assert merged is not None and merged.paper == {"MAMT": -38.06, "MAAC": -43.23}
    assert merge_references([make_config(), make_config(env="spread3_mix")]) is None
