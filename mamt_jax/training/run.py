"""Training from the host: :func:`train` starts or resumes a run, :func:`load` opens one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from mamt_jax.algorithms.registry import Builder, Recipe, recipe_of
from mamt_jax.config import TrainConfig
from mamt_jax.envs import Environment, HostEnvironment
from mamt_jax.errors import ConfigError
from mamt_jax.files import user_path
from mamt_jax.settings.fields import check
from mamt_jax.training import resume as resuming
from mamt_jax.training.call import check_env, read_call
from mamt_jax.training.groups import Groups
from mamt_jax.training.loop import Start, train_loop
from mamt_jax.training.memory import DoesNotFit, fitted
from mamt_jax.training.mesh import on_devices, on_one
from mamt_jax.training.points import Callback
from mamt_jax.training.policies import Policies
from mamt_jax.training.prepare import (
    NAMES_ONLY,
    Objects,
    PreparedTogether,
    make_recipe,
    prepare_together,
)
from mamt_jax.training.programs import as_written, compilation_cache
from mamt_jax.training.progress import StopRequest, notice
from mamt_jax.training.result import Run, read_policies, side_by_side
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import Recorded, shards
from mamt_jax.training.trackers import check_trackers
from mamt_jax.training.trainer import Trainer
from mamt_jax.types import Algorithm


def train(
    algorithm: str | Recipe | Builder = "mamt",
    env: str | Environment | HostEnvironment = "spread",
    *,
    seeds: int = 8,
    episodes: int = 10_000,
    out: str | Path | None = None,
    resume: bool = False,
    env_options: dict[str, Any] | None = None,
    progress: bool = False,
    callback: Callback | None = None,
    **options: Any,
) -> Any:
    """Trains all seeds of one algorithm on one environment in one compiled program.

    A list in the place of a number trains every setting in it, in the same program: of two lists,
    all combinations.

    Args:
        algorithm: A registered algorithm, MODULE:NAME of one of yours, or itself: a
            :class:`~mamt_jax.algorithms.registry.Recipe`, or a function that builds one.
        env: A registered environment, MODULE:NAME of one of yours, or itself.
        seeds: Number of independent seeds.
        episodes: Training episodes per seed.
        out: Run directory; None keeps everything in memory. Of a list, each setting has a directory
            of its own in there, such as ``learning_rate=0.001``.
        resume: Goes on with the run in ``out``. Its settings must be the same but for how it is
            carried out (``config.Execution``) and ``episodes``, which may also prolong a finished
            run.
        env_options: Keyword options of the environment.
        progress: Shows a progress bar.
        callback: Called with a :class:`~mamt_jax.training.points.LoggingPoint` at every logging
            point of each run, between compiled epochs; of a resumed run at the new ones. If it
            returns True, training ends there: the runs are saved and returned as they are, and
            ``resume`` goes on with them. If it raises, they are saved first.
        **options: Any other field of ``TrainConfig`` or ``Execution``, or setting of the algorithm.

    Returns:
        A :class:`Run`; a list of them where there was a list of settings.

    Raises:
        ConfigError: A setting is unknown or out of range.
        RunError: ``out`` is taken, corrupt, or its disk is full.
        DivergedError: A recorded quantity became NaN or infinite in every seed.
        EnvironmentFailed: A process that steps a host environment crashed or hangs.
        InterruptedRun: Ctrl-C or another signal; the run was saved first.
    """
    check(callback is None or callable(callback), "callback", callback, "a function of one point")
    run = {"seeds": seeds, "episodes": episodes, "env_options": env_options or {}}
    call = read_call(algorithm, env, out, run | options)
    runs = run_together(
        call.configs,
        call.outs,
        call.objects,
        resume=resume,
        progress=progress,
        callback=callback,
    )
    return runs if call.is_list else runs[0]


def run_config(
    config: TrainConfig,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Run:
    """As :func:`train`, for a finished config."""
    (run,) = run_together([config], [out], resume=resume, progress=progress)
    return run


def run_together(
    configs: Sequence[TrainConfig],
    outs: Sequence[str | Path | None],
    objects: Objects = NAMES_ONLY,
    *,
    resume: bool = False,
    progress: bool = False,
    callback: Callback | None = None,
) -> list[Run]:
    """As :func:`train`, for configs that differ in the numbers of their settings alone."""
    places = [None if out is None else RunDir(user_path(out)) for out in outs]
    check_trackers(configs[0], has_directory=None not in places)
    prepared = prepare_together(configs, objects)
    if resume and None in places:
        raise ConfigError("resume needs the run directory (out).")
    for place, config in zip(places, prepared.configs, strict=True):
        if place is not None:  # before anything is compiled
            if resume:
                resuming.check_resumable(place, prepared.trainer, config, objects)
            else:
                place.check_free()
    if resume and (lost := resuming.lost([place for place in places if place is not None])):
        return _beside_lost(lost, prepared, places, objects, progress, callback)
    trainer = prepared.trainer
    groups = Groups(run_together, trainer, objects, progress, callback)
    if resume and any(shards(place) for place in places if place is not None):
        return _in_groups(groups, prepared, places, None, True)
    with StopRequest() as stop:
        done = [resuming.done(place) for place in places if place is not None] if resume else []
        unfit = None
        if not done or min(done) < trainer.plan.points:
            notice(progress, f"Compiling the update of all seeds{on_devices(trainer.mesh)}.")
            try:
                trainer = fitted(trainer)
            except DoesNotFit as error:
                if len(configs) * configs[0].seeds == 1:
                    raise
                unfit = error
        if unfit is None:
            if trainer.seed_batch < prepared.trainer.seed_batch:
                notice(progress, f"To fit, {trainer.seed_batch} are computed side by side.")
            for place, config in zip(places, prepared.configs, strict=True):
                if place is not None and not resume:
                    place.create(config, trainer.game)
            prepared = prepared._replace(trainer=trainer)
            runs = run_trainers(prepared, places, resume, progress, stop, callback)
            return [replace(run, _objects=objects) for run in runs]
    return _in_groups(groups, prepared, places, unfit.rows, resume)


def _in_groups(
    groups: Groups,
    prepared: PreparedTogether,
    places: Sequence[RunDir | None],
    rows: int | None,
    resume: bool,
) -> list[Run]:
    """Trains one group after another: of so many rows, or those that there are already."""
    configs = prepared.configs
    if rows is not None and len(configs) > 1:
        return groups.settings(configs, places, rows, resume)
    runs = []
    for algorithm, config, place in zip(prepared.algorithms, configs, places, strict=True):
        if place is not None and shards(place):
            made: Recorded | list[Run] = groups.shards(config, place)
        elif rows is not None:
            made = groups.seeds(config, place, rows, resume)
        else:  # one of several, and in one piece
            outs = [None if place is None else place.path]
            runs += run_together([config], outs, groups.objects, resume=True)
            continue
        if isinstance(made, list):
            runs.append(side_by_side(made, config))
        else:
            runs.append(load_with(algorithm, config, made))
    return [replace(run, _objects=groups.objects) for run in runs]


def _beside_lost(
    lost: Sequence[RunDir],
    prepared: PreparedTogether,
    places: Sequence[RunDir | None],
    objects: Objects,
    progress: bool,
    callback: Callback | None,
) -> list[Run]:
    """Goes on with the runs that have not diverged; the lost ones are as they were."""
    each = list(zip(prepared.algorithms, prepared.configs, places, strict=True))
    going = [(config, place) for _, config, place in each if place not in lost]
    outs = [place.path for _, place in going if place is not None]
    others = iter(
        run_together(
            [config for config, _ in going],
            outs,
            objects,
            resume=True,
            progress=progress,
            callback=callback,
        )
    )
    where = ", ".join(str(place.path) for place in lost)
    warnings.warn(f"All seeds diverged in {where}; the others went on.", stacklevel=4)
    return [
        replace(load_with(algorithm, config, place), _objects=objects)
        if place in lost and place is not None
        else next(others)
        for algorithm, config, place in each
    ]


def run_trainer(
    trainer: Trainer,
    algorithm: Algorithm,
    config: TrainConfig,
    directory: RunDir | None,
    resume: bool = False,
    progress: bool = False,
    stop: StopRequest | None = None,
    callback: Callback | None = None,
) -> Run:
    """Initialises or restores the state, trains to the end, and wraps up the result."""
    prepared = PreparedTogether(trainer, [algorithm], [config])
    (run,) = run_trainers(prepared, [directory], resume, progress, stop, callback)
    return run


def run_trainers(
    prepared: PreparedTogether,
    directories: Sequence[RunDir | None],
    resume: bool = False,
    progress: bool = False,
    stop: StopRequest | None = None,
    callback: Callback | None = None,
) -> list[Run]:
    """As :func:`run_trainer`, for all runs of a trainer."""
    begin = time.monotonic()
    trainer, algorithms, configs = prepared
    start = None
    with ExitStack() as locks:
        for directory in directories:
            if directory is not None:
                locks.enter_context(directory.lock())
        if resume:
            found = [directory for directory in directories if directory is not None]
            for directory in found:
                resuming.check_length(directory, trainer)
            complete = all(resuming.is_complete(each, trainer, configs[0]) for each in found)
            if not complete:
                start = resuming.restore(found, configs, trainer)
            for directory, config in zip(found, configs, strict=True):
                directory.update_config(config)
            if complete:
                where = ", ".join(str(directory.path) for directory in found)
                warnings.warn(f"The run in {where} is finished; nothing to do.", stacklevel=5)
                return [load_with(*one) for one in zip(algorithms, configs, found, strict=True)]
        if start is None:
            books = resuming.books(configs, directories, trainer)
            ids = jnp.asarray(trainer.seeds, jnp.int32)
            with compilation_cache():
                start = Start(trainer.init(ids), books, 0.0)
        start = start._replace(seconds=start.seconds + time.monotonic() - begin)
        with closing(trainer):
            state, datasets = train_loop(trainer, start, progress, stop, callback)
    runs = []
    for book, algorithm, metrics in zip(start.books, algorithms, datasets, strict=True):
        learner = book.part(on_one(state.learner) if trainer.mesh else state.learner)
        points = book.recorder.points
        policies = Policies(algorithm, learner, book.config.seed_ids, trainer.game, points)
        path = book.directory.path if book.directory else None
        runs.append(Run(book.config, metrics, path, partial(_same, policies)))
    return runs


def _same(policies: Policies) -> Policies:
    return policies


def load(
    path: str | Path,
    checkpoint: int | None = None,
    *,
    algorithm: Recipe | Builder | None = None,
    env: Environment | HostEnvironment | None = None,
) -> Run:
    """Opens a recorded run, finished or not: config, metrics, and policies ready to act.

    Nothing of this needs the run's environment; ``evaluate`` does.

    Args:
        path: Run directory.
        checkpoint: Whose policies: the logging points done before it, as its folder is named. By
            default the newest that is intact.
        algorithm: Where the run was given one as an object: the same again, for its policies.
        env: Where the run was given one as an object: the same again, for ``evaluate``.

    Raises:
        RunError: There is no run, no metrics yet, or they are corrupt, or there is no such
            checkpoint. Checkpoints are first read when the policies are asked for.
        ConfigError: What is given is no algorithm, not the run's, or no environment.
    """
    if env is not None:
        check_env(env)
    directory = Recorded(user_path(path))
    config = directory.read_config()
    if checkpoint is not None:
        directory.checkpoint_at(checkpoint)
    objects = Objects(None if algorithm is None else recipe_of(algorithm), env)
    if objects.algorithm is not None:
        settings = objects.algorithm.settings.replace(config.settings.flat(), config.algorithm)
        config = replace(config, settings=settings)
    find_policies = partial(_recorded_policies, config, objects, directory, checkpoint)
    return Run(config, directory.read_metrics(), directory.path, find_policies, objects)


@as_written()
def _recorded_policies(
    config: TrainConfig, objects: Objects, directory: RunDir, points: int | None
) -> Policies:
    game = directory.read_game()
    algorithm = make_recipe(config, objects)(game, config.settings)
    return replace(read_policies(algorithm, config, directory, points), game=game)


def load_with(
    algorithm: Algorithm, config: TrainConfig, directory: RunDir, points: int | None = None
) -> Run:
    """As :func:`load`, for a given algorithm."""
    find_policies = partial(read_policies, algorithm, config, directory, points)
    return Run(config, directory.read_metrics(), directory.path, find_policies)
