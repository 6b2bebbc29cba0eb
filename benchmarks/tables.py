"""Measurements as tables to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from mamt_jax.reports.texts import counted


def show(found: dict[str, Any], console: Console | None = None) -> None:
    """Prints a table of everything that was found."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=150)
    machine = found["hardware"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    where = f"{machine['processor']}, {counted(machine['cores'], 'core')}, {machine['device']}"
    console.print(f"{where}; {versions}")
    for name, rows in found.items():
        if name in TABLES and rows:
            console.print(TABLES[name](rows))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _spread(ms: dict[str, float]) -> str:
    return f"{ms['median']:.1f} ({ms['min']:.1f} to {ms['max']:.1f})"


def _updates(rows: list[dict[str, Any]]) -> Table:
    seeds = list(rows[0]["mamt_jax"])
    idioms = list(dict.fromkeys(i for row in rows for i in (*row["torch"], *row["left_out"])))
    columns = ["shape", "algorithm", *(f"mamt_jax, {counted(number, 'seed')}" for number in seeds)]
    columns += [f"PyTorch {idiom}" for idiom in idioms] + [f"x {idiom}" for idiom in idioms]
    lines = [
        [row["env"], row["algorithm"]]
        + [_spread(row["mamt_jax"][number]) for number in seeds]
        + [_threads(row["torch"][i]) if i in row["torch"] else "not written" for i in idioms]
        + [f"{row['speedup'][i]:.2f}" if i in row["speedup"] else "–" for i in idioms]
        for row in rows
    ]
    return _table("Milliseconds per update and seed: median (fastest to slowest)", columns, lines)


def _threads(ms: dict[str, float]) -> str:
    return f"{_spread(ms)}, {counted(int(ms['threads']), 'thread')}"


def _training(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [row["algorithm"], name, f"{rate:.0f}", f"{row['hours_of_the_paper'][name]:.2f}"]
        + [f"{row['speedup'][name]:.2f}" if name in row["speedup"] else ""]
        for row in rows
        for name, rate in row["steps_per_second"].items()
    ]
    lines += [
        [row["algorithm"], f"PyTorch {idiom}", "not written", "", ""]
        for row in rows
        for idiom in row.get("left_out", ())
    ]
    columns = ["algorithm", "how", "environment steps/s", "hours for 8 x 10,000 episodes", "x"]
    return _table("Training on Spread, all included", columns, lines)


def _share(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [row["env"], f"{row['multiply_adds'] / 1e9:.2f}"]
        + [f"{row['peak_multiply_adds_per_second'] / 1e9:.0f}"]
        + [f"{row[name]:.2f}" for name in ("needed_ms", "measured_ms", "multiple")]
        for row in rows
    ]
    columns = ["shape", "10⁹ multiply-adds", "peak, 10⁹/s", "needed ms", "measured ms", "x"]
    return _table("Updates of maac beside the measured matrix peak", columns, lines)


def _environments(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [row["environment"], str(row["num_envs"]), f"{row['steps_per_second']:,.0f}"]
        + [f"{row['original_steps_per_second']:,.0f}" if "ratio" in row else ""]
        + [f"{row['ratio']:.1f}" if "ratio" in row else ""]
        for row in rows
    ]
    columns = ["environment", "copies", "steps/s", "original, steps/s", "x"]
    return _table("Environments under random actions", columns, lines)


def _compile(rows: list[dict[str, Any]]) -> Table:
    lines = [[r["env"], r["algorithm"], f"{r['cold']:.1f}", f"{r['cached']:.1f}"] for r in rows]
    columns = ["environment", "algorithm", "empty cache", "full cache"]
    return _table("Seconds until the first logging point of 8 seeds", columns, lines)


def _memory(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [row["env"], row["algorithm"]]
        + ["–" if row["buffer_size"] is None else f"{row['buffer_size']:,}"]
        + [str(row["seeds"]), f"{row['peak_mib']:,.0f}"]
        for row in rows
    ]
    columns = ["environment", "algorithm", "replay", "seeds", "MiB"]
    return _table("Peak memory of training", columns, lines)


def _ahead(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [row["env"], row["algorithm"], part, str(found["kernels"]), f"{found['bytes'] / 1e6:,.1f}"]
        + [f"{sum(found['multiply_adds'].values()) / 1e9:,.2f}"]
        + [f"{found[f'ms_of_{what}']:.3f}" for what in ("launches", "bytes", "products")]
        + [f"{found['floor_ms']:.3f}"]
        + [f"{row['working_bytes'] / 1e6:,.0f}", f"{row['floor_seconds_of_the_budget']:.1f}"]
        for row in rows
        for part, found in row["parts"].items()
    ]
    columns = ["environment", "algorithm", "of one", "kernels", "MB moved", "10⁹ multiply-adds"]
    columns += ["ms: launches", "bytes", "products", "at least", "MB beside the state", "budget, s"]
    title = f"Training of {counted(rows[0]['seeds'], 'seed')} compiled for {rows[0]['target']}"
    return _table(f"{title}, products in {rows[0]['precision']}", columns, lines)


TABLES: dict[str, Callable[[list[dict[str, Any]]], Table]] = {
    "updates": _updates,
    "share_of_peak": _share,
    "training": _training,
    "environments": _environments,
    "compile": _compile,
    "memory": _memory,
    "ahead": _ahead,
}
