"""Tables of runs for other programs: CSV, JSON and LaTeX.

CSV and JSON hold numbers as they are, NaN as nothing; LaTeX what ``mamt report`` shows.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping
from typing import Any

import xarray as xr
from rich.table import Table

from mamt_jax.analysis.returns import first_and_last, windows
from mamt_jax.reports.figures import Panel
from mamt_jax.reports.texts import passing

_ESCAPED = {each: f"\\{each}" for each in "&%$#_{}"}
_ESCAPED |= {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_ESCAPED |= {"±": r"$\pm$", "<": "$<$", ">": "$>$", "|": r"\textbar{}"}


def as_csv(panels: Mapping[str, Panel]) -> str:
    """One line for each run; thresholds that a task does not have are empty."""
    lines = []
    for task, panel in panels.items():
        for label, metrics in panel.runs.items():
            line = {"task": task, "run": label, **_numbers(metrics)}
            for level, each in _thresholds(metrics, panel).items():
                line |= {
                    f"episodes_to_{level}": each["episodes"],
                    f"seeds_to_{level}": each["seeds"],
                }
            lines.append(line)
    written = io.StringIO()
    names = dict.fromkeys(name for line in lines for name in line)
    writer = csv.DictWriter(written, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return written.getvalue()


def as_json(panels: Mapping[str, Panel]) -> str:
    """A list of tasks, each with its runs and with levels to compare them with."""
    tasks = []
    for task, panel in panels.items():
        runs = [
            {"run": label, **_numbers(metrics), "thresholds": _thresholds(metrics, panel)}
            for label, metrics in panel.runs.items()
        ]
        known = panel.references
        levels = {"measured": known.measured, "paper": known.paper} if known else None
        tasks.append({"task": task, "references": levels, "runs": runs})
    return json.dumps(tasks, indent=2, ensure_ascii=False) + "\n"


def as_latex(tables: list[Table]) -> str:
    """A ``tabular`` for each table, with the rules of ``booktabs``; titles are comments."""
    return "\n".join(map(_tabular, tables))


def _numbers(metrics: xr.Dataset) -> dict[str, Any]:
    """Returns of a run over its seeds."""
    sizes = dict(zip(("first", "last"), windows(metrics), strict=True))
    found: dict[str, Any] = {
        "seeds": metrics.sizes["seed"],
        "diverged": len(metrics.attrs.get("diverged", ())),
        "episodes": metrics.episodes.sum("event").mean().item(),
    }
    for share, summary in zip(("first", "last"), first_and_last(metrics), strict=True):
        found[f"{share}_episodes"] = sizes[share]
        for name, value in summary._asdict().items():
            found[f"{share}_{name}"] = value if math.isfinite(value) else None
    return found


def _thresholds(metrics: xr.Dataset, panel: Panel) -> dict[str, dict[str, Any]]:
    """By level: episodes until the mean over seeds stays above it, and how many seeds do."""
    found = {}
    for level in panel.references.thresholds if panel.references else ():
        mean, each = passing(metrics, level)
        reached = sum(episodes is not None for episodes in each)
        found[f"{level:g}"] = {"episodes": mean, "seeds": reached}
    return found


def _tabular(table: Table) -> str:
    columns = [[str(column.header), *map(str, column.cells)] for column in table.columns]
    header, *rows = ([_latex(cell) for cell in row] for row in zip(*columns, strict=True))
    kinds = "".join("r" if column.justify == "right" else "l" for column in table.columns)
    lines = [f"% {text}" for text in (table.title, table.caption) if text]
    lines += [r"% \usepackage{booktabs}", rf"\begin{{tabular}}{{{kinds}}}", r"\toprule"]
    lines += [_row(header), r"\midrule"]
    for cells, row in zip(rows, table.rows, strict=True):
        lines.append(_row(cells))
        if row.end_section and row is not table.rows[-1]:
            lines.append(r"\midrule")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _row(cells: list[str]) -> str:
    return " & ".join(cells) + r" \\"


def _latex(text: str) -> str:
    """A cell as LaTeX reads it: minus signs, and no bracket where one would be an argument."""
    escaped = "".join(_ESCAPED.get(each, each) for each in text)
    signed = re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)
    return f"{{}}{signed}" if signed.startswith("[") else signed
