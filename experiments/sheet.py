"""What is shown: tables of texts, for the terminal, as Markdown and as CSV; and figures."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

from rich.table import Table

from mamt_jax.reports.plots import Figure

NONE = "–"
"""In a cell that has nothing to say."""


class Sheet(NamedTuple):
    """A table as text."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    caption: str = ""


class Shown(NamedTuple):
    """What is made of recorded runs."""

    sheets: list[Sheet]
    figures: dict[str, Figure]
    """By the stem of their files."""


def to_rich(sheet: Sheet) -> Table:
    """For the terminal."""
    shown = Table(title=sheet.title, caption=sheet.caption or None)
    for index, name in enumerate(sheet.columns):
        shown.add_column(name, justify="right" if index else "left", no_wrap=not index)
    for row in sheet.rows:
        shown.add_row(*row)
    return shown


def to_markdown(sheet: Sheet) -> str:
    """As a table of GitHub's Markdown, between a line with the title and one with the caption."""
    rules = ["---:" if _numbers(column) else "---" for column in zip(*sheet.rows, strict=True)]
    rules = rules or ["---"] * len(sheet.columns)
    lines = [" | ".join(row) for row in (sheet.columns, rules, *sheet.rows)]
    table = [f"| {line} |" for line in lines]
    caption = ["", sheet.caption] if sheet.caption else []
    return "\n".join([f"{sheet.title}:", "", *table, *caption, ""])


def _numbers(cells: Sequence[str]) -> bool:
    """Whether a column holds numbers, and so is set to the right."""
    return all(re.match(r"[-+−]?\d|[–]$|never", cell) for cell in cells)


def to_csv(sheet: Sheet) -> str:
    """As CSV, with the texts as they are."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(sheet.columns)
    writer.writerows(sheet.rows)
    return written.getvalue()
