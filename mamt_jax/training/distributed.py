"""One run by several processes, on one machine or many: each trains a shard of the seeds.

What a seed draws depends on its number alone, so who trains it changes nothing. Process 0 prepares
the run directory, which all must see, and waits for the others at the end.
"""

from __future__ import annotations

import json
import os
import re
import time
import warnings
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import jax

from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError, DivergedError, InterruptedRun, MamtError, RunError
from mamt_jax.files import quoted
from mamt_jax.training import resume as resuming
from mamt_jax.training.link import Link, Position
from mamt_jax.training.points import LoggingPoint
from mamt_jax.training.prepare import NAMES_ONLY, prepare
from mamt_jax.training.progress import ProgressLine, notice
from mamt_jax.training.result import Run
from mamt_jax.training.run import load, run_together
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import PROCESSES, divide, evenly, is_lost, leaves, part_of, shards
from mamt_jax.training.trackers import check_trackers

_SEEN = 20.0  # seconds after which a shared directory shows what another machine has written


def position(coordinator: str = "", process: str = "") -> Position:
    """Which process this is: as given, or as Slurm, Open MPI or Kubernetes say.

    They also say which of its machine's GPUs is this process' own; JAX is told so.

    Args:
        coordinator: HOST:PORT, where process 0 listens.
        process: I/K, this one of K.

    Raises:
        ConfigError: One of them is neither, or nobody says.
    """
    if not coordinator and not process:
        return _found()
    if not (coordinator and process):
        raise ConfigError("--coordinator HOST:PORT and --process I/K go together.")
    numbers = re.fullmatch(r"(\d{1,6})/(\d{1,6})", process)
    if not numbers or not 0 <= int(numbers[1]) < int(numbers[2]):
        raise ConfigError(f"--process must be I/K with I from 0 to K - 1, got {process!r}.")
    return _listening(coordinator, int(numbers[1]), int(numbers[2]))


def _listening(address: str, index: int, count: int) -> Position:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ConfigError(f"The coordinator must be HOST:PORT, got {address!r}.")
    return Position(host.strip("[]"), int(port), index, count)


def _found() -> Position:
    """As ``jax.distributed.initialize`` finds it, which offers this in no other way."""
    given = os.environ.get("JAX_COORDINATOR_ADDRESS")
    try:
        from jax._src.clusters import ClusterEnv

        address, count, index, local = ClusterEnv.auto_detect_unset_distributed_params(
            given, None, None, None, None, 60
        )
    except Exception as error:  # variables that are half there raise whatever they do
        raise ConfigError(
            f"JAX cannot tell the processes apart ({type(error).__name__}: {error}); give "
            f"--coordinator HOST:PORT --process I/K."
        ) from error
    if address is None or count is None or index is None:
        raise ConfigError(
            "--distributed found no Slurm, Open MPI or Kubernetes that says which process this is; "
            "give --coordinator HOST:PORT --process I/K."
        )
    if local is not None:
        visible = ",".join(map(str, local))
        jax.config.update("jax_cuda_visible_devices", visible)
        jax.config.update("jax_rocm_visible_devices", visible)
    return _listening(address, int(index), int(count))


def seeds_of(config: TrainConfig, where: Position) -> TrainConfig:
    """The config of one process' seeds; raises ConfigError where there are not enough."""
    if where.count > config.seeds:
        raise ConfigError(
            f"There are {where.count} processes and {config.seeds} seeds: every process needs one; "
            f"start fewer, or raise seeds."
        )
    return part_of(config, evenly(config, where.count)[where.index])


def train_distributed(
    config: TrainConfig, out: Path, where: Position, resume: bool = False, progress: bool = False
) -> Run | None:
    """Trains one process' seeds.

    Args:
        config: Of the whole run.
        out: Its directory, the same for all processes.
        where: Which process this is.
        resume: Goes on with the run there, by however many processes it was trained.
        progress: Process 0 shows that of all.

    Returns:
        The whole run, from process 0.

    Raises:
        ConfigError: There are more processes than seeds; or as :func:`mamt_jax.train`.
        RunError: Another process has ended; or as :func:`mamt_jax.train`.
    """
    check_trackers(config)
    own, place = seeds_of(config, where), RunDir(out)
    with _Progress(progress and where.index == 0, config, where) as line:
        link = Link(where, _told(config), line.heard)
        go_on = f"mamt train --distributed --resume --out {quoted(out)}"
        link.how_to_go_on = f"stopped; what was saved is kept. To go on: {go_on}"
        with closing(link):
            others = f"process 0 at {where.host}:{where.port}" if where.index else "the others"
            notice(progress, f"{where.name.capitalize()} waits for {others}.")
            link.open()
            if where.index == 0:
                lock = _prepared(config, place, where.count, resume, link)
            else:
                link.receive()
                lock = nullcontext()
            with lock:
                link.watch()
                _train(own, _shard(place, own), link, line.shown)
                link.finish()
                if link.lost:
                    raise RunError(
                        f"{link.lost}; all processes stopped, what they have done is saved. "
                        f"To go on: {go_on}"
                    )
    if where.index:
        return None
    if all(is_lost(leaf) for leaf in leaves(place)):
        raise DivergedError(f"All seeds of {place.path} have diverged; metrics are kept.")
    return load(out)


def _told(config: TrainConfig) -> str:
    from mamt_jax import __version__

    return json.dumps([__version__, config.to_dict()], sort_keys=True)


def _prepared(config: TrainConfig, place: RunDir, count: int, resume: bool, link: Link) -> Any:
    """Makes a shard for every process, and sends them off; the lock of the run."""
    try:
        trainer, _, config = prepare(config)
        if resume:
            resuming.check_resumable(place, trainer, config, NAMES_ONLY)
            for leaf in leaves(place):
                resuming.check_length(leaf, trainer)
        else:
            place.create(config, trainer.game)
        with place.lock():
            divide(place, evenly(config, count), PROCESSES)
            place.update_config(config)
    except MamtError as error:
        link.send(stop=str(error))
        raise
    link.send(go=True)
    return place.lock()


def _shard(place: RunDir, own: TrainConfig) -> RunDir:
    """The directory of this process; on another machine it may be seen a little later."""
    end = time.monotonic() + _SEEN
    while True:
        for each in shards(place):
            if each.holds_run() and each.read_config().seed_ids == own.seed_ids:
                return each
        if time.monotonic() > end:
            raise RunError(
                f"{place.path} does not hold the run that process 0 has prepared; its directory "
                f"must be one that all processes see."
            )
        time.sleep(0.2)


def _train(own: TrainConfig, shard: RunDir, link: Link, shown: bool) -> None:
    """Trains a shard to its end, or to where another process ends."""

    def tell(point: LoggingPoint) -> bool:
        mean = float(point.metrics["return_mean"].mean())
        link.tell(point=point.point, points=point.points, seconds=point.seconds, value=mean)
        return bool(link.lost)

    try:
        notice(shown, "Compiling the update.")
        run_together([own], [shard.path], resume=True, callback=tell)
        if not link.lost:  # else it may not have come to its end
            link.tell(point=1, points=1)
    except DivergedError as error:
        warnings.warn(f"{error} The other processes go on.", stacklevel=3)
    except InterruptedRun as error:
        link.send(stop=f"{link.position.name.capitalize()} was interrupted")
        text = str(error).partition(" To go on:")[0]
        raise InterruptedRun(f"{text} {link.how_to_go_on.partition('. ')[2]}") from error
    except MamtError as error:
        link.send(stop=f"{link.position.name.capitalize()} has ended: {str(error).rstrip('.')}")
        raise


class _Progress:
    """How far all processes are, on process 0."""

    def __init__(self, shown: bool, config: TrainConfig, where: Position) -> None:
        self.shown, self._episodes = shown, config.episodes
        self._line = ProgressLine(shown, config.episodes)
        self._done = dict.fromkeys(range(where.count), 0.0)
        self._returns: dict[int, float] = {}

    def __enter__(self) -> _Progress:
        self._line.__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        self._line.__exit__(*error)

    def heard(self, index: int, told: dict[str, Any]) -> None:
        """Shows the slowest, and each."""
        try:
            self._done[index] = float(told["point"]) / max(float(told["points"]), 1.0)
            if "value" in told:
                self._returns[index] = float(told["value"])
        except (KeyError, ValueError, TypeError):
            return
        shares = " ".join(f"{share:.0%}" for share in self._done.values())
        known = [value for value in self._returns.values() if value == value]
        mean = f"return {sum(known) / len(known):.2f}, " if known else ""
        slowest = min(self._done.values())
        self._line.update(int(slowest * self._episodes), f"{mean}processes: {shares}")
