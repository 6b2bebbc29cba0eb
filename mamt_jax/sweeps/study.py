"""A sweep as a study of Optuna's, which several processes and machines may share.

Each point of the grid is a trial: its parameters, what it was worth at each rung (intermediate
values), what it is worth (value), and ``user_attrs``, see :class:`Trial`. A trial waits until a
process claims it, is trained to its next rung, and waits again; at the end it is complete, or
pruned.

Whoever holds a claim shows that it lives in two ways: to processes with the same directory by a
lock, which the system lifts when it dies; to others by Optuna's heartbeat.
"""

from __future__ import annotations

import threading
import uuid
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from mamt_jax.errors import ConfigError, RunError
from mamt_jax.sweeps.directory import RUNS, check_question, waited_lock
from mamt_jax.sweeps.grid import Grid
from mamt_jax.sweeps.halving import Decision, Standing, decide
from mamt_jax.sweeps.storage import (
    GRACE,
    HEARTBEAT,
    SQLAlchemyError,
    bottom_line,
    distributions,
    locks_of,
    open_storage,
    opening,
    optuna,
    quiet,
    shown,
)
from mamt_jax.training.run_dir import RunDir, disk_errors

TrialState = optuna.trial.TrialState
_FAILURE = "failure"


class Trial(NamedTuple):
    """The trial of a point, as it is now."""

    point: int
    id: int
    state: Any
    """Optuna's ``TrialState``."""
    standing: Standing
    attrs: dict[str, Any]
    """``point``, ``run`` (directory, as seen from the sweep's), ``commit``, ``episodes``,
    ``returns`` of each seed at the last rung reached, ``seconds`` that its training took,
    ``failure`` where it is lost, ``worker`` that holds it or did."""


class SweepStudy:
    """The study of a grid, opened by one process.

    Raises:
        ConfigError: The storage cannot be opened, or holds another sweep of this name.
        RunError: It cannot be reached any more.
    """

    def __init__(self, out: Path, grid: Grid, url: str, name: str) -> None:
        self._grid, self._out, self._url = grid, out, url
        self._beating: set[int] = set()
        self._ended = threading.Event()
        self._locks = [out / "lock", *(each for each in locks_of(url) if each.parent != out)]
        self._worker = RunDir(out / "workers" / uuid.uuid4().hex)
        with opening(url), warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            with self._locked(), quiet():
                self._storage = open_storage(url)
                self._study = optuna.create_study(
                    storage=self._storage,
                    study_name=name,
                    direction="maximize",
                    load_if_exists=True,
                )
                known = self._study.user_attrs.get("sweep")
                if known is None and self._study.get_trials(deepcopy=False):
                    raise ConfigError(
                        f"Study {name!r} in {shown(url)} is no sweep of mamt_jax; name another one."
                    )
                if known is None:
                    self._study.set_user_attr("sweep", grid.question())
            self._id = self._storage.get_study_id_from_name(name)
        if known is not None:
            check_question(known, grid.question(), f"Study {name!r} in {shown(url)}")

    @contextmanager
    def working(self) -> Iterator[None]:
        """While this process may hold claims; on leaving, those that it has are given back."""
        beat = threading.Thread(target=self._beat, daemon=True)
        with ExitStack() as held:
            with self._locked(), disk_errors(self._out, "begin", "what is there is kept"):
                self._worker.path.mkdir(parents=True)
                held.enter_context(self._worker.lock())  # at once: unlocked, it would be dead
            beat.start()
            try:
                yield
            finally:
                self._ended.set()
                with suppress(RunError):  # they count as dead after a while
                    self.release(list(self._beating))
        _remove(self._worker.path)

    def claim(
        self, choose: Callable[[Sequence[Trial], Decision], list[int]]
    ) -> tuple[list[Trial], Decision, list[int]]:
        """Brings the study up to date, and takes what is chosen, for nobody else to train.

        Args:
            choose: From trials, in the order of the grid, and what comes next to points that are to
                be claimed. Those that do not wait any more are left out.

        Returns:
            All trials, what comes next, and the points that were claimed.
        """
        with self._reached(), self._locked():
            self._bury()
            trials = self._trials()
            decision = decide([trial.standing for trial in trials], self._grid.rungs)
            self._settle(trials, decision)
            claimed = []
            for point in choose(trials, decision):
                trial = trials[point]
                if trial.state == TrialState.WAITING:
                    self._storage.record_heartbeat(trial.id)  # first: from now on it can be stale
                    if self._storage.set_trial_state_values(trial.id, TrialState.RUNNING):
                        self._beating.add(trial.id)
                        self._storage.set_trial_user_attr(trial.id, "worker", self._name)
                        claimed.append(point)
            return trials, decision, claimed

    def trials(self) -> list[Trial]:
        """All trials, in the order of the grid."""
        with self._reached():
            return self._trials()

    def report(self, trial: Trial, episodes: int, value: float, attrs: Mapping[str, Any]) -> None:
        """Records what a claimed point is worth at a rung, and gives it back."""
        with self._reached(), self._mine(trial):
            for name, each in attrs.items():
                self._storage.set_trial_user_attr(trial.id, name, each)
            self._storage.set_trial_intermediate_value(trial.id, episodes, value)
        self.release([trial.id])

    def lose(self, trial: Trial, why: str) -> None:
        """Records that a claimed point is lost: all of its seeds have diverged."""
        self._beating.discard(trial.id)
        with self._reached(), self._mine(trial):
            self._storage.set_trial_user_attr(trial.id, _FAILURE, why)
            self._storage.set_trial_state_values(trial.id, TrialState.FAIL)

    def release(self, ids: Sequence[int]) -> None:
        """Gives claims back; whoever comes next may take them."""
        with self._reached(), self._locked():
            for each in ids:
                self._beating.discard(each)
                trial = self._storage.get_trial(each)
                mine = trial.user_attrs.get("worker") == self._name
                if trial.state == TrialState.RUNNING and mine:
                    self._wait_again(each)

    @property
    def _name(self) -> str:
        return self._worker.path.name

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            for each in list(self._beating):
                with suppress(Exception):  # the storage may be away for a while
                    self._storage.record_heartbeat(each)

    def _wait_again(self, trial: int) -> None:
        self._storage.set_trial_user_attr(trial, "worker", "")
        self._storage.set_trial_state_values(trial, TrialState.WAITING)

    def _bury(self) -> None:
        """Frees what the dead have claimed, and enqueues the points that have no trial."""
        dead = [
            folder
            for folder in (self._out / "workers").glob("*")
            if not RunDir(folder).is_written() and folder != self._worker.path
        ]
        names = {folder.name for folder in dead}
        for trial in self._all():
            if trial.state == TrialState.RUNNING and trial.user_attrs.get("worker") in names:
                self._wait_again(trial._trial_id)
        for folder in dead:
            _remove(folder)
        with quiet():
            optuna.storages.fail_stale_trials(self._study)
        self._enqueue()

    def _enqueue(self) -> None:
        """A trial for each point that has none; with what a stale one had."""
        living, stale = set(), {}
        for trial in self._all():
            point = trial.user_attrs["point"]
            if _is_stale(trial):
                stale[point] = trial
            else:
                living.add(point)
        for point in self._grid.points:
            if point.index in living:
                continue
            before = stale.get(point.index)
            attrs = {"point": point.index, "run": f"{RUNS}/{point.name}"}
            self._study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.WAITING,
                    params=point.values,
                    distributions=distributions(self._grid, point),
                    user_attrs=attrs if before is None else before.user_attrs | {"worker": ""},
                    intermediate_values={} if before is None else before.intermediate_values,
                )
            )

    def _settle(self, trials: Sequence[Trial], decision: Decision) -> None:
        """Ends the trials of points that go no further."""
        last = self._grid.rungs[-1]
        for point in [*decision.out, *decision.done]:
            trial = trials[point]
            if trial.state != TrialState.WAITING:
                continue
            with suppress(optuna.exceptions.UpdateFinishedTrialError):
                if point in decision.done:
                    value = trial.standing.values[last]
                    self._storage.set_trial_state_values(trial.id, TrialState.COMPLETE, [value])
                else:
                    self._storage.set_trial_state_values(trial.id, TrialState.PRUNED)

    def _trials(self) -> list[Trial]:
        """One trial of each point: the first that is not stale.

        There may be others, where two machines began a sweep at the same moment.
        """
        found: dict[int, Trial] = {}
        for trial in self._all():
            point, attrs = trial.user_attrs["point"], trial.user_attrs
            if not _is_stale(trial) and point not in found:
                standing = Standing(point, dict(trial.intermediate_values), _FAILURE in attrs)
                found[point] = Trial(point, trial._trial_id, trial.state, standing, dict(attrs))
        missing = [point for point in self._grid.points if point.index not in found]
        if missing:
            raise RunError(f"{shown(self._url)} lacks trials of this sweep; start it again.")
        return [found[point.index] for point in self._grid.points]

    def _all(self) -> list[Any]:
        found: list[Any] = self._storage.get_all_trials(self._id, deepcopy=False)
        return [trial for trial in found if "point" in trial.user_attrs]

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Nobody else claims meanwhile: none with this directory, or with this SQLite file.

        Servers of databases lock the rows themselves.
        """
        with ExitStack() as held:
            for path in self._locks:
                held.enter_context(waited_lock(path))
            yield

    @contextmanager
    def _mine(self, trial: Trial) -> Iterator[None]:
        """Warns where a trial counts as dead by now, and is done by others."""
        try:
            yield
        except optuna.exceptions.UpdateFinishedTrialError:
            warnings.warn(
                f"{trial.attrs['run']} is in other hands: this process gave no sign of life for "
                f"{GRACE} seconds.",
                stacklevel=4,
            )

    @contextmanager
    def _reached(self) -> Iterator[None]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
                yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
            raise RunError(
                f"The study in {shown(self._url)} cannot be reached any more: "
                f"{bottom_line(error)}; what was trained is kept in {self._out}, and the same "
                f"command goes on."
            ) from error


def _remove(worker: Path) -> None:
    with suppress(OSError):
        (worker / "lock").unlink(missing_ok=True)
        worker.rmdir()


def _is_stale(trial: Any) -> bool:
    return bool(trial.state == TrialState.FAIL and _FAILURE not in trial.user_attrs)
