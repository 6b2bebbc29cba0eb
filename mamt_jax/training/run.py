"""Training from the host: :func:`train` starts or resumes a run, :func:`load` opens one."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from mamt_jax.algorithms.registry import Builder, Recipe, recipe_of
from mamt_jax.config import TrainConfig
from mamt_jax.envs import Environment, HostEnvironment
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.files import user_path
from mamt_jax.training import checkpoint, summary
from mamt_jax.training import resume as resuming
from mamt_jax.training.call import check_env, read_call
from mamt_jax.training.game import check_unchanged, game_of
from mamt_jax.training.loop import Start, train_loop
from mamt_jax.training.memory import check_memory
from mamt_jax.training.playing import Playing
from mamt_jax.training.policies import Policies
from mamt_jax.training.prepare import (
    NAMES_ONLY,
    Objects,
    PreparedTogether,
    make_env,
    make_recipe,
    prepare_together,
)
from mamt_jax.training.programs import as_written, compilation_cache
from mamt_jax.training.progress import StopRequest, notice
from mamt_jax.training.recording import options_text, playing_with, record
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.stage.base import Stage
from mamt_jax.training.trainer import Trainer, make_stage
from mamt_jax.trajectories.recording import Recording
from mamt_jax.trajectories.trajectory import Trajectory
from mamt_jax.types import Algorithm


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished or recorded run.

    Attributes:
        config: What was run.
        metrics: Everything recorded; ``quantities.py`` lists the quantities.
        path: The run directory, None for a run in memory.
    """

    config: TrainConfig
    metrics: xr.Dataset
    path: Path | None
    _find_policies: Callable[[], Policies]
    _objects: Objects = NAMES_ONLY

    @cached_property
    def policies(self) -> Policies:
        """The trained policies; those of a recorded run are read when they are first asked for.

        Raises:
            RunError: The run has no checkpoint yet, or no intact one.
            ConfigError: There is no such algorithm any more.
        """
        return self._find_policies()

    def __getstate__(self) -> dict[str, Any]:
        """For pickle: what was compiled or read on demand stays behind."""
        return {one.name: getattr(self, one.name) for one in fields(self)}

    def __repr__(self) -> str:
        return summary.as_text(self.config, self.metrics, self.path)

    def _repr_html_(self) -> str:
        return summary.as_html(self.config, self.metrics, self.path)

    def evaluate(self, episodes: int = 10, seed: int = 0) -> np.ndarray:
        """Returns of greedy episodes.

        Args:
            episodes: Episodes per trained seed.
            seed: Seed of the evaluation's own randomness.

        Returns:
            ``[S, episodes]``: undiscounted return, averaged over agents; NaN for seeds that
            diverged in training.

        Raises:
            ConfigError: An argument is out of range, or the environment is not to be had.
            EnvironmentFailed: A process that steps a host environment crashed or hangs.
        """
        return self._playing.evaluate(episodes, seed)

    def play(
        self, episodes: int = 1, seed: int | None = None, greedy: bool = True, key: int = 0
    ) -> Trajectory:
        """Episodes of one seed's policies, with all that is to be seen and said of every step.

        Greedy ones are those of ``evaluate(episodes, seed=key)``.

        Args:
            episodes: How many, side by side.
            seed: Trained seed that plays; by default the first.
            greedy: Most probable actions; otherwise sampled.
            key: Seed of the episodes' own randomness.

        Returns:
            NumPy arrays, named; ``trajectories.trajectory.FIELDS`` has their dimensions and units.

        Raises:
            ConfigError: An argument is out of range, or the environment is not to be had.
            DivergedError: The policies of that seed are not finite.
            EnvironmentFailed: A process that steps a host environment crashed or hangs.
        """
        return self._playing.play(episodes, seed, greedy, key)

    def episodes(
        self,
        episodes: int = 8,
        seed: int | None = None,
        *,
        greedy: bool = True,
        key: int = 0,
        checkpoint: int | None = None,
        env_options: dict[str, Any] | None = None,
    ) -> Recording:
        """As :meth:`play`, to be looked at, and kept: an xarray Dataset with names and units.

        Args:
            episodes: How many.
            seed: Trained seed that plays; by default the first.
            greedy: Most probable actions; otherwise sampled.
            key: Seed of the episodes' own randomness: with the same, all policies start alike.
            checkpoint: Whose policies, as of :func:`load`; by default those of ``policies``.
            env_options: Options of the environment that are other than in training.

        Returns:
            See :mod:`mamt_jax.trajectories.recording`; ``to_netcdf("x.nc")`` keeps it in a file.

        Raises:
            RunError: There is no such checkpoint.
            ConfigError, DivergedError, EnvironmentFailed: As :meth:`play`; or the environment with
                these options does not fit the policies.
        """
        playing, options = self._playing, env_options or {}
        if options:
            playing = self._playing_with(options_text(options))
        if checkpoint is not None:
            playing = playing.by(self._policies_at(checkpoint))
        return record(playing, self.config, self.metrics, options, (episodes, seed, greedy, key))

    @cached_property
    def stage(self) -> Stage:
        """Where the run's episodes take place.

        Raises:
            ConfigError: The environment is not to be had, or has changed since the run.
        """
        env, game = make_env(self.config, self._objects), self.policies.game
        if game:
            check_unchanged(self.config.env, game, game_of(env.spec))
        return make_stage(env, self.config)

    @cached_property
    def _playing(self) -> Playing:
        return Playing(self.stage, self.policies)

    @cached_property
    def _playing_with(self) -> Callable[[str], Playing]:
        """Options of the environment, as JSON -> playing in it; the latest are kept."""
        return lru_cache(4)(partial(playing_with, self.config, self._objects, self.policies))

    def _policies_at(self, points: int) -> Policies:
        if self.path is None:
            raise ConfigError("checkpoint: a run in memory has none; give it a directory (out).")
        policies = self.policies
        found = read_policies(policies.algorithm, self.config, RunDir(self.path), points)
        return replace(found, game=policies.game)


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


@as_written()
def read_policies(
    algorithm: Algorithm, config: TrainConfig, directory: RunDir, points: int | None = None
) -> Policies:
    """Policies at the checkpoint after that many logging points, or the newest intact one.

    Raises:
        RunError: There is none.
    """
    seeds = config.seed_ids
    like = jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), len(seeds)))
    if points is None:
        found = directory.newest_intact(
            lambda step: (checkpoint.restore_learner(step, like), int(step.name))
        )
        if found is None:
            raise RunError(f"{directory.path} holds no checkpoint yet.")
        learner, points = found
    else:
        learner = checkpoint.restore_learner(directory.checkpoint_at(points), like)
    return Policies(algorithm, learner, seeds, points=points)
