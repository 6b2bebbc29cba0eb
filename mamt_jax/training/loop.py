"""The training loop on the host: epochs, records, checkpoints, and polite interruption."""

from __future__ import annotations

import time
import warnings
from contextlib import nullcontext
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from mamt_jax.config import TrainConfig
from mamt_jax.errors import DivergedError, EnvironmentFailed, InterruptedRun
from mamt_jax.files import quoted
from mamt_jax.training.checkpoint import Meta, steps
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.progress import ProgressLine, StopRequest
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.trainer import Trainer

_POLL = 0.01  # seconds between looks at a computation, so that signals are handled meanwhile
_NOT_SAVED = "nothing is saved, because the run has no directory (out)."


class Start(NamedTuple):
    """Where a training loop begins."""

    state: Any
    recorder: Recorder
    seconds: float
    """Wall-clock seconds spent before."""


def train_loop(
    trainer: Trainer,
    start: Start,
    config: TrainConfig,
    directory: RunDir | None,
    progress: bool = False,
    stop: StopRequest | None = None,
) -> tuple[Any, xr.Dataset]:
    """Runs epochs until the plan is fulfilled, recording and saving at logging points.

    A seed that diverges is lost, not the run: the others go on, and a warning at the end names it.

    Args:
        trainer: Of the run.
        start: Where to begin.
        config: Of the run.
        directory: Where to record it; None keeps everything in memory.
        progress: Shows a progress bar.
        stop: Listens for signals already; by default that begins here.

    Returns:
        The final state and the recorded metrics.

    Raises:
        DivergedError, EnvironmentFailed, InterruptedRun, RunError: As :func:`train`; what was
            recorded is on disk.
    """
    plan, (state, recorder, seconds) = trainer.plan, start
    clock = _Clock(seconds, plan.steps_per_point * config.num_envs * config.seeds)
    total, done = plan.points * plan.episodes_per_point, recorder.points * plan.episodes_per_point
    listening = StopRequest() if stop is None else nullcontext(stop)
    with listening as stop, ProgressLine(progress, total, done) as line:
        if stop.requested:  # while the program was being compiled
            raise InterruptedRun(_interruption(directory, recorder.points, plan.points))
        stop.when = "after this logging point and saving"
        if recorder.points:  # resumed
            _settle(trainer, start, config)
            if directory is not None:
                directory.write_metrics(_dataset(recorder, config, clock))
        while recorder.points < plan.points:
            try:
                state, output = trainer.epoch(state)
                output = jax.device_get(_wait(output))
                greedy = _evaluate(trainer, state, config, recorder.points + 1)
                recorder.append(output, greedy)
            except (DivergedError, EnvironmentFailed) as error:
                if directory is not None:
                    directory.write_metrics(_dataset(recorder, config, clock))
                raise _stopped(error, directory, recorder.points, plan.points) from error
            clock.tick()
            note = f"{clock.pace:,.0f} env steps/s, {recorder.summary()}"
            line.update(recorder.points * plan.episodes_per_point, note)
            finished = recorder.points >= plan.points
            due = recorder.points % config.checkpoint_interval == 0
            stopping = stop.requested  # read once: a signal may come at any moment
            if directory and (finished or due or stopping):
                directory.check_present()
                directory.write_metrics(_dataset(recorder, config, clock))
                meta = Meta(recorder.points, recorder.update_count, clock.seconds)
                directory.save_checkpoint(state, meta, config.keep_checkpoints, plan.points)
            if stopping and not finished:
                raise InterruptedRun(_interruption(directory, recorder.points, plan.points))
    if lost := recorder.diverged:
        warnings.warn(_losses(list(lost.values()), config.seeds), stacklevel=2)
    return state, _dataset(recorder, config, clock)


def _settle(trainer: Trainer, start: Start, config: TrainConfig) -> None:
    """Brings the newest evaluation of a resumed run to what it is in a run of this length.

    One that was made because the run ended there goes if it no longer does, and the other way
    round.
    """
    recorder = start.recorder
    due = evaluation_due(recorder.points, trainer.plan.points, config)
    if due != recorder.evaluated:
        recorder.replace_greedy(_evaluate(trainer, start.state, config, recorder.points))


def evaluation_due(point: int, points: int, config: TrainConfig) -> bool:
    """Whether the greedy policies are evaluated at a logging point of a run of so many."""
    interval = config.evaluation_interval
    return bool(interval) and (point % interval == 0 or point >= points)


def _evaluate(trainer: Trainer, state: Any, config: TrainConfig, point: int) -> np.ndarray | None:
    """Mean greedy return of each seed ``[S]`` where one is due after this many logging points.

    The starts depend on the seed and the point alone: a resumed run draws the same, and so does the
    same seed in another run.
    """
    if not evaluation_due(point, trainer.plan.points, config):
        return None
    seeds = range(config.seed, config.seed + config.seeds)
    keys = evaluation_keys(seeds, point=point)
    return np.asarray(trainer.evaluate(state.learner, keys)).mean(axis=1)


def _losses(reasons: list[str], seeds: int) -> str:
    """Which seeds of a run were lost, in one sentence."""
    lost = f"{len(reasons)} of {seeds} seeds diverged and {'is' if len(reasons) == 1 else 'are'}"
    return f"{lost} left out of all results: {'; '.join(reasons)}."


class _Clock:
    """Wall-clock time of a run over all its processes, and the current pace."""

    def __init__(self, before: float, steps_per_point: int) -> None:
        self._origin = time.monotonic() - before
        self._steps = steps_per_point
        self._last = time.monotonic()
        self.pace = 0.0
        """Environment steps per second in the last epoch, summed over seeds."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._origin

    def tick(self) -> None:
        """Ends an epoch."""
        now = time.monotonic()
        self.pace, self._last = self._steps / max(now - self._last, 1e-9), now

    def average(self, points: int) -> float:
        """Environment steps per second since the run began, compilation included."""
        return points * self._steps / max(self.seconds, 1e-9)


def _dataset(recorder: Recorder, config: TrainConfig, clock: _Clock) -> xr.Dataset:
    return recorder.to_dataset(
        algorithm=config.algorithm,
        env=config.env,
        wall_seconds=round(clock.seconds, 3),
        env_steps_per_second=round(clock.average(recorder.points), 1),
    )


def _stopped(
    error: DivergedError | EnvironmentFailed, directory: RunDir | None, points: int, planned: int
) -> Exception:
    """The same error, with what is kept of the run."""
    if isinstance(error, DivergedError):
        kept = _NOT_SAVED if directory is None else "metrics up to there are kept."
        return DivergedError(f"{error}; {kept}")
    kept = _NOT_SAVED
    if directory is not None:
        saved = "the last checkpoint" if steps(directory.checkpoints) else "the config"
        kept = f"metrics and {saved} are kept. {_how_to_resume(directory)}"
    where = f"Stopped after {points} of {planned} logging points"
    return EnvironmentFailed(f"{where}; {kept}\n{error}")


def _interruption(directory: RunDir | None, points: int, planned: int) -> str:
    where = f"Interrupted after {points} of {planned} logging points"
    if directory is None:
        return f"{where}; {_NOT_SAVED}"
    return (
        f"{where}; {'saved' if points else 'the settings are saved'}. {_how_to_resume(directory)}"
    )


def _how_to_resume(directory: RunDir) -> str:
    return f"To go on: mamt train --resume --out {quoted(directory.path)}"


def _wait(output: Any) -> Any:
    """Blocks until an epoch is done, handling signals meanwhile."""
    for leaf in jax.tree.leaves(output):
        while hasattr(leaf, "is_ready") and not leaf.is_ready():
            time.sleep(_POLL)
    return output
