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
from mamt_jax.training import resume as resuming
from mamt_jax.training.call import check_env, read_call
from mamt_jax.training.loop import Start, train_loop
from mamt_jax.training.memory import check_memory
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
from mamt_jax.training.result import Run, read_policies
from mamt_jax.training.run_dir import RunDir
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
    run = {"seeds": seeds, "episodes": episodes, "env_options": env_options or {}}
    call = read_call(algorithm, env, out, run | options)
    runs = run_together(call.configs, call.outs, call.objects, resume=resume, progress=progress)
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
) -> list[Run]:
    """As :func:`train`, for configs that differ in the numbers of their settings alone."""
    places = [None if out is None else RunDir(user_path(out)) for out in outs]
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
        return _beside_lost(lost, prepared, places, objects, progress)
    trainer = prepared.trainer
    with StopRequest() as stop:
        done = [resuming.done(place) for place in places if place is not None] if resume else []
        if not done or min(done) < trainer.plan.points:
            notice(progress, "Compiling the update of all seeds.")
            check_memory(trainer)
        for place, config in zip(places, prepared.configs, strict=True):
            if place is not None and not resume:
                place.create(config, trainer.game)
        runs = run_trainers(prepared, places, resume, progress, stop)
    return [replace(run, _objects=objects) for run in runs]


def _beside_lost(
    lost: Sequence[RunDir],
    prepared: PreparedTogether,
    places: Sequence[RunDir | None],
    objects: Objects,
    progress: bool,
) -> list[Run]:
    """Goes on with the runs that have not diverged; the lost ones are as they were."""
    each = list(zip(prepared.algorithms, prepared.configs, places, strict=True))
    going = [(config, place) for _, config, place in each if place not in lost]
    outs = [place.path for _, place in going if place is not None]
    others = iter(
        run_together([config for config, _ in going], outs, objects, resume=True, progress=progress)
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
) -> Run:
    """Initialises or restores the state, trains to the end, and wraps up the result."""
    prepared = PreparedTogether(trainer, [algorithm], [config])
    (run,) = run_trainers(prepared, [directory], resume, progress, stop)
    return run


def run_trainers(
    prepared: PreparedTogether,
    directories: Sequence[RunDir | None],
    resume: bool = False,
    progress: bool = False,
    stop: StopRequest | None = None,
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
            ids = jnp.asarray(configs[0].seed_ids * len(configs), jnp.int32)
            with compilation_cache():
                start = Start(trainer.init(ids), books, 0.0)
        start = start._replace(seconds=start.seconds + time.monotonic() - begin)
        with closing(trainer):
            state, datasets = train_loop(trainer, start, progress, stop)
    runs = []
    for book, algorithm, metrics in zip(start.books, algorithms, datasets, strict=True):
        learner = book.part(state.learner)
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
    directory = RunDir(user_path(path))
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
