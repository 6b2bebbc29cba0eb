"""A figure as files: PNG, SVG, and what is plotted in it as CSV.

The numbers are read from the figure itself, so that they are those that are seen: smoothed, with
the edges of the bands. The same figure makes the same bytes, for those who keep it under version
control.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context

from mamt_jax.files import write_whole
from mamt_jax.reports.plots import Axes, Figure

DPI = 150
"""Of the PNG."""
_COLUMNS = ("panel", "curve", "x", "y", "low", "high")


def save(figure: Figure, stem: Path) -> list[Path]:
    """Writes ``stem.png``, ``stem.svg`` and ``stem.csv``.

    Args:
        figure: With curves of :mod:`mamt_jax.reports.curves`, bars, or matrices.
        stem: Path without a suffix; its folder is created if missing.

    Raises:
        OSError: A file cannot be written.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    with rc_context({"svg.hashsalt": "mamt_jax"}):
        contents = {kind: _drawn(figure, kind) for kind in ("png", "svg")}
    contents["csv"] = plotted(figure).encode()
    written = [stem.with_name(f"{stem.name}.{kind}") for kind in contents]
    for path, content in zip(written, contents.values(), strict=True):
        write_whole(path, content)
    return written


def plotted(figure: Figure) -> str:
    """What is plotted, as CSV.

    One line for each point of a curve, with the edges of its band where there is one; for each bar;
    and for each cell of a matrix, whose curve is its row, counted from 0.
    """
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for axes in figure.axes:
        if axes.get_label() == "<colorbar>":
            continue
        title = axes.get_title(loc="left").replace("\n", " ")
        for row in (*_curves(axes), *_bars(axes), *_cells(axes)):
            writer.writerow([title, *row])
    return written.getvalue()


def _drawn(figure: Figure, kind: str) -> bytes:
    content = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(content, dpi=DPI, format=kind, metadata=metadata)
    return content.getvalue()


def _curves(axes: Axes) -> Iterator[tuple[Any, ...]]:
    bands = {band.get_gid(): band for band in axes.collections if band.get_gid()}
    for line in axes.lines:
        label = line.get_gid() or line.get_label()
        x, y = (np.asarray(each, float) for each in line.get_data())
        if len(x) == 2 and x.tolist() == [0, 1] and len(axes.lines) > 1:  # a level, not a curve
            yield label, "", _short(y[0]), "", ""
            continue
        edges = _edges(bands[label], len(x)) if label in bands else [("", "")] * len(x)
        for at, value, (low, high) in zip(x, y, edges, strict=True):
            yield label, _short(at), _short(value), low, high


def _edges(band: Any, points: int) -> list[tuple[str, str]]:
    """Low and high edge of a band at every point.

    The outline of ``fill_between`` starts at a corner, goes along one edge, and comes back along
    the other.
    """
    outline = band.get_paths()[0].vertices[:, 1]
    one, other = outline[1 : points + 1], outline[points + 2 : 2 * points + 2][::-1]
    low, high = np.minimum(one, other), np.maximum(one, other)
    return [(_short(each), _short(its)) for each, its in zip(low, high, strict=True)]


def _bars(axes: Axes) -> Iterator[tuple[Any, ...]]:
    names = [label.get_text() for label in axes.get_xticklabels()]
    for container in axes.containers:
        for index, bar in enumerate(container):
            group = names[index] if index < len(names) else index
            yield container.get_label(), group, _short(bar.get_height()), "", ""


def _cells(axes: Axes) -> Iterator[tuple[Any, ...]]:
    for image in axes.images:
        values: np.ndarray = np.ma.filled(np.ma.asarray(image.get_array(), float), np.nan)
        for (row, column), value in np.ndenumerate(values):
            yield row, column, _short(value), "", ""


def _short(value: float) -> str:
    return f"{value:.6g}"
