"""The training loop on the host: epochs, records, checkpoints, and polite interruption."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr

from mamt_jax.config import TrainConfig
from mamt_jax.errors import DivergedError, EnvironmentFailed, InterruptedRun
from mamt_jax.files import quoted
from mamt_jax.training.checkpoint import Meta, steps
from mamt_jax.training.learning import EpochOutput
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.points import Callback, LoggingPoint
from mamt_jax.training.progress import ProgressLine, StopRequest
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.trackers import Tracker, asked
from mamt_jax.training.trainer import Trainer

_POLL = 0.001  # seconds between looks at a computation, so that signals are handled meanwhile
_SAVING_SHARE, _NOTICEABLE = 0.05, 0.5
"""Most of the time that goes into checkpoints; seconds of a save below which none is put off."""
_NOT_SAVED = "nothing is saved, because the run has no directory (out)."


@dataclass
class Book:
    """What is recorded of one run, of those that are trained together."""

    config: TrainConfig
    directory: RunDir | None
    """Where; None keeps everything in memory."""
    recorder: Recorder
    rows: slice | None = None
    """Which of the trainer's rows are the run's; None for all of them."""
    name: str = ""
    """What sets it apart from those beside it."""
    lost: DivergedError | None = None
    """Why it ended before the others: all of its seeds have diverged."""

    def part(self, tree: Any) -> Any:
        """The run's rows of arrays ``[S, ...]``."""
        if self.rows is None:
            return tree
        return jax.tree.map(lambda leaf: leaf[self.rows], tree)

    def append(self, output: EpochOutput, greedy: np.ndarray | None) -> None:
        """Records a logging point; raises DivergedError if no seed is left."""
        own = output
        if self.rows is not None:
            own = self.part(output._replace(updated=output.return_sum))
            own = own._replace(updated=output.updated)
        self.recorder.append(own, None if greedy is None else self.part(greedy))

    def point(self, index: int, planned: int, seconds: float) -> LoggingPoint:
        """What was recorded at a logging point; ``index`` 0 is the first."""
        recorder = self.recorder
        metrics, lost = recorder.at(index), recorder.lost_at(index)
        kept = [seed not in lost for seed in recorder.seeds]
        return LoggingPoint(
            config=self.config,
            path=None if self.directory is None else self.directory.path,
            point=index + 1,
            points=planned,
            update=recorder.updates[index],
            episode=float(recorder.episodes_at(index)[kept].mean()),
            seconds=seconds,
            metrics=metrics,
            dims={name: recorder.dims(name) for name in metrics},
            agents=tuple(recorder.agents),
            diverged=tuple(lost),
        )

    def dataset(self, clock: _Clock) -> xr.Dataset:
        """Everything recorded."""
        return self.recorder.to_dataset(
            algorithm=self.config.algorithm,
            env=self.config.env,
            wall_seconds=round(clock.seconds, 3),
            env_steps_per_second=round(clock.average(self.recorder.points), 1),
        )

    def write_metrics(self, clock: _Clock) -> None:
        """Everything recorded, on disk where the run has a directory."""
        if self.directory is not None:
            self.directory.write_metrics(self.dataset(clock))

    def save(self, state: Any, clock: _Clock, points: int) -> None:
        """Metrics, and a checkpoint of a run of so many logging points; none of a lost run."""
        if self.directory is None:
            return
        self.directory.check_present()
        self.write_metrics(clock)
        if self.lost:
            return
        meta = Meta(self.recorder.points, self.recorder.update_count, clock.seconds)
        keep = self.config.execution.keep_checkpoints
        self.directory.save_checkpoint(state, meta, keep, points, self.rows)


class Start(NamedTuple):
    """Where a training loop begins."""

    state: Any
    books: list[Book]
    """Of all runs that are trained together, whose plan and execution are the same."""
    seconds: float
    """Wall-clock seconds spent before."""


def train_loop(
    trainer: Trainer,
    start: Start,
    progress: bool = False,
    stop: StopRequest | None = None,
    callback: Callback | None = None,
) -> tuple[Any, list[xr.Dataset]]:
    """Runs epochs until the plan is fulfilled, recording and saving at logging points.

    A seed that diverges is lost, not the run; and a run, not those beside it: the others go on, and
    a warning at the end names it.

    Args:
        trainer: Of the runs.
        start: Where to begin.
        progress: Shows a progress bar.
        stop: Listens for signals already; by default that begins here.
        callback: Told of every logging point of each run that is not lost; True ends all of them.

    Returns:
        The final state, and what was recorded of each run.

    Raises:
        DivergedError, EnvironmentFailed, InterruptedRun, RunError: As :func:`train`; what was
            recorded is on disk.
        Exception: Of the callback; everything is saved first.
    """
    plan, (state, books, seconds) = trainer.plan, start
    config, points = books[0].config, books[0].recorder.points
    rows = len(books) * config.seeds
    clock = _Clock(seconds, plan.steps_per_point * config.num_envs * rows, len(books))
    total, done = plan.points * plan.episodes_per_point, points * plan.episodes_per_point
    listening = StopRequest() if stop is None else nullcontext(stop)
    with listening as stop, ProgressLine(progress, total, done) as line, ExitStack() as opened:
        if stop.requested:  # while the program was being compiled
            raise InterruptedRun(_interruption(books, points, plan.points))
        stop.when = "after this logging point and saving"
        if points:  # resumed
            _settle(trainer, start)
            for book in books:
                book.write_metrics(clock)
        tell = _teller(books, plan.points, clock, opened, callback)
        while points < plan.points:
            state = _epoch(trainer, state, books, clock)
            points += 1
            clock.tick()
            note = f"{clock.pace:,.0f} env steps/s, {_summary(books)}"
            line.update(points * plan.episodes_per_point, note)
            enough = _told(tell, state, books, clock, plan.points, stop)
            finished = points >= plan.points
            due = points % config.execution.checkpoint_interval == 0 and clock.may_save
            stopping = stop.requested  # read once: a signal may come at any moment
            if finished or due or stopping or enough:
                with clock.saving():
                    for book in books:
                        book.save(state, clock, plan.points)
            if stopping and not finished:
                raise InterruptedRun(_interruption(books, points, plan.points))
            if enough:
                break
    _warn_of_losses(books)
    return state, [book.dataset(clock) for book in books]


def _epoch(trainer: Trainer, state: Any, books: list[Book], clock: _Clock) -> Any:
    """Computes a logging point and records it; the state after it. Of errors, all is written."""
    point = _done(books) + 1
    try:
        state, output = trainer.epoch(state)
        output = jax.device_get(_wait(output))
        _record(books, output, _evaluate(trainer, state, books, point))
    except (DivergedError, EnvironmentFailed) as error:
        for book in books:
            book.write_metrics(clock)
        raise _stopped(error, books, trainer.plan.points) from error
    return state


def _done(books: list[Book]) -> int:
    """Logging points done; lost runs have recorded fewer."""
    return max(book.recorder.points for book in books)


def _record(books: list[Book], output: EpochOutput, greedy: np.ndarray | None) -> None:
    """Adds a logging point to all books; raises DivergedError if none is left to write in."""
    for book in books:
        if book.lost is None:
            try:
                book.append(output, greedy)
            except DivergedError as error:
                book.lost = error
    if all(book.lost for book in books):
        raise books[0].lost or AssertionError


def _teller(
    books: list[Book], planned: int, clock: _Clock, opened: ExitStack, callback: Callback | None
) -> Callable[[], bool]:
    """A function that tells whoever follows of the newest logging point.

    It returns whether the callback asks for the end of the run. Dashboards are opened here, with
    the points that a resumed run begins with, and closed with ``opened``.
    """
    trackers: list[list[Tracker]] = []
    for book in books:
        made: list[Tracker] = []
        earlier = partial(_points, book, planned, clock.seconds)
        if book.directory is not None:
            for kind in asked(book.config):
                tracker = Tracker(kind, book.config, book.directory.path, earlier)
                made.append(opened.enter_context(tracker))
        trackers.append(made)

    def tell() -> bool:
        enough = False
        for book, following in zip(books, trackers, strict=True):
            if book.lost is None and (following or callback):
                point = book.point(book.recorder.points - 1, planned, clock.seconds)
                for tracker in following:
                    tracker.write(point)
                enough |= callback is not None and _is_true(callback(point))
        return enough

    return tell


def _told(
    tell: Callable[[], bool],
    state: Any,
    books: list[Book],
    clock: _Clock,
    planned: int,
    stop: StopRequest,
) -> bool:
    """What ``tell`` returns; whatever it raises is raised after all is saved, and says so."""
    try:
        return tell()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt) and stop.requested:
            raise  # a second Ctrl-C, which ends at once
        for book in books:
            book.save(state, clock, planned)
        error.add_note(_interruption(books, _done(books), planned, "The callback raised this"))
        raise


def _points(book: Book, planned: int, seconds: float) -> Iterator[LoggingPoint]:
    """All logging points so far; how long each took is not known any more."""
    count = book.recorder.points
    for index in range(count):
        yield book.point(index, planned, seconds * (index + 1) / count)


def _is_true(answer: object) -> bool:
    """Nothing else asks for an end: functions return all kinds of things by the way."""
    return isinstance(answer, bool | np.bool_) and bool(answer)


def _summary(books: list[Book]) -> str:
    """The newest return of the run, or the best of several."""
    if len(books) == 1:
        return books[0].recorder.summary()
    kept = [book for book in books if book.lost is None]
    best, gone = max(book.recorder.last_return() for book in kept), len(books) - len(kept)
    lost = f" ({gone} of {len(books)} settings lost)" if gone else ""
    return f"best return {best:.2f}{lost}"


def _settle(trainer: Trainer, start: Start) -> None:
    """Brings the newest evaluation of a resumed run to what it is in a run of this length.

    One that was made because the run ended there goes if it no longer does, and the other way
    round.
    """
    books, points = start.books, start.books[0].recorder.points
    due = evaluation_due(points, trainer.plan.points, books[0].config)
    if due != books[0].recorder.evaluated:
        greedy = _evaluate(trainer, start.state, books, points)
        for book in books:
            book.recorder.replace_greedy(None if greedy is None else book.part(greedy))


def evaluation_due(point: int, points: int, config: TrainConfig) -> bool:
    """Whether the greedy policies are evaluated at a logging point of a run of so many."""
    interval = config.execution.evaluation_interval
    return bool(interval) and (point % interval == 0 or point >= points)


def _evaluate(trainer: Trainer, state: Any, books: list[Book], point: int) -> np.ndarray | None:
    """Mean greedy return of each seed ``[S]`` where one is due after this many logging points.

    The starts depend on the seed and the point alone: a resumed run draws the same, and so does the
    same seed in another run.
    """
    if not evaluation_due(point, trainer.plan.points, books[0].config):
        return None
    keys = evaluation_keys(trainer.seeds, point=point)
    return np.asarray(trainer.evaluate(state.learner, keys)).mean(axis=1)


def _warn_of_losses(books: list[Book]) -> None:
    """Names the seeds that have diverged."""
    for book in books:
        if lost := book.recorder.diverged:
            which = f"{book.name}: " if book.name else ""
            losses = _losses(list(lost.values()), book.config.seeds)
            warnings.warn(f"{which}{losses}", stacklevel=3)


def _losses(reasons: list[str], seeds: int) -> str:
    """Which seeds of a run were lost, in one sentence."""
    lost = f"{len(reasons)} of {seeds} seeds diverged and {'is' if len(reasons) == 1 else 'are'}"
    return f"{lost} left out of all results: {'; '.join(reasons)}."


class _Clock:
    """Wall-clock time of runs over all their processes, and the current pace."""

    def __init__(self, before: float, steps_per_point: int, runs: int) -> None:
        self._origin = time.monotonic() - before
        self._steps, self._runs = steps_per_point, runs
        self._last = self._saved = time.monotonic()
        self._saving = 0.0
        self.pace = 0.0
        """Environment steps per second in the last epoch, summed over seeds."""

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._origin

    def tick(self) -> None:
        """Ends an epoch."""
        now = time.monotonic()
        self.pace, self._last = self._steps / max(now - self._last, 1e-9), now

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Around a save, to know how long one takes."""
        begin = time.monotonic()
        yield
        self._saved = time.monotonic()
        self._saving = self._saved - begin

    @property
    def may_save(self) -> bool:
        """Whether a save would leave saving a small share of the time.

        A GPU trains for a second between checkpoints whose replays take as long to write.
        """
        if self._saving < _NOTICEABLE:
            return True
        return time.monotonic() - self._saved > self._saving / _SAVING_SHARE

    def average(self, points: int) -> float:
        """Environment steps of one run per second since it began, compilation included."""
        return points * self._steps / self._runs / max(self.seconds, 1e-9)


def _stopped(
    error: DivergedError | EnvironmentFailed, books: list[Book], planned: int
) -> Exception:
    """The same error, with what is kept of the runs."""
    directory, points = books[0].directory, _done(books)
    if isinstance(error, DivergedError):
        kept = _NOT_SAVED if directory is None else "metrics up to there are kept."
        return DivergedError(f"{error}; {kept}")
    kept = _NOT_SAVED
    if directory is not None:
        saved = "the last checkpoint" if steps(directory.checkpoints) else "the config"
        kept = f"metrics and {saved} are kept. {_how_to_resume(books)}"
    where = f"Stopped after {points} of {planned} logging points"
    return EnvironmentFailed(f"{where}; {kept}\n{error}")


def _interruption(books: list[Book], points: int, planned: int, what: str = "Interrupted") -> str:
    where = f"{what} after {points} of {planned} logging points"
    if books[0].directory is None:
        return f"{where}; {_NOT_SAVED}"
    if points >= planned:
        return f"{where}; the run is finished and saved."
    return f"{where}; {'saved' if points else 'the settings are saved'}. {_how_to_resume(books)}"


def _how_to_resume(books: list[Book]) -> str:
    directory = books[0].directory
    if directory is None or len(books) > 1:
        return "To go on, ask for the same settings again with resume=True."
    return f"To go on: mamt train --resume --out {quoted(directory.path)}"


def _wait(output: Any) -> Any:
    """Blocks until an epoch is done, handling signals meanwhile."""
    for leaf in jax.tree.leaves(output):
        while hasattr(leaf, "is_ready") and not leaf.is_ready():
            time.sleep(_POLL)
    return output
