"""Tables and figures of made-up records."""

from __future__ import annotations

from pathlib import Path

import matplotlib.colors
import matplotlib.image
import numpy as np
import pytest
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from mamt_jax import envs
from mamt_jax.analysis.seeds import over_seeds
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.experiments.paper import NAMES
from mamt_jax.experiments.references import references
from mamt_jax.quantities import QUANTITIES
from mamt_jax.reports.curves import moment_curve, panel_axes, seed_curve
from mamt_jax.reports.figures import STANDARD, Panel, draw_all, figure_of, learning_curve
from mamt_jax.reports.record import record as write_summary
from mamt_jax.reports.report import merge_references, returns_table, thresholds_table
from mamt_jax.reports.sources import open_run
from tests.reports.records import SIZES, made_up, write_run


def record(names: set[str], seeds: int = 4, points: int = 30) -> xr.Dataset:
    """Laid out as runs are opened."""
    return over_seeds(made_up(names, seeds, points))


def evaluated(metrics: xr.Dataset, every: int = 10) -> xr.Dataset:
    """The same with greedy returns at some points: 0, 1, 2, … of the first seed, 10, 11, … next."""
    points, seeds = metrics.sizes["update"], metrics.sizes["seed"]
    values = np.full((seeds, points), np.nan, np.float32)
    values[:, every - 1 :: every] = np.arange(points // every) + 10 * np.arange(seeds)[:, None]
    attrs = {"units": "reward"}
    return metrics.assign(greedy_return=(("seed", "update"), values, attrs))


def test_standard_figures_of_two_runs(tmp_path: Path) -> None:
    """Those of what is recorded; chosen ones instead, of the kind that is asked for."""
    full = over_seeds(evaluated(made_up(set(QUANTITIES), points=20)))
    runs = {"mamt": full, "maac": record({"local_kl", "entropy"}, seeds=1, points=3)}
    panels = {"spread": Panel(runs, references(make_config()))}
    files = draw_all(panels, tmp_path / "new/figures")
    names = {"return_mean": "learning_curve", "coordination_mean": "coordination"}
    assert [file.name for file in files] == [f"{names.get(name, name)}.png" for name in STANDARD]
    for file in files:
        assert file.read_bytes().startswith(b"\x89PNG")
    chosen = ["critic_grad_norm"]
    files = draw_all(panels, tmp_path / "chosen", chosen, "svg")
    assert [file.name for file in files] == [f"{name}.svg" for name in chosen]
    assert b"<svg" in files[0].read_bytes()[:1000]
    assert {file.name for file in (tmp_path / "chosen").iterdir()} == {file.name for file in files}


def test_quantities_that_nobody_has_recorded(tmp_path: Path) -> None:
    panels = {"spread": Panel({"maac": record({"entropy"}, points=3)}, None)}
    recorded = "recorded are return_mean, entropy."
    with pytest.raises(ConfigError) as unknown:
        draw_all(panels, tmp_path, ["entrpy"])
    assert str(unknown.value) == (
        f"No run has recorded 'entrpy' (did you mean 'entropy'?); {recorded}"
    )
    with pytest.raises(RunError) as known:
        draw_all(panels, tmp_path, ["entropy", "delta"])
    assert str(known.value) == f"No run has recorded 'delta'; {recorded}"
    assert not list(tmp_path.iterdir())


def test_greedy_returns_are_marks_where_they_were_played() -> None:
    """Not smoothed; runs without them are left out, and keep their colours for others."""
    played = over_seeds(evaluated(made_up(set(), seeds=2)))
    panels = {
        "spread": Panel({"maac": record(set()), "mamt": played}, references(make_config())),
        "pursuit": Panel({"maac": record(set())}, None),
    }
    figure = figure_of("greedy_return", panels)
    (axes,) = figure.axes
    curve, *levels = axes.lines
    assert curve.get_xdata().tolist() == [1000, 2000, 3000]
    assert curve.get_ydata().tolist() == [5, 6, 7]  # of 0 and 10, 1 and 11, 2 and 12
    assert curve.get_marker() == "o" and len(levels) == 3
    np.testing.assert_allclose(heights(axes), [5 - 50**0.5, 7 + 50**0.5])
    _, other = learning_curve(panels).axes[0].lines[:2]
    assert curve.get_color() == other.get_color()


def test_a_line_for_each_seed_in_the_place_of_bands() -> None:
    """Of returns and of other quantities; of records, which have no others by seed, returns."""
    raw = evaluated(made_up({"entropy", "delta"}, seeds=3))
    runs = {"mamt": over_seeds(raw)}
    panels = {"spread": Panel(runs, None, {"mamt": raw})}
    for name in ("return_mean", "greedy_return", "entropy", "delta"):
        axes = figure_of(name, panels).axes[0]
        curves = [line for line in axes.lines if not line.get_label().startswith("_")]
        assert not axes.collections and len(axes.lines) == 4 * len(curves)
        of_first = axes.lines[:3]
        assert all(line.get_linewidth() < 1 for line in of_first)
        last = [line.get_ydata()[-1] for line in of_first]
        own = raw[name][:, -1, 0] if "agent" in raw[name].dims else raw[name][:, -1]
        np.testing.assert_allclose(last, own, rtol=1e-5)
    of_record = {"spread": Panel(runs, None, {"mamt": raw[["return_mean"]]})}
    assert figure_of("entropy", of_record).axes[0].collections
    assert not figure_of("return_mean", of_record).axes[0].collections


def test_curves_of_pairs_and_heads_are_named() -> None:
    panels = {"spread": Panel({"mamt": record({"coordination_score", "attention_entropy"})}, None)}
    for name, label, ends in (
        ("coordination_score", "coordination score (standardised reward)", ["0 of 1", "2 of 1"]),
        (
            "attention_entropy",
            "attention entropy, critic (nat)",
            ["agent_0, head 0", "agent_2, head 1"],
        ),
    ):
        (axes,) = figure_of(name, panels).axes
        labels = [line.get_label() for line in axes.lines]
        assert axes.get_ylabel() == label and [labels[0], labels[-1]] == ends
        assert len(labels) == 6


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
    assert titles == ["spread, 1 seed", "spread3_sep, 1 seed", "spread3_mix, 1 or 4 seeds"]
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
    metrics = made_up({"coordination_mean"})
    values = np.zeros_like(metrics.coordination_mean.values)
    values[:, -3:] = np.arange(36).reshape(6, 6) / 100
    values[:2, -1] += 0.06  # two seeds of four, one point of three: 0.01 in the mean
    metrics["coordination_mean"] = (metrics.coordination_mean.dims, values)
    panels = {"spread": Panel({"mamt": over_seeds(metrics)}, None)}
    axes = figure_of("coordination_mean", panels).axes[0]
    expected = np.arange(36).reshape(6, 6) / 100 + 0.01
    np.testing.assert_allclose(axes.images[0].get_array(), expected, atol=1e-6)
    assert [text.get_text() for text in axes.texts][:3] == [".01", ".02", ".03"]


def moments(mean: list[float], std: list[float]) -> xr.DataArray:
    return xr.DataArray([mean, std], {"moment": ["mean", "std"]}, ("moment", "update"))


def heights(axes: Axes) -> tuple[float, float]:
    """Lowest and highest point of the only band."""
    (band,) = axes.collections
    found = band.get_paths()[0].vertices[:, 1]
    return found.min(), found.max()


def test_band_of_logarithms_stays_positive() -> None:
    """Lognormal with mean 2 and standard deviation 4: log variance log 5, median 2/√5."""
    axes, episodes = Figure().subplots(), np.array([12.0, 12, 24, 24, 24])
    moment_curve(axes, episodes, moments([2.0] * 5, [4.0] * 5), "delta", 0, logarithmic=True)
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_ydata(), [2 / 5**0.5] * 2)
    assert line.get_xdata().tolist() == [12, 24]  # one point for those between two ends of episodes
    factor = np.exp(np.log(5) ** 0.5)
    np.testing.assert_allclose(heights(axes), [2 / 5**0.5 / factor, 2 / 5**0.5 * factor])


def test_band_is_one_standard_deviation_on_both_sides() -> None:
    """Of returns and of other quantities, and always the sample's."""
    metrics = made_up({"local_kl"}, seeds=2)
    metrics["return_mean"] = metrics.return_mean * 0 + xr.DataArray([0.0, 2.0], dims="seed")
    metrics = over_seeds(metrics)
    axes, other = Figure().subplots(2)
    seed_curve(axes, np.arange(30.0), metrics.return_mean.values, "never negative", 0)
    np.testing.assert_allclose(heights(axes), [1 - 2**0.5, 1 + 2**0.5])
    values = metrics.local_kl.isel(agent=0)
    moment_curve(other, np.arange(30.0), values, "one and two", 0)
    np.testing.assert_allclose(heights(other), [1.5 - 0.5**0.5, 1.5 + 0.5**0.5])


def test_one_seed_has_no_band() -> None:
    metrics, (axes, other) = record({"delta"}, seeds=1), Figure().subplots(2)
    seed_curve(axes, np.arange(30.0), metrics.return_mean.values, "return", 0)
    moment_curve(other, np.arange(30.0), metrics.delta.isel(agent=0), "delta", 0, True)
    for each in (axes, other):
        assert len(each.lines) == 1 and not each.collections
    np.testing.assert_allclose(other.lines[0].get_ydata(), 1)


def test_records_draw_what_their_runs_draw(tmp_path: Path) -> None:
    """To the four digits that a record keeps; one path of code, so the pictures are the same."""
    run = write_run(tmp_path / "run", evaluated(made_up(set(QUANTITIES))))
    write_summary(run, tmp_path / "one.json")
    pictures = []
    chosen = ["return_mean", "greedy_return", "delta"]
    for source in (run, tmp_path / "one.json"):
        panel = Panel({"mamt": open_run(source)[1]}, None)
        files = draw_all({"spread": panel}, tmp_path / f"{source.name}-figures", chosen)
        pictures.append({file.name: matplotlib.image.imread(file) for file in files})
    assert pictures[0].keys() == pictures[1].keys() and len(pictures[0]) == 3
    for name, picture in pictures[0].items():
        np.testing.assert_allclose(picture, pictures[1][name], atol=0.1, err_msg=name)


def test_many_panels_are_in_rows() -> None:
    figure = panel_axes([f"run {i} with a name too long for its panel" for i in range(6)], "y")
    assert len(figure.axes) == 6
    rows = {round(axes.get_position().y0, 3) for axes in figure.axes}
    assert len(rows) == 2 and figure.get_size_inches()[0] < 17
    figure.draw_without_rendering()
    right = [axes.title.get_window_extent().x1 for axes in figure.axes]
    assert max(right) <= figure.bbox.width


def test_table_times_thresholds(capsys: pytest.CaptureFixture[str]) -> None:
    known = references(make_config())
    assert known is not None
    panel = Panel({"mamt": record(set()), "maac": record(set(), points=3)}, known)
    Console(width=100).print(returns_table("spread", panel), thresholds_table("spread", panel))
    text = capsys.readouterr().out
    assert "3,000" in text and "first 30/300" in text and "last 30/1,000" in text
    late, early = (text.rsplit(f"│ {name} ", 1)[1].splitlines()[0] for name in ("mamt", "maac"))
    assert "never" not in late and early.count("never (0 of 4)") == 3
    assert late.count("4 of 4: ") == 3


def test_references_are_for_the_paper_s_spread_only() -> None:
    assert references(make_config(env_options=envs.options("spread"))) is not None
    assert references(make_config(env_options={"episode_length": 50})) is None
    assert references(make_config(env_options={"num_agents": 3})) is None
    assert references(make_config(env_options={"variant": "mpe2"})) is None
    assert references(make_config(env="spread3_mix")) is None
    merged = merge_references([make_config(), make_config(algorithm="maac")])
    assert merged is not None and merged.paper == {"MAMT": -38.06, "MAAC": -43.23}
    assert merge_references([make_config(), make_config(env="spread3_mix")]) is None
