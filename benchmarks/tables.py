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
        if rows and (table := (TABLES | LISTS).get(name)):
            console.print(table(rows))


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    return table


def _spread(ms: dict[str, float] | None) -> str:
    if ms is None:
        return "–"
    if ms["median"] < 1.0:
        return f"{ms['median']:.3f} ({ms['min']:.3f} to {ms['max']:.3f})"
    return f"{ms['median']:.1f} ({ms['min']:.1f} to {ms['max']:.1f})"


def _updates(rows: list[dict[str, Any]]) -> Table:
    seeds = list(dict.fromkeys(number for row in rows for number in row["mamt_jax"]))
    idioms = list(dict.fromkeys(i for row in rows for i in (*row["torch"], *row["left_out"])))
    columns = [
        "shape",
        "algorithm",
        *(f"mamt_jax, {counted(int(number), 'seed')}" for number in seeds),
    ]
    columns += [f"PyTorch {idiom}" for idiom in idioms] + [f"x {idiom}" for idiom in idioms]
    lines = [
        [row["env"], _algorithm(row)]
        + [_spread(row["mamt_jax"].get(number)) for number in seeds]
        + [_threads(row["torch"][i]) if i in row["torch"] else _none(row, i) for i in idioms]
        + [f"{row['speedup'][i]:.2f}" if i in row["speedup"] else "–" for i in idioms]
        for row in rows
    ]
    return _table("Milliseconds per update and seed: median (fastest to slowest)", columns, lines)


def _algorithm(row: dict[str, Any]) -> str:
    exact = row.get("precision", "float32") == "float32"
    return row["algorithm"] if exact else f"{row['algorithm']}, {row['precision']}"


def _none(row: dict[str, Any], idiom: str) -> str:
    return "not written" if idiom in row["left_out"] else "–"


def _threads(ms: dict[str, Any]) -> str:
    how = ms.get("how") or counted(int(ms["threads"]), "thread")
    return f"{_spread(ms)}, {how}"


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


def _golden(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [
            row["case"],
            row["algorithm"],
            row["precision"],
            row["products"],
            f"{row['beyond']} of {row['compared']}",
        ]
        + [row["worst"]["name"], f"{row['worst']['largest']:.1e}"]
        + [f"{row['worst']['tolerance']:.0e}"]
        for row in rows
    ]
    columns = [
        "file",
        "algorithm",
        "numbers",
        "products",
        "beyond tolerance",
        "nearest to it or beyond",
    ]
    return _table("Golden files", [*columns, "off by", "tolerance"], lines)


def _deviations(rows: list[dict[str, Any]]) -> Table:
    names = list(dict.fromkeys(name for row in rows for name in row["deviation"]))
    lines = [
        [row["env"], row["algorithm"], row["precision"]]
        + [f"{row['deviation'][name]:.1e}" if name in row["deviation"] else "–" for name in names]
        for row in rows
    ]
    title = "What less precise products change in a trained learner, of each quantity's spread"
    return _table(title, ["environment", "algorithm", "products", *names], lines)


def _points(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [row["env"], row["algorithm"], str(row["seeds"]), f"{row['median']:.3f}"]
        + [f"{row['steps'] / row['median']:,.0f}"]
        + [f"{row['times_one_seed']:.2f}" if row["times_one_seed"] else "–"]
        for row in rows
    ]
    columns = ["environment", "algorithm", "seeds", "s per logging point", "steps/s", "x one seed"]
    return _table("Training of many seeds", columns, lines)


def _runs(rows: list[dict[str, Any]]) -> Table:
    lines = [
        [row["env"], row["algorithm"], str(row["seeds"])]
        + [f"{row['episodes']:,} of {row['planned']:,}", f"{row['seconds']:.0f}"]
        + [f"{row['built_seconds']:.0f}", f"{row['last_return']:.2f}"]
        for row in rows
    ]
    columns = ["environment", "algorithm", "seeds", "episodes", "s", "s before it", "last return"]
    return _table("Runs of which a record is kept", columns, lines)


def _left_out(rows: list[dict[str, Any]]) -> Table:
    return _table("Left out", ["what", "why"], [[row["what"], row["why"]] for row in rows])


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
}
LISTS: dict[str, Callable[[list[dict[str, Any]]], Table]] = {
    "ahead": _ahead,
    "golden": _golden,
    "deviations": _deviations,
    "points": _points,
    "runs": _runs,
    "left_out": _left_out,
}
"""Of what has no figure."""
