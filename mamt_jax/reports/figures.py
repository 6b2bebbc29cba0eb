"""Figures of recorded runs, as PNG or SVG files: one for each quantity.

Every curve is a mean over seeds, shaded by their sample standard deviation where there are several,
or with a thin line for each seed. Metrics are laid out as
:func:`~mamt_jax.analysis.seeds.over_seeds` does it: returns are smoothed by seed, of other
quantities mean and deviation are, and so run directories and records look the same.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import xarray as xr

from mamt_jax.errors import ConfigError, RunError, close_to
from mamt_jax.experiments.references import References
from mamt_jax.files import write_whole
from mamt_jax.quantities import QUANTITIES
from mamt_jax.reports.curves import (
    DASHES,
    MAX_COLUMNS,
    episodes,
    evaluated_curve,
    finish,
    log_scale,
    moment_curve,
    panel_axes,
    plain,
    seed_curve,
)
from mamt_jax.reports.plots import Axes, Figure, default_style
from mamt_jax.training.metrics import DERIVED

_GREYS = {"random": "#999999", "greedy": "#444444"}
_DPI = 150
_MAX_PAIRED = 4  # agents whose pairs are drawn as curves
_MAX_LEVELS = 3  # of the paper, drawn as lines; more would hide the curves
_MAX_BANDS = 5  # at full strength; more would hide the curves, too
_LOGARITHMIC = ("critic_loss", "delta", "trd_loss")
_FILES = {"return_mean": "learning_curve", "coordination_mean": "coordination"}
"""Names of files that are not those of their quantities."""
_TEXTS = {
    "return_mean": ("Return", "return per episode (mean over agents)"),
    "greedy_return": ("Greedy return", "return of greedy episodes (mean over agents)"),
    "entropy": ("Policy entropy", "H(πᵢ) (nat)"),
    "delta": ("Local trust regions", "δᵢ (nat)"),
    "local_kl": ("Local KL to the old policy", "KL(πᵢ ‖ πᵢ,old) (nat)"),
    "nonstationarity": ("Modelled non-stationarity", "Dᵢ,ns (nat)"),
    "coordination_mean": ("Coordination coefficients", "Cᵢⱼ"),
}
"""Title and label of the axis, where they are not made of the quantity's name and unit."""
STANDARD = (
    "return_mean",
    "greedy_return",
    "critic_loss",
    "policy_loss",
    "entropy",
    "delta",
    "local_kl",
    "nonstationarity",
    "coordination_mean",
)
"""What is drawn, where it was recorded, if nothing is chosen."""
KINDS = ("png", "svg")
"""Kinds of files."""


class Panel(NamedTuple):
    """Runs on one task, see :func:`mamt_jax.reports.tasks.task`."""

    runs: dict[str, xr.Dataset]
    """Metrics by label; runs of one label look alike in every panel."""
    references: References | None
    """Levels to compare returns with, if there are any for this task."""
    by_seed: Mapping[str, xr.Dataset] = {}
    """Metrics ``[seed, update, ...]`` of the runs whose seeds are to have a line each."""


class _Drawn(NamedTuple):
    """A run in one of the panels of a figure."""

    metrics: xr.Dataset
    by_seed: xr.Dataset | None

    def seeds(self, name: str, **which: int) -> np.ndarray | None:
        """Values of each seed ``[S, T]``, if they are to be drawn and are known."""
        if self.by_seed is None or name not in self.by_seed:
            return None
        found: np.ndarray = self.by_seed[name].isel(which).values
        return found


@default_style()
def draw_all(
    panels: Mapping[str, Panel],
    directory: Path,
    quantities: Sequence[str] = (),
    kind: str = "png",
) -> list[Path]:
    """Draws a figure for each quantity.

    Args:
        panels: By task, one panel each for what is one number per run; elsewhere one for every run.
        directory: Where the files go; created if missing.
        quantities: Which; those of :data:`STANDARD` that are recorded, by default.
        kind: One of :data:`KINDS`.

    Returns:
        The files written, each of them by renaming: whoever looks sees the old or the new one.

    Raises:
        RunError: No run has recorded a quantity that is asked for.
        ConfigError: Nor is there one of that name.
    """
    recorded = list(_recorded(panels))
    for name in quantities:
        if name not in recorded:
            known = name in QUANTITIES or name in DERIVED  # and may yet come, in a run that goes on
            text = f"No run has recorded {name!r}{'' if known else close_to(name, recorded)}"
            error = RunError if known else ConfigError
            raise error(f"{text}; recorded are {', '.join(recorded)}.")
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name in dict.fromkeys(quantities) if quantities else STANDARD:
        if name in recorded:
            path = directory / f"{_FILES.get(name, name)}.{kind}"
            content = io.BytesIO()
            figure_of(name, panels).savefig(content, dpi=_DPI, format=kind)
            write_whole(path, content.getvalue())
            written.append(path)
    return written


def _recorded(panels: Mapping[str, Panel]) -> dict[str, xr.DataArray]:
    """Quantities that can be drawn, by name, as one of the runs has them."""
    found: dict[str, xr.DataArray] = {}
    for panel in panels.values():
        for metrics in panel.runs.values():
            for name, values in metrics.items():
                if "update" in values.dims:
                    found.setdefault(str(name), values)
    return found


def figure_of(name: str, panels: Mapping[str, Panel]) -> Figure:
    """A quantity of all runs that have it; one of them does."""
    dims = [dim for dim in _recorded(panels)[name].dims if dim not in ("moment", "seed", "update")]
    if not dims:
        return _one_number(name, panels)
    runs = {
        label if len(panels) == 1 else f"{label}, {task}": _Drawn(metrics, panel.by_seed.get(label))
        for task, panel in panels.items()
        for label, metrics in panel.runs.items()
        if name in metrics
    }
    sharey = len(panels) == 1 and name != "policy_loss"  # which each algorithm has in its own unit
    if "opponent" in dims:
        few = all(run.metrics.sizes["agent"] <= _MAX_PAIRED for run in runs.values())
        if not few:
            return _matrices(name, runs)
    return _many_numbers(name, runs, sharey)


def learning_curve(panels: Mapping[str, Panel]) -> Figure:
    """Return against episodes, one curve per run, with the reference levels as lines."""
    return _one_number("return_mean", panels)


def _one_number(name: str, tasks: Mapping[str, Panel]) -> Figure:
    """One curve per run, one panel per task; returns with the reference levels as lines."""
    labels = list(dict.fromkeys(label for panel in tasks.values() for label in panel.runs))
    having = {
        task: panel._replace(runs={k: run for k, run in panel.runs.items() if name in run})
        for task, panel in tasks.items()
    }
    having = {task: panel for task, panel in having.items() if panel.runs}
    titles = [f"{task}, {_seeds(panel.runs)}" for task, panel in having.items()]
    figure = panel_axes(titles, _texts(name, _recorded(tasks)[name].attrs)[1], sharey=False)
    for axes, panel in zip(figure.axes, having.values(), strict=True):
        for label, metrics in panel.runs.items():
            drawn = _Drawn(metrics, panel.by_seed.get(label))
            _line(axes, name, drawn, plain(label), labels.index(label))
        _fade(axes, _MAX_BANDS)
        if panel.references and name in ("return_mean", "greedy_return"):
            _levels(axes, panel.references)
        if name in _LOGARITHMIC:
            log_scale(axes)
    return finish(figure, list(map(plain, labels)), smoothed=name != "greedy_return")


def _fade(axes: Axes, most: int) -> None:
    """Makes bands faint where they are more than ``most``."""
    if len(axes.collections) > most:
        for band in axes.collections:
            band.set_alpha(0.07)


def _line(axes: Axes, name: str, drawn: _Drawn, label: str, index: int) -> None:
    metrics, seeds = drawn.metrics, drawn.seeds(name)
    if "seed" in metrics[name].dims:
        values, each = metrics[name].values, drawn.by_seed is not None
        seed_curve(axes, episodes(metrics), values, label, index, by_seed=each)
    elif name == "greedy_return":
        evaluated_curve(axes, episodes(metrics), metrics[name], label, index, seeds)
    else:
        logarithmic = name in _LOGARITHMIC
        moment_curve(axes, episodes(metrics), metrics[name], label, index, logarithmic, seeds)


def _levels(axes: Axes, references: References) -> None:
    levels = references.measured
    if len(references.paper) <= _MAX_LEVELS:
        levels = levels | {f"paper's {name}": level for name, level in references.paper.items()}
    for index, (name, level) in enumerate(levels.items()):
        style, colour = DASHES[1 + index % 3], _GREYS.get(name, "#CC79A7")
        axes.axhline(level, linestyle=style, color=colour, label=f"{name} ({level:g})", lw=1.2)


def _seeds(runs: Mapping[str, xr.Dataset]) -> str:
    sizes = sorted({metrics.sizes["seed"] for metrics in runs.values()})
    return f"{' or '.join(map(str, sizes))} seed{'' if sizes == [1] else 's'}"


def _texts(name: str, attrs: Mapping[str, str]) -> tuple[str, str]:
    """Title of a quantity with these attributes, and label of its axis."""
    if name in _TEXTS:
        return _TEXTS[name]
    called, unit = attrs.get("long_name", name), attrs.get("units", "1")
    return called[0].upper() + called[1:], called if unit == "1" else f"{called} ({unit})"


def _many_numbers(name: str, runs: Mapping[str, _Drawn], sharey: bool) -> Figure:
    """One panel per run, and in it a curve for each agent, pair of agents, or agent and head."""
    first, *others = runs
    title, label = _texts(name, runs[first].metrics[name].attrs)
    figure = panel_axes([f"{title}: {first}", *others], label, sharey)
    logarithmic = name in _LOGARITHMIC
    for axes, run in zip(figure.axes, runs.values(), strict=True):
        values = run.metrics[name]
        for index, (text, which) in enumerate(_entries(values)):
            one, seeds = values.isel(which), run.seeds(name, **which)
            moment_curve(axes, episodes(run.metrics), one, text, index, logarithmic, seeds)
        _fade(axes, 2 * _MAX_BANDS)
        if logarithmic:
            log_scale(axes)
        if name == "coordination_mean":
            axes.set_ylim(-0.03, 1.03)
    return finish(figure)


def _entries(values: xr.DataArray) -> Iterator[tuple[str, dict[str, int]]]:
    """Every curve of a quantity: how the legend calls it, and where its values are."""
    dims = [str(dim) for dim in values.dims if dim not in ("moment", "update")]
    for index in np.ndindex(*(values.sizes[dim] for dim in dims)):
        which = dict(zip(dims, index, strict=True))
        if "opponent" in which:
            i, j = which["agent"], which["opponent"]
            if i != j:
                symbol = "C" if values.name == "coordination_mean" else ""
                yield f"${symbol}_{{{i},{j}}}$" if symbol else f"{i} of {j}", which
            continue
        texts = []
        for dim, i in which.items():
            known = dim == "agent" and dim in values.coords  # old records do not have the names
            texts.append(plain(str(values[dim].values[i])) if known else f"{dim} {i}")
        yield ", ".join(texts), which


def _matrices(name: str, runs: Mapping[str, _Drawn]) -> Figure:
    """All pairs in the last tenth of each run: more curves than these nobody could tell apart."""
    first, *others = runs
    title, _ = _texts(name, runs[first].metrics[name].attrs)
    short = "C" if name == "coordination_mean" else title
    figure = panel_axes([f"{short}, last tenth: {first}", *others], "agent i", sharey=False)
    columns = min(len(runs), MAX_COLUMNS)
    figure.set_size_inches(0.8 + 4.6 * columns, 4.2 * -(-len(runs) // columns))
    for axes, run in zip(figure.axes, runs.values(), strict=True):
        late = run.metrics[name].isel(update=slice(-(-run.metrics.sizes["update"] * 9 // 10), None))
        mean = late.sel(moment="mean").mean("update").values
        low = min(0.0, np.nanmin(mean, initial=0.0))
        image = axes.imshow(mean, cmap="viridis", vmin=low)
        for (i, j), value in np.ndenumerate(mean):
            light = value < low + 0.6 * (np.nanmax(mean) - low)
            text = f"{value:.2f}".replace("0.", ".", 1) if abs(value) < 1 else f"{value:.3g}"
            axes.text(j, i, text, ha="center", va="center", color="w" if light else "k", size=8)
        axes.set_xlabel("opponent j")
        axes.set_xticks(range(len(mean)))
        axes.set_yticks(range(len(mean)))
        figure.colorbar(image, ax=axes, shrink=0.85)
    return figure
