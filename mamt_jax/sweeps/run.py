"""A sweep from the host: :func:`sweep` starts or goes on with one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from mamt_jax.algorithms.registry import Builder, Recipe
from mamt_jax.analysis.returns import last_by_seed
from mamt_jax.analysis.seeds import diverged, surviving
from mamt_jax.config import TrainConfig
from mamt_jax.envs import Environment, HostEnvironment
from mamt_jax.errors import ConfigError, DivergedError, InterruptedRun, RunError
from mamt_jax.files import quoted, user_path
from mamt_jax.reports.texts import counted
from mamt_jax.settings.fields import check
from mamt_jax.sweeps.directory import RUNS, note_question, open_directory
from mamt_jax.sweeps.grid import Grid, Point, by_structure, read_grid
from mamt_jax.sweeps.halving import Decision
from mamt_jax.sweeps.results import Sweep, read_results
from mamt_jax.sweeps.study import SweepStudy, Trial
from mamt_jax.training.call import read_call
from mamt_jax.training.memory import free_bytes, memory_of
from mamt_jax.training.prepare import NAMES_ONLY, Objects, prepare_together
from mamt_jax.training.progress import notice
from mamt_jax.training.result import Run
from mamt_jax.training.run import run_together
from mamt_jax.training.run_dir import RunDir, versions
from mamt_jax.training.shards import Recorded, is_lost, leaves

POLL = 5.0
"""Seconds between looks at what others are training."""
PATIENCE = 60.0
"""Seconds after which nobody is expected to go on with what nobody trains."""


def sweep(
    algorithm: str | Recipe | Builder = "mamt",
    env: str | Environment | HostEnvironment = "spread",
    *,
    grid: Mapping[str, Sequence[Any]],
    seeds: int = 8,
    episodes: int = 10_000,
    out: str | Path,
    halving: bool = False,
    storage: str | None = None,
    study: str | None = None,
    together: int = 0,
    env_options: dict[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> Sweep:
    """Trains every combination of some settings' values, and says which were best.

    Combinations that differ in numbers alone are trained in one program. What is done stays done:
    the same call goes on where an earlier one was stopped, at whatever moment.

    Args:
        algorithm: As for :func:`mamt_jax.train`.
        env: As for :func:`mamt_jax.train`.
        grid: Lists of values by setting of the algorithm; also ``num_envs`` and ``precision``.
        seeds: Number of independent seeds of each combination.
        episodes: Training episodes per seed: the whole budget of a combination.
        out: Directory of the sweep, see :mod:`mamt_jax.sweeps.directory`.
        halving: The paper's successive halving: every combination is trained for a sixth of the
            episodes, the best sixth of them for a third, the best sixth of those for all.
        storage: URL of an Optuna storage that machines share; by default SQLite in ``out``. Runs
            stay in the ``out`` of the machine that began them, and are prolonged there.
        study: Name of the study in the storage; by default ALGORITHM-ENV.
        together: Combinations that are claimed and trained at once, at most; 0 means as many of one
            structure as there is memory for.
        env_options: Keyword options of the environment.
        progress: Shows what is trained, with progress bars.
        **options: As for :func:`mamt_jax.train`, one value each.

    Returns:
        The results, best first.

    Raises:
        ConfigError: A setting is unknown, out of range or cannot be in a grid; ``out`` or the study
            holds another sweep; the storage cannot be opened; or Optuna is not installed.
        RunError: ``out`` is taken, its disk full, the storage gone, or runs lie elsewhere.
        EnvironmentFailed, InterruptedRun: As :func:`mamt_jax.train`.
    """
    run = {"seeds": seeds, "episodes": episodes, "env_options": env_options or {}}
    if isinstance(grid, Mapping) and (twice := sorted(set(grid) & set(options))):
        raise ConfigError(f"{twice[0]} is in the grid, and cannot be given beside it.")
    call = read_call(algorithm, env, None, run | options)
    if call.is_list:
        lists = [name for name in options if isinstance(options[name], list | tuple | np.ndarray)]
        raise ConfigError(f"{lists[0]} has several values, which belong into grid.")
    return sweep_config(
        call.configs[0],
        grid,
        out=out,
        halving=halving,
        storage=storage,
        study=study,
        together=together,
        progress=progress,
        objects=call.objects,
    )


def sweep_config(
    config: TrainConfig,
    grid: Mapping[str, Sequence[Any]],
    *,
    out: str | Path,
    halving: bool = False,
    storage: str | None = None,
    study: str | None = None,
    together: int = 0,
    progress: bool = False,
    objects: Objects = NAMES_ONLY,
) -> Sweep:
    """As :func:`sweep`, for a finished config, which all combinations share."""
    whole = isinstance(together, int) and not isinstance(together, bool) and together >= 0
    check(whole, "together", together, "an integer, 0 or greater")
    points = read_grid(config, grid, halving, objects)
    place = user_path(out)
    open_directory(place, points)
    url = storage or f"sqlite:///{place / 'study.db'}"
    name = study or f"{config.algorithm}-{config.env}"
    kept = SweepStudy(place, points, url, name)
    note_question(place, points)
    worker = _Worker(place, points, kept, objects, together, progress)
    with kept.working():
        worker.work()
    return read_results(place, points, kept.trials())


class _Worker:
    """What one process does for a sweep."""

    def __init__(
        self,
        out: Path,
        grid: Grid,
        study: SweepStudy,
        objects: Objects,
        together: int,
        progress: bool,
    ) -> None:
        self._out, self._grid, self._study, self._objects = out, grid, study, objects
        self._together, self._progress = together, progress

    def work(self) -> None:
        """Claims and trains until every point is judged, by this process or others."""
        heard = None  # of anybody at work, while this process waits
        while True:
            trials, decision, claimed = self._study.claim(self._choose)
            if claimed:
                heard = None
                self._train([trials[point] for point in claimed], decision.pending[claimed[0]])
            elif not decision.pending:
                return
            else:
                if heard is None:
                    notice(self._progress, "Waiting for what others train.")
                if heard is None or self._others_work(trials, decision):
                    heard = time.monotonic()
                if time.monotonic() - heard >= PATIENCE:
                    raise self._elsewhere(trials, decision)
                time.sleep(POLL)

    def _choose(self, trials: Sequence[Trial], decision: Decision) -> list[int]:
        """Points of one structure and rung that can be trained here, as many as go together."""
        mine = [
            self._grid.points[point]
            for point, level in decision.pending.items()
            if trials[point].state.name == "WAITING" and (not level or self._is_here(point))
        ]
        mine = [point for point in mine if not Recorded(self._path(point)).is_written()]
        if not mine:
            return []
        some = next(iter(by_structure(mine).values()))
        return [point.index for point in some[: self._room(some)]]

    def _room(self, points: Sequence[Point]) -> int:
        """How many of these points, of one structure, are trained at once."""
        most = self._together or len(points)
        if min(most, len(points)) == 1:
            return 1
        configs = [point.config for point in points[:most]]
        needed = memory_of(prepare_together(configs, self._objects).trainer).total
        free = free_bytes()
        return most if free is None or needed <= free else max(1, most * free // needed)

    def _others_work(self, trials: Sequence[Trial], decision: Decision) -> bool:
        return any(trials[point].state.name != "WAITING" for point in decision.pending)

    def _elsewhere(self, trials: Sequence[Trial], decision: Decision) -> RunError:
        """What is raised where nobody is left to wait for."""
        missing = [trials[point].attrs["run"] for point in decision.pending]
        return RunError(
            f"{counted(len(missing), 'setting')} to be trained further, and nobody does: runs are "
            f"not in {self._out} ({missing[0]}{', …' if len(missing) > 1 else ''}); go on where "
            f"they are, or copy them here."
        )

    def _path(self, point: Point) -> Path:
        return self._out / RUNS / point.name

    def _is_here(self, point: int) -> bool:
        return bool(Recorded(self._path(self._grid.points[point])).saved())

    def _train(self, trials: Sequence[Trial], level: int) -> None:
        """Trains claimed points, of one structure, to a rung, and reports them."""
        episodes = self._grid.rungs[level]
        for some in _buckets([(trial, self._path_of(trial)) for trial in trials]):
            points = [self._grid.points[trial.point] for trial in some]
            notice(self._progress, self._title(points, level))
            begin = time.monotonic()
            try:
                runs = self._run(points, episodes)
            except DivergedError as error:
                self._bury(some, error)
                continue
            except InterruptedRun as error:
                raise InterruptedRun(
                    f"Interrupted; what was trained is saved in {quoted(self._out)}. To go on, "
                    f"ask for the same sweep again."
                ) from error
            share = (time.monotonic() - begin) / len(some)
            for trial, run in zip(some, runs, strict=True):
                self._report(trial, run, episodes, share)

    def _path_of(self, trial: Trial) -> RunDir:
        return RunDir(self._path(self._grid.points[trial.point]))

    def _title(self, points: Sequence[Point], level: int) -> str:
        names = [point.name for point in points]
        several = f"{len(names)} settings in one program, {names[0]} to {names[-1]}"
        of = f"Rung {level + 1} of {len(self._grid.rungs)}, " if len(self._grid.rungs) > 1 else ""
        what = several if len(names) > 1 else names[0]
        return f"{of}{self._grid.rungs[level]:,} episodes: {what}."

    def _run(self, points: Sequence[Point], episodes: int) -> list[Run]:
        configs = [replace(point.config, episodes=episodes) for point in points]
        outs = [self._path(point) for point in points]
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".* is finished; nothing to do")
            return run_together(
                configs,
                outs,
                self._objects,
                resume=RunDir(outs[0]).holds_run(),
                progress=self._progress,
            )

    def _report(self, trial: Trial, run: Run, episodes: int, seconds: float) -> None:
        lost = diverged(run.metrics)
        if len(lost) == run.metrics.sizes["seed"]:
            return self._study.lose(trial, f"all seeds diverged, first at {min(lost.values())}")
        returns = last_by_seed(surviving(run.metrics))
        if not np.isfinite(returns).any():
            return self._study.lose(trial, "no episode ended")
        returns = returns[np.isfinite(returns)]
        attrs = {
            "commit": _commit(),
            "episodes": int(run.metrics.episodes.sum("event").min()),
            "returns": [float(each) for each in returns],
            "seconds": round(trial.attrs.get("seconds", 0.0) + seconds, 3),
        }
        self._study.report(trial, episodes, float(returns.mean()), attrs)

    def _bury(self, trials: Sequence[Trial], error: DivergedError) -> None:
        """Records whose seeds have all diverged; the others are claimed again."""
        lost = [trial for trial in trials if all(map(is_lost, leaves(self._path_of(trial))))]
        for trial in lost or trials[: len(trials) == 1]:
            self._study.lose(trial, "all seeds diverged")
        if not lost and len(trials) > 1:
            raise error
        self._study.release([trial.id for trial in trials])


def _buckets(trials: Sequence[tuple[Trial, RunDir]]) -> list[list[Trial]]:
    """Trials that can begin together: new ones, and those with a checkpoint in common.

    A process that was killed may have left runs at different logging points.
    """
    fresh = [trial for trial, place in trials if not place.holds_run()]
    found: list[tuple[set[int], list[Trial]]] = []
    for trial, place in trials:
        if not place.holds_run():
            continue
        saved = set(Recorded(place.path).saved())
        for index, (common, some) in enumerate(found):
            if saved & common or not (saved or common):
                found[index] = (saved & common, [*some, trial])
                break
        else:
            found.append((saved, [trial]))
    return [each for each in (fresh, *(some for _, some in found)) if each]


@cache
def _commit() -> str:
    return str(versions()["git_commit"] or "unknown")
