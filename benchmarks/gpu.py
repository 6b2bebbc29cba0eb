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
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import files, gpu_parts, tables
from benchmarks.devices import have_torch, torch_device
from benchmarks.gpu_parts import PARTS, Sizes, Wave
from benchmarks.gpu_runs import STATUS, STOP, pack
from benchmarks.gpu_sheet import KEPT, RESERVE, Clock, Sheet
from benchmarks.machine import cores, hardware, load, warning
from benchmarks.progress import duration
from benchmarks.turns import QUIET, Contender, ContenderError, Spec, started, title
from mamt_jax.errors import ConfigError, OutputError
from mamt_jax.settings.fields import check
from mamt_jax.training.run_dir import versions

BUILDING, WORKING = 180.0, 60.0
"""Seconds at most for the compilation of contenders, and for what each then measures."""
LONG_ENOUGH = 4.0
"""Seconds after which no more is repeated, once there are three turns."""
SAVING = 10.0
"""Seconds that a run has for its last logging point and its record, before the reserve."""
LEAST_RUN = 45.0
"""Seconds below which no run is begun."""
ASKED_ONCE = ("golden", "deviations")
"""Contenders that are not timed."""


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


def _contender(spec: Spec, stack: ExitStack) -> Contender:
    """A process, with the compilation cache that was asked for."""
    return started(spec, stack, MAMT_JAX_CACHE=os.environ.get("MAMT_JAX_CACHE", ""))


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
            going = [_contender(spec, stack) for spec in specs]
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
            sheet.leave_out(*_why(contender.spec, error))
            contender.end()


def _why(spec: Spec, error: ContenderError) -> tuple[str, str]:
    """What is left out, and why."""
    name = title(spec)
    return name, str(error).removeprefix(name).removeprefix(":").strip()


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
            sheet.leave_out(*_why(contender.spec, error))
            return
    KEPT[contender.spec["kind"]](contender.spec, said | {"built_seconds": built}, runs, sheet)


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
            sheet.leave_out(*_why(spec, error))
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
    session.coming[name] = _contender(spec | more, session.stack)


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
