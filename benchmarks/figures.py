"""A figure for each kind of measurement: one machine in each, which it names."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.files import Machine, Rows, by_machine
from mamt_jax.errors import OutputError
from mamt_jax.reports.plots import Axes, Figure, default_style

COLOURS = {"mamt_jax": "C0", "PyTorch modules": "C1", "PyTorch batched": "C2", "original": "C1"}
COLUMNS, WIDTH, DPI = 2, 5.8, 110
"""Panels beside one another, inches of each, pixels per inch: no figure is wider than 1,276."""
BAR, FRAME = 0.2, 0.95
"""Inches of a bar's thickness, and of what is above and below the bars of a panel."""


class Span(NamedTuple):
    """A measured value, and between what it lay; without a range both ends are the value."""

    value: float
    low: float
    high: float


class Bars(NamedTuple):
    """A panel of horizontal bars from zero."""

    title: str
    label: str
    """Of the axis."""
    groups: list[str]
    series: dict[str, list[Span | None]]
    """A bar for each group; None where nothing was measured. A series without a name has the
    colours that its groups' names begin with."""


class Curves(NamedTuple):
    """A panel of curves from zero."""

    title: str
    label: str
    """Of the vertical axis; the horizontal one has seeds."""
    lines: dict[str, dict[int, Span]]
    """Of each curve, a value for each number of seeds."""


Panel = Bars | Curves


@default_style()
def draw(files: Sequence[Path], out: Path) -> None:
    """Writes a PNG for every kind of measurement in the files; several machines get a folder each.

    Raises:
      OutputError: a file cannot be read, or a picture not be written.
    """
    machines = by_machine(files, list(FIGURES))
    for machine, folder in zip(machines, _folders(machines, out), strict=True):
        for name, rows in machine.found.items():
            try:
                figure = _figure(list(FIGURES[name](rows)), machine.caption())
            except (KeyError, TypeError, AttributeError, ValueError, IndexError) as error:
                raise OutputError(f"What the files hold of {name} is no measurement.") from error
            try:
                folder.mkdir(parents=True, exist_ok=True)
                figure.savefig(folder / f"{name}.png", dpi=DPI)
            except OSError as error:
                raise OutputError(f"{folder} cannot be written: {error.strerror}.") from error
            print(folder / f"{name}.png")


def _folders(machines: Sequence[Machine], out: Path) -> list[Path]:
    """Where each machine's figures go: a machine alone needs no folder of its own."""
    if len(machines) == 1:
        return [out]
    labels: list[str] = []
    for machine in machines:
        alike = sum(label.startswith(machine.label()) for label in labels)
        labels.append(machine.label() + (f"-{alike + 1}" if alike else ""))
    return [out / label for label in labels]


def _figure(panels: Sequence[Panel], caption: str) -> Figure:
    """Panels in rows of two, all of a row equally high, and below them where it was measured."""
    columns = min(COLUMNS, len(panels))
    rows = [panels[i : i + columns] for i in range(0, len(panels), columns)]
    heights = [max(_height(panel) for panel in row) for row in rows]
    width = WIDTH * columns
    figure = Figure(figsize=(width, sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(rows), columns, height_ratios=heights)
    ranges = False
    for index, panel in enumerate(panels):
        ax = figure.add_subplot(grid[divmod(index, columns)])
        ax.set_title(panel.title, fontsize=10)
        ranges |= _bars(ax, panel) if isinstance(panel, Bars) else _curves(ax, panel)
    if ranges:
        caption += ". Median of the turns, and from the fastest to the slowest"
    figure.supxlabel(textwrap.fill(f"{caption}.", int(width * 16)), fontsize=8)
    return figure


def _height(panel: Panel) -> float:
    if isinstance(panel, Curves):
        return 3.4
    return FRAME + BAR * len(panel.groups) * (len(panel.series) + 0.7)


def _bars(ax: Axes, panel: Bars) -> bool:
    """Bars side by side, those of a series in one colour. Returns whether any has a range."""
    thick = 0.8 / len(panel.series)
    far, ranges = 0.0, False
    for index, (name, spans) in enumerate(panel.series.items()):
        shift = (index - (len(panel.series) - 1) / 2) * thick
        drawn = [(at + shift, span) for at, span in enumerate(spans) if span is not None]
        kinds = [name] if name else [group.split(",")[0] for group in panel.groups]
        colours = [COLOURS.get(kind, f"C{index + 4}") for kind in kinds]
        values = [span.value for _, span in drawn]
        ax.barh([at for at, _ in drawn], values, thick, label=name, color=colours)
        scattered = [(at, span) for at, span in drawn if span.high > span.low]
        if scattered:
            middle, ends = [span.value for _, span in scattered], _reach([s for _, s in scattered])
            where = [at for at, _ in scattered]
            ax.errorbar(middle, where, xerr=ends, fmt="none", ecolor="0.2", capsize=2, lw=1)
            ranges = True
        for at, span in drawn:
            ax.annotate(
                _number(span.value), (span.high, at), xytext=(4, 0), textcoords="offset points",
                va="center", fontsize=7,
            )  # fmt: skip
        far = max([far, *(span.high for _, span in drawn)])
    ax.set_yticks(range(len(panel.groups)), panel.groups, fontsize=8)
    ax.set_ylim(len(panel.groups) - 0.5, -0.5)  # the first above
    ax.set_xlim(0, 1.15 * far)
    ax.set_xlabel(panel.label, fontsize=8)
    ax.tick_params(axis="x", labelsize=8)
    if len(panel.series) > 1:
        ax.legend(fontsize=7)
    return ranges


def _curves(ax: Axes, panel: Curves) -> bool:
    """A curve for each line. Returns whether any point has a range."""
    far, ranges = 0.0, False
    for name, points in panel.lines.items():
        spans = list(points.values())
        values = [span.value for span in spans]
        scattered = any(span.high > span.low for span in spans)
        ends = _reach(spans) if scattered else None
        ax.errorbar(list(points), values, yerr=ends, fmt="o-", ms=4, capsize=2, label=name)
        ranges |= scattered
        far = max([far, *(span.high for span in spans)])
    seeds = sorted({count for points in panel.lines.values() for count in points})
    ax.set_xscale("log", base=2)
    ax.set_xticks(seeds, [str(count) for count in seeds], fontsize=8)
    ax.set_ylim(0, 1.1 * far)
    ax.set_xlabel("seeds", fontsize=8)
    ax.set_ylabel(panel.label, fontsize=8)
    ax.tick_params(axis="y", labelsize=8)
    ax.legend(fontsize=7)
    return ranges


def _reach(spans: Sequence[Span]) -> list[list[float]]:
    """How far each lies below and above its value, as matplotlib's error bars want it."""
    below = [span.value - span.low for span in spans]
    return [below, [span.high - span.value for span in spans]]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"


def _span(ms: dict[str, float], unit: float = 1.0) -> Span:
    return Span(ms["median"] * unit, ms["min"] * unit, ms["max"] * unit)


def _exact(value: float) -> Span:
    """A value without a range."""
    return Span(value, value, value)


def _grouped(rows: Rows, *names: str) -> dict[tuple[Any, ...], Rows]:
    """Rows by what they say of these names."""
    groups: dict[tuple[Any, ...], Rows] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


def _one_each(rows: Rows, name: str) -> Rows:
    """The last row of each name, those that compare with PyTorch first."""
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: bool(row.get("torch"))):
        found[row[name]] = row
    return [found[key] for key in dict.fromkeys(row[name] for row in rows)]


def _updates(rows: Rows) -> Iterator[Panel]:
    """An environment's algorithms in each panel, and how many seeds make them slower."""
    label = "ms per update and seed"
    for (env, batch), mine in _grouped(rows, "env", "batch_size").items():
        mine = _one_each(mine, "algorithm")
        ours: list[Span | None] = [_span(list(row["mamt_jax"].values())[-1]) for row in mine]
        series = {"mamt_jax": ours}
        for idiom in dict.fromkeys(idiom for row in mine for idiom in row["torch"]):
            found = [row["torch"].get(idiom) for row in mine]
            series[f"PyTorch {idiom}"] = [None if ms is None else _span(ms) for ms in found]
        against = "" if len(series) > 1 else ": mamt_jax"
        groups = [row["algorithm"] for row in mine]
        yield Bars(f"{env}, batch {batch:,}{against}", label, groups, series)
    curves = [row for row in rows if len(row["mamt_jax"]) > 1]
    for (env, batch), mine in _grouped(curves, "env", "batch_size").items():
        lines = {
            row["algorithm"]: {int(count): _span(ms) for count, ms in row["mamt_jax"].items()}
            for row in mine
        }
        yield Curves(f"{env}, batch {batch:,}: mamt_jax by seeds", label, lines)


def _training(rows: Rows) -> Iterator[Panel]:
    for row in rows:
        hours = row["hours_of_the_paper"]
        unit = hours["mamt_jax"] / row["ms_per_step"]["mamt_jax"]["median"]
        spans: dict[str, Span | None] = {
            name: _span(row["ms_per_step"][name], unit) if name in row["ms_per_step"] else _exact(h)
            for name, h in hours.items()
        }
        label = "hours for 8 seeds of 10,000 episodes"
        groups = [
            f"PyTorch {name}\n(in its turns mamt_jax is {row['speedup'][name]:.2f} x as fast)"
            if name in row["speedup"]
            else name
            for name in spans
        ]
        title = f"{row['algorithm']} on spread"
        yield Bars(title, label, groups, {"": list(spans.values())})


def _share(rows: Rows) -> Iterator[Panel]:
    rows = _one_each(rows, "env")
    series: dict[str, list[Span | None]] = {
        "needed at the matrix peak": [_exact(row["needed_ms"]) for row in rows],
        "measured": [_between(row, "measured_ms", "fastest_ms", "slowest_ms") for row in rows],
    }
    yield Bars("maac", "ms per update and seed", [row["env"] for row in rows], series)


def _environments(rows: Rows) -> Iterator[Panel]:
    names = {
        "mamt_jax": ("steps_per_second", "slowest", "fastest"),
        "original": ("original_steps_per_second", "original_slowest", "original_fastest"),
    }
    for row in rows:
        here = {name: keys for name, keys in names.items() if keys[0] in row}
        title = f"{row['environment']}, {row['num_envs']:,} copies"
        spans: list[Span | None] = [_between(row, *keys) for keys in here.values()]
        yield Bars(title, "environment steps per second", list(here), {"": spans})


def _between(row: dict[str, Any], value: str, low: str, high: str) -> Span:
    """A value of a row with its range, where files of earlier versions have one."""
    return Span(row[value], row.get(low) or row[value], row.get(high) or row[value])


def _compile(rows: Rows) -> Iterator[Panel]:
    for (env,), mine in _grouped(rows, "env").items():
        series: dict[str, list[Span | None]] = {
            "empty cache": [_exact(row["cold"]) for row in mine],
            "full cache": [_exact(row["cached"]) for row in mine],
        }
        label = "seconds until the first logging point"
        yield Bars(env, label, [row["algorithm"] for row in mine], series)


def _memory(rows: Rows) -> Iterator[Panel]:
    for (env,), mine in _grouped(rows, "env").items():
        lines = {}
        for (algorithm, size), some in _grouped(mine, "algorithm", "buffer_size").items():
            name = f"{algorithm}, no replay" if size is None else f"{algorithm}, replay {size:,}"
            lines[name] = {row["seeds"]: _exact(row["peak_mib"]) for row in some}
        yield Curves(f"training on {env}", "peak memory, MiB", lines)


FIGURES: dict[str, Callable[[Rows], Iterator[Panel]]] = {
    "updates": _updates,
    "training": _training,
    "share_of_peak": _share,
    "environments": _environments,
    "compile": _compile,
    "memory": _memory,
}
