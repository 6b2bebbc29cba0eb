"""Training runs of which a record is kept, whenever they end; and records in one archive."""

from __future__ import annotations

import os
import tarfile
import time
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.work import Work
from mamt_jax.analysis.returns import first_and_last
from mamt_jax.config import make_config
from mamt_jax.errors import InterruptedRun
from mamt_jax.reports.record import open_directory, record
from mamt_jax.training.memory import fitted
from mamt_jax.training.points import LoggingPoint
from mamt_jax.training.prepare import prepare_together
from mamt_jax.training.programs import Program, as_written
from mamt_jax.training.progress import StopRequest
from mamt_jax.training.run import run_trainers
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.trainer import Trainer

STOP, STATUS = "stop", "status"
"""Files beside a run: one that asks for its end, and one that says how far it is."""
LARGEST = 15 * 2**20
"""Bytes of an archive, of files that hardly compress."""


@dataclass(frozen=True)
class MetricsOnly(RunDir):
    """A run's directory without checkpoints: replays of many GB are not what the time is for."""

    def save_checkpoint(self, *_: Any, **__: Any) -> None:
        """Writes none."""


def run(
    algorithm: str,
    env: str,
    seeds: int,
    episodes: int,
    folder: str,
    stop_at: float,
    note: str,
    **options: Any,
) -> Work:
    """A run, ready to start: compiled, with no memory taken.

    Args:
      algorithm: registered algorithm.
      env: registered environment.
      seeds: trained together.
      episodes: of each seed, if the time suffices.
      folder: gets ``run``, a run's directory without checkpoints, and ``record.json``.
      stop_at: seconds since the epoch when the run ends at its next logging point.
      note: of the record; how far the run came is added.
      **options: any setting of the config.
    """
    config = make_config(algorithm=algorithm, env=env, seeds=seeds, episodes=episodes, **options)
    prepared = prepare_together([config])
    prepared = prepared._replace(trainer=fitted(prepared.trainer))
    trainer, place = prepared.trainer, MetricsOnly(Path(folder) / "run")
    _compile_all(trainer)
    parent = os.getppid()
    seen: list[LoggingPoint] = []

    def stop(point: LoggingPoint) -> bool:
        seen[:] = [point]
        returns = np.nanmean(point.metrics["return_mean"])
        far = f"{point.episode:,.0f} of {config.episodes:,} episodes after {point.seconds:.0f} s"
        (Path(folder) / STATUS).write_text(f"{far}, return {returns:.2f}")
        alone = os.getppid() != parent  # whoever would take the record has gone
        return time.time() >= stop_at or alone or (Path(folder) / STOP).exists()

    def work() -> tuple[float, int]:
        begin = time.perf_counter()
        place.create(prepared.configs[0], trainer.game)
        with StopRequest() as request, suppress(InterruptedRun):  # saved, as at its deadline
            run_trainers(prepared, [place], stop=request, callback=stop)
        seconds = time.perf_counter() - begin
        said = _kept(place, Path(folder) / "record.json", note, seconds)
        work.said = said  # type: ignore[attr-defined]
        steps = trainer.plan.steps_per_point * config.num_envs * seeds
        return seconds, steps * (seen[0].point if seen else 0)

    return work


def _compile_all(trainer: Trainer) -> None:
    """Compiles what begins and evaluates a run, too, where its stage has such programs."""
    ids = jnp.asarray(trainer.seeds, jnp.int32)
    init, evaluate = trainer.init, trainer.evaluate
    if not (isinstance(init, partial) and isinstance(evaluate, partial)):
        return
    with as_written():  # a call takes what was compiled for the same arguments
        if lower := getattr(getattr(init.func, "__wrapped__", None), "lower", None):
            lower(*init.args, ids).compile()
    if isinstance(evaluate.func, Program):
        learner = jax.eval_shape(init, ids).learner
        evaluate.func.compile_ahead(*evaluate.args, learner, evaluation_keys(trainer.seeds, 0))


def _kept(place: RunDir, file: Path, note: str, seconds: float) -> dict[str, Any]:
    """Writes the record of a run; says how far it came."""
    config, metrics = open_directory(place.path)
    done = int(metrics.episodes.sum("event").mean().item())
    far = f"{seconds:.0f} s in all, beside start and compilation; no checkpoints were written."
    if partial := done < config.episodes:
        stopped = f"stopped after {done:,} of {config.episodes:,} episodes for want of time"
        far = f"Partial: {stopped}. {far}"
    record(place.path, file, f"{note} {far}")
    first, last = first_and_last(metrics)
    return {
        "episodes": done,
        "planned": config.episodes,
        "partial": partial,
        "seconds_per_episode": seconds / max(done, 1),
        "env_steps_per_second": metrics.attrs.get("env_steps_per_second"),
        "first_return": first.mean,
        "last_return": last.mean,
        "last_return_std": last.std,
    }


def pack(folder: Path, archive: Path) -> list[str]:
    """Puts records, and the runs' metrics as far as they fit, into one archive, anew each time.

    Returns:
      Names of runs whose metrics are left out, for the archive would be too large.
    """
    records = sorted(folder.glob("*/record.json"))
    runs = sorted(folder.glob("*/run"), key=_bytes)
    part, total, left_out = archive.with_name(f".{archive.name}.part"), 0, []
    with tarfile.open(part, "w:gz") as tar:
        for path in [*records, *runs]:
            size = _bytes(path)
            if path in runs and total + size > LARGEST:
                left_out.append(path.parent.name)
                continue
            total += size if path in runs else size // 3  # text
            try:
                tar.add(path, str(path.relative_to(folder)), filter=_wanted)
            except FileNotFoundError:  # of a run that writes just now: the next archive has it
                continue
    part.replace(archive)
    return left_out


def _wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    return None if Path(entry.name).name in ("lock", "checkpoints") else entry


def _bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    try:
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    except FileNotFoundError:
        return 0
