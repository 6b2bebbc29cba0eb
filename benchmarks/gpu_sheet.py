"""What ``python -m benchmarks gpu`` has found, and how much time it has left."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from benchmarks import files
from benchmarks.progress import duration, note
from benchmarks.turns import Spec, summary, title

RESERVE = 12.0
"""Seconds at the end for what must still be written."""
KINDS = ("golden", "environments", "updates", "deviations", "points", "runs", "left_out")


class Clock:
    """How much time there is."""

    def __init__(self, seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._now, self.begin = now, now()
        self._end = self.begin + seconds

    @property
    def left(self) -> float:
        """Seconds for work, without the reserve."""
        return self._end - RESERVE - self._now()

    @property
    def passed(self) -> float:
        """Seconds since the beginning."""
        return self._now() - self.begin


class Sheet:
    """Everything found so far, in a file that is whole at any moment, and a log beside it."""

    def __init__(self, folder: Path, clock: Clock, head: dict[str, Any]) -> None:
        self.folder, self.clock = folder, clock
        self.content: dict[str, Any] = head | {kind: [] for kind in KINDS}
        self.write()

    def write(self) -> None:
        """Writes the file anew."""
        self.content["seconds"] = round(self.clock.passed, 1)
        files.write(self.folder / "gpu.json", self.content)

    def say(self, text: str) -> None:
        """A line for whoever watches, with the time left, which also goes into the log."""
        line = f"[{self.clock.passed:5.0f} s, {max(self.clock.left, 0):4.0f} left] {text}"
        note(line)
        with suppress(OSError), (self.folder / "gpu.log").open("a") as log:
            log.write(line + "\n")

    def add(self, kind: str, row: dict[str, Any], text: str) -> None:
        """Keeps a row, and says what is in it."""
        self.content[kind].append(row)
        self.write()
        self.say(text)

    def leave_out(self, what: str, why: str) -> None:
        """Says what was not measured, and why."""
        self.add("left_out", {"what": what, "why": why}, f"left out: {what}: {why}")


def _golden(spec: Spec, said: dict[str, Any], runs: Any, sheet: Sheet) -> None:
    found = said["differences"]
    worst = max(found, key=lambda each: each["largest"] / each["tolerance"])
    beyond = [each for each in found if not each["largest"] <= each["tolerance"]]
    row = {name: spec[name] for name in ("case", "algorithm", "precision", "products")}
    row |= {"worst": worst, "compared": len(found), "beyond": len(beyond), "differences": found}
    text = f"{worst['name']} off by {worst['largest']:.1e} (tolerance {worst['tolerance']:.0e})"
    of = f"{len(beyond)} of {len(found)} beyond their tolerance"
    sheet.add("golden", row, f"{title(spec)}: {of}; worst: {text}")


def _deviations(spec: Spec, said: dict[str, Any], runs: Any, sheet: Sheet) -> None:
    for row in said["deviations"]:
        each = ", ".join(f"{name} {value:.1e}" for name, value in row["deviation"].items())
        sheet.add("deviations", row, f"{row['precision']} changes {each}")


def _environment(
    spec: Spec, said: dict[str, Any], runs: list[tuple[float, int]], sheet: Sheet
) -> None:
    found = summary(runs)["ms"]
    row = {
        "environment": spec["name"],
        "num_envs": spec["num_envs"],
        "steps": spec["steps"],
        "repetitions": len(runs),
        "steps_per_second": 1e3 / found["median"],
        "slowest": 1e3 / found["max"],
        "fastest": 1e3 / found["min"],
        "first_call_seconds": said["built_seconds"],
    }
    sheet.add("environments", row, f"{title(spec)}: {row['steps_per_second']:,.0f} steps/s")


def _update(spec: Spec, said: dict[str, Any], runs: list[tuple[float, int]], sheet: Sheet) -> None:
    rows, ms = sheet.content["updates"], summary(runs)["ms"]
    named = {name: spec[name] for name in ("env", "algorithm", "batch_size")}
    named["precision"] = spec.get("precision", "float32")
    row = next((row for row in rows if named.items() <= row.items()), None)
    if row is None:
        row = named | {"device": sheet.content["hardware"]["device"], "repetitions": len(runs)}
        row |= {"mamt_jax": {}, "torch": {}, "torch_by_threads": [], "speedup": {}, "left_out": []}
        row |= {"built_seconds": {}}
        rows.append(row)
    if spec["kind"] == "jax_update":
        row["mamt_jax"][str(spec["seeds"])] = ms
        row["built_seconds"][str(spec["seeds"])] = round(said["built_seconds"], 2)
    else:
        ms |= {"threads": 1} | {k: said[k] for k in ("how", "no_graphs") if k in said}
        row["torch_by_threads"].append({"idiom": spec["idiom"]} | ms)
        row["torch"]["batched"] = min(row["torch_by_threads"], key=lambda one: one["median"])
    if row["torch"] and row["mamt_jax"]:
        ours = min(each["median"] for each in row["mamt_jax"].values())
        row["speedup"] = {"batched": row["torch"]["batched"]["median"] / ours}
    sheet.write()
    built = f"built in {duration(said['built_seconds'])}"
    how = f" ({said['how']})" if "how" in said else ""
    sheet.say(f"{title(spec)}{how}: {ms['median']:.3f} ms per update and seed; {built}")


def _point(spec: Spec, said: dict[str, Any], runs: list[tuple[float, int]], sheet: Sheet) -> None:
    seconds = [one for one, _ in runs]
    row = {name: spec[name] for name in ("algorithm", "env", "seeds")}
    row |= {"median": sorted(seconds)[len(seconds) // 2], "min": min(seconds)}
    row |= {"max": max(seconds), "steps": runs[0][1], "built_seconds": said["built_seconds"]}
    first = next((one for one in sheet.content["points"] if one["seeds"] == 1), row)
    row["times_one_seed"] = row["median"] / first["median"] if first["seeds"] == 1 else None
    sheet.add("points", row, f"{title(spec)}: {row['median']:.3f} s per logging point")


KEPT: dict[str, Callable[..., None]] = {
    "golden": _golden,
    "deviations": _deviations,
    "environment": _environment,
    "jax_update": _update,
    "torch_update": _update,
    "jax_training": _point,
}
"""By kind of contender: how what it found is written down."""
