"""``python -m benchmarks gpu``: what a GPU gives, within some minutes; see README.md.

Every contender is a process of its own: one that runs out of memory, or ends in an error of CUDA's,
takes nothing with it, its memory is free afterwards, and one that is still compiling when its time
is over can be ended, which a thread cannot. So they also compile side by side, one on each core,
before any of them is timed; then they work one after another, each alone on the device.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import files, gpu_parts, tables
from benchmarks.devices import have_torch, torch_device
from benchmarks.gpu_parts import PARTS, Sizes, Wave
from benchmarks.gpu_runs import STATUS, STOP, pack
from benchmarks.machine import cores, hardware, load, warning
from benchmarks.progress import duration, note
from benchmarks.turns import QUIET, Contender, ContenderError, Spec, summary, title
from mamt_jax.errors import ConfigError, OutputError
from mamt_jax.settings.fields import check
from mamt_jax.training.run_dir import versions

RESERVE = 12.0
"""Seconds at the end for what must still be written."""
BUILDING, WORKING = 180.0, 60.0
"""Seconds at most for the compilation of contenders, and for what each then measures."""
LONG_ENOUGH = 4.0
"""Seconds after which no more is repeated, once there are three turns."""
SAVING = 10.0
"""Seconds that a run has for its last logging point and its record, before the reserve."""
LEAST_RUN = 45.0
"""Seconds below which no run is begun."""
KINDS = ("golden", "environments", "updates", "deviations", "points", "runs", "left_out")
ASKED_ONCE = ("golden", "deviations")
"""Contenders that are not timed."""


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


@dataclass
class Session:
    """What all parts share."""

    chosen: argparse.Namespace
    sizes: Sizes
    sheet: Sheet
    folder: Path
    """Of the runs, until the end."""
    stack: ExitStack
    """Ends whatever has been started."""
    coming: dict[str, Contender] = field(default_factory=dict)
    """Runs that compile already, by title."""


def measure(chosen: argparse.Namespace) -> None:
    """Works through the parts that were chosen, for as long as there is time.

    Raises:
      OutputError: nothing can be written where it is asked for.
      ConfigError: a number is out of range.
    """
    check(chosen.minutes > 0, "minutes", chosen.minutes, "greater than 0")
    clock = Clock(60 * chosen.minutes)
    os.environ.update(environment())  # before anything asks JAX for its device
    gpu_parts.check_cells(chosen.only_runs)
    files.check_out(chosen.out / "gpu.json")
    try:
        chosen.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{chosen.out} cannot be written: {error.strerror}.") from error
    now = load()
    machine = hardware(now)
    head = {
        "command": "gpu",
        "hardware": machine,
        "commit": chosen.commit or versions()["git_commit"] or "unknown",
        "minutes": chosen.minutes,
        "parts": chosen.parts,
        "tiny": chosen.tiny,
        "compilation_cache": os.environ["MAMT_JAX_CACHE"],
    }
    sheet = Sheet(chosen.out, clock, head)
    sheet.say(f"{machine['device']}, {machine['cores']} cores; parts: {', '.join(chosen.parts)}")
    if said := warning(now):
        sheet.say(said)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mamt-gpu-")))
        sizes = gpu_parts.TINY if chosen.tiny else gpu_parts.FULL
        session = Session(chosen, sizes, sheet, folder, stack)
        for part in (part for part in PARTS if part in chosen.parts):
            _part(part, session)
    sheet.write()
    sheet.say("done")
    tables.show(sheet.content)


def environment() -> dict[str, str]:
    """Variables of all processes: they share the device, and each may use nearly all of it."""
    fraction = {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
    fraction |= {"TORCHINDUCTOR_COMPILE_THREADS": "4"}  # of each contender
    return QUIET | fraction | {"MAMT_JAX_CACHE": os.environ.get("MAMT_JAX_CACHE", "")}


def _part(part: str, session: Session) -> None:
    """Does one part; whatever goes wrong in it is written down, and the next one begins."""
    sizes, cells = session.sizes, session.chosen.only_runs
    try:
        if part == "spread":
            record_runs(gpu_parts.runs(sizes, ["mamt:spread"]), session)
            if "table10" in session.chosen.parts and cells:
                _start(gpu_parts.runs(sizes, cells[:1])[0], session)  # compiles meanwhile
        elif part == "table10":
            record_runs(gpu_parts.runs(sizes, cells), session)
        for wave in _waves(part, session):
            work(wave, session.sheet, sizes.repetitions)
    except OutputError:
        raise
    except Exception as error:
        session.sheet.leave_out(f"the rest of {part}", f"{type(error).__name__}: {error}")


def _waves(part: str, session: Session) -> tuple[Wave, ...]:
    sizes = session.sizes
    if part == "golden":
        return gpu_parts.golden(sizes)
    if part == "environments":
        return gpu_parts.environments(sizes)
    if part == "precision":
        return gpu_parts.precision(sizes)
    if part == "spread":
        return gpu_parts.training(sizes)
    if part == "updates":
        memory = _memory()
        for (env, algorithm), each in gpu_parts.BYTES.items():
            for seeds in sizes.seeds:
                if gpu_parts.hopeless(env, algorithm, seeds, memory):
                    what = f"updates of {algorithm} on {env}, {seeds:,} seeds"
                    why = f"about {seeds * each / 1e9:,.0f} GB, and there are {memory / 1e9:,.0f}"
                    session.sheet.leave_out(what, why)
        return gpu_parts.updates(sizes, _torch(session.sheet), memory)
    return ()


def _torch(sheet: Sheet) -> str | None:
    """PyTorch's device; None where there is no PyTorch for what JAX works on."""
    try:
        if have_torch():
            return torch_device(None, used=True)
        why = "it is not installed"
    except ConfigError as error:
        why = str(error)
    sheet.leave_out("PyTorch", why)
    return None


def _memory() -> float:
    """Bytes of the device that a process may use; without end where it does not say."""
    import jax

    stats = jax.devices()[0].memory_stats() or {}
    return float(stats.get("bytes_limit", "inf"))


def work(wave: Wave, sheet: Sheet, repetitions: int) -> None:
    """Lets contenders compile, as many at a time as there are cores, and then work."""
    size = max(len(cores()), 2)
    for begin in range(0, len(wave.specs), size):
        specs = wave.specs[begin : begin + size]
        if sheet.clock.left < wave.least:
            left = duration(max(sheet.clock.left, 0))
            why = f"{left} left, and it takes at least {duration(wave.least)}"
            sheet.leave_out(", ".join(title(spec) for spec in specs), why)
            continue
        sheet.say(f"{wave.name}: {len(specs)} compile side by side")
        with ExitStack() as stack:
            going = [stack.enter_context(Contender(spec)) for spec in specs]
            for contender, built in list(_built(going, sheet)):
                _measured(contender, built, sheet, repetitions)
                contender.end()


def _built(going: Sequence[Contender], sheet: Sheet) -> Iterator[tuple[Contender, float]]:
    """Those that are ready in time, with the seconds that they took; the others are ended."""
    until = time.monotonic() + min(BUILDING, sheet.clock.left)
    for contender in going:
        try:
            yield contender, contender.reply(until - time.monotonic())["built_seconds"]
        except ContenderError as error:
            sheet.leave_out(title(contender.spec), str(error))
            contender.end()


def _measured(contender: Contender, built: float, sheet: Sheet, repetitions: int) -> None:
    """Lets one work, and writes down what it did."""
    until = time.monotonic() + min(WORKING, sheet.clock.left)
    runs: list[tuple[float, int]] = []
    try:
        contender.go()
        said = contender.reply(until - time.monotonic())
        if contender.spec["kind"] not in ASKED_ONCE:
            begin = time.monotonic()
            while len(runs) < repetitions:
                if len(runs) >= 3 and time.monotonic() - begin > LONG_ENOUGH:
                    break
                contender.go()
                answer = contender.reply(until - time.monotonic())
                runs.append((answer["seconds"], answer["count"]))
    except ContenderError as error:
        if len(runs) < 2:
            sheet.leave_out(title(contender.spec), str(error))
            return
    _KEPT[contender.spec["kind"]](contender.spec, said | {"built_seconds": built}, runs, sheet)


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


_KEPT: dict[str, Callable[..., None]] = {
    "golden": _golden,
    "deviations": _deviations,
    "environment": _environment,
    "jax_update": _update,
    "torch_update": _update,
    "jax_training": _point,
}


def record_runs(specs: Sequence[Spec], session: Session) -> None:
    """Trains one run after another, while the next one compiles; packs their records."""
    sheet = session.sheet
    for index, spec in enumerate(specs):
        name = title(spec)
        if sheet.clock.left < LEAST_RUN:
            sheet.leave_out(name, f"{duration(max(sheet.clock.left, 0))} left")
            continue
        _start(spec, session)
        run = session.coming.pop(name)
        sheet.say(f"{name}: compiles")
        try:
            built = run.reply(sheet.clock.left)["built_seconds"]
            sheet.say(f"{name}: begins; built in {duration(built)}")
            run.go()
            run.reply()  # nothing is warmed up
            run.go()
            if index + 1 < len(specs) and sheet.clock.left > LEAST_RUN:
                _start(specs[index + 1], session)
            _follow(run, built, session)
        except ContenderError as error:
            sheet.leave_out(name, str(error))
        run.end()


def _start(spec: Spec, session: Session) -> None:
    """Lets a run compile, unless it does so already."""
    if (name := title(spec)) in session.coming:
        return
    place = session.folder / f"{spec['env']}_{spec['algorithm']}"
    place.mkdir(exist_ok=True)
    content = session.sheet.content
    found = content["hardware"]
    gpu = [f"driver {gpu['driver_version']}" for gpu in found["gpus"][:1]]
    about = [f"One {found['device']}", *gpu, f"jax {found['versions']['jax']}"]
    about += [f"{spec['seeds']} seeds in one process", f"commit {content['commit'][:7]}"]
    stop_at = time.time() + session.sheet.clock.left - SAVING
    more = {"folder": str(place), "stop_at": stop_at, "note": f"{', '.join(about)}."}
    session.coming[name] = session.stack.enter_context(Contender(spec | more))


def _follow(run: Contender, built: float, session: Session) -> None:
    """Waits for the end of a run; what it has recorded meanwhile is packed every half minute."""
    sheet = session.sheet
    try:
        while not run.answers(max(min(30.0, sheet.clock.left), 1.0)):
            _pack(session)
            status = Path(run.spec["folder"]) / STATUS
            far = status.read_text() if status.exists() else "no logging point yet"
            sheet.say(f"{title(run.spec)}: {far}")
            if sheet.clock.left <= 0:
                raise ContenderError(f"{title(run.spec)}: not done when its time was over.")
    except KeyboardInterrupt:
        (Path(run.spec["folder"]) / STOP).touch()
        if run.answers(RESERVE):
            _keep(run, built, session)
        raise
    _keep(run, built, session)


def _keep(run: Contender, built: float, session: Session) -> None:
    """Writes down how far a run came."""
    said = run.reply(0)
    row = {name: run.spec[name] for name in ("algorithm", "env", "seeds")}
    row |= {"built_seconds": built, "env_steps": said.pop("count")} | said
    whole = f"{row['episodes']:,} of {row['planned']:,} episodes in {duration(row['seconds'])}"
    returns = f"return {row['first_return']:.2f} to {row['last_return']:.2f}"
    session.sheet.add("runs", row, f"{title(run.spec)}: {whole}; {returns}")
    _pack(session)


def _pack(session: Session) -> None:
    """Packs anew what the runs have recorded so far."""
    sheet = session.sheet
    left_out = pack(session.folder, sheet.folder / "runs.tar.gz")
    sheet.content["metrics_not_packed"] = left_out
    sheet.write()
