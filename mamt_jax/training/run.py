"""Training from the host: :func:`train` starts or resumes a run, :func:`load` opens one."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from dataclasses import dataclass, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from mamt_jax.config import ConfigError, TrainConfig, make_config
from mamt_jax.errors import RunError
from mamt_jax.files import user_path
from mamt_jax.training import checkpoint, summary
from mamt_jax.training.game import check_unchanged, game_of
from mamt_jax.training.loop import Start, evaluation_due, train_loop
from mamt_jax.training.memory import check_memory
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.plan import REPLAY_SIZES, check_sizes
from mamt_jax.training.playing import Playing
from mamt_jax.training.policies import Policies
from mamt_jax.training.programs import as_written, compilation_cache
from mamt_jax.training.progress import StopRequest, notice
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.seeds import seed_batch
from mamt_jax.training.stage.base import Stage
from mamt_jax.training.trainer import Trainer, make_stage, make_trainer
from mamt_jax.training.trajectory import Trajectory
from mamt_jax.types import Algorithm

if TYPE_CHECKING:
    from mamt_jax.envs import Environment, HostEnvironment


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A finished or recorded run.

    Attributes:
        config: What was run.
        metrics: Everything recorded; ``training.metrics`` lists the quantities.
        path: The run directory, None for a run in memory.
    """

    config: TrainConfig
    metrics: xr.Dataset
    path: Path | None
    _find_policies: Callable[[], Policies]

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
            NumPy arrays, named; ``training.trajectory.FIELDS`` has their dimensions and units.

        Raises:
            ConfigError: An argument is out of range, or the environment is not to be had.
            DivergedError: The policies of that seed are not finite.
            EnvironmentFailed: A process that steps a host environment crashed or hangs.
        """
        return self._playing.play(episodes, seed, greedy, key)

    @cached_property
    def stage(self) -> Stage:
        """Where the run's episodes take place.

        Raises:
            ConfigError: The environment is not to be had, or has changed since the run.
        """
        env, game = make_env(self.config), self.policies.game
        if game:
            check_unchanged(self.config.env, game, game_of(env.spec))
        return make_stage(env, self.config)

    @cached_property
    def _playing(self) -> Playing:
        return Playing(self.stage, self.policies)


def train(
    algorithm: str = "mamt",
    env: str = "spread",
    *,
    seeds: int = 8,
    episodes: int = 10_000,
    out: str | Path | None = None,
    resume: bool = False,
    env_options: dict[str, Any] | None = None,
    progress: bool = False,
    **options: Any,
) -> Run:
    """Trains all seeds of one algorithm on one environment in one compiled program.

    Args:
        algorithm: Registered algorithm.
        env: Registered environment.
        seeds: Number of independent seeds.
        episodes: Training episodes per seed.
        out: Run directory; None keeps everything in memory.
        resume: Goes on with the run in ``out``. Its settings must be the same but for
            ``config.EXECUTION`` and ``episodes``, which may also prolong a finished run.
        env_options: Keyword options of the environment.
        progress: Shows a progress bar.
        **options: Any other field of ``TrainConfig`` or ``AlgorithmConfig``.

    Raises:
        ConfigError: A setting is unknown or out of range.
        RunError: ``out`` is taken, corrupt, or its disk is full.
        DivergedError: A recorded quantity became NaN or infinite in every seed.
        EnvironmentFailed: A process that steps a host environment crashed or hangs.
        InterruptedRun: Ctrl-C or another signal; the run was saved first.
    """
    config = make_config(
        algorithm=algorithm,
        env=env,
        seeds=seeds,
        episodes=episodes,
        env_options=env_options or {},
        **options,
    )
    return run_config(config, out=out, resume=resume, progress=progress)


def run_config(
    config: TrainConfig,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    progress: bool = False,
) -> Run:
    """As :func:`train`, for a finished config."""
    directory = None if out is None else RunDir(user_path(out))
    trainer, algorithm, config = prepare(config)
    if resume and directory is None:
        raise ConfigError("resume needs the run directory (out).")
    if directory is not None:  # before anything is compiled
        _check_resumable(directory, trainer, config) if resume else directory.check_free()
    with StopRequest() as stop:
        if not (resume and directory is not None and _done(directory) >= trainer.plan.points):
            notice(progress, "Compiling the update of all seeds.")
            check_memory(trainer, config)
        if directory is not None and not resume:
            directory.create(config, trainer.game, _absent(algorithm))
        return run_trainer(trainer, algorithm, config, directory, resume, progress, stop)


def _absent(algorithm: Algorithm) -> tuple[str, ...]:
    """Settings that runs of the algorithm do not have."""
    return REPLAY_SIZES if algorithm.on_policy else ()


def _check_resumable(directory: RunDir, trainer: Trainer, config: TrainConfig) -> None:
    """Refuses settings that the run in ``directory`` cannot go on with.

    Raises:
        ConfigError: They differ where they may not, or divide the episodes otherwise, or the
            environment has changed.
        RunError: There is no run.
    """
    directory.check_same(config)
    check_unchanged(config.env, directory.read_game(), trainer.game)
    before = directory.read_config()
    if before.episodes == config.episodes:
        return
    was, now = prepare(before)[0].plan, trainer.plan
    if (was.steps_per_point, was.collect) != (now.steps_per_point, now.collect):
        raise ConfigError(
            f"episodes cannot change from {before.episodes:,} to {config.episodes:,}: logging "
            f"points would be of another length; start another run."
        )


def prepare(config: TrainConfig) -> tuple[Trainer, Algorithm, TrainConfig]:
    """What runs a config, with nothing allocated or compiled yet, and the config as it runs.

    Raises:
        ConfigError: The config names what does not exist, or asks for what cannot be.
    """
    algorithm, env = make_algorithm(config)
    options = config.env_options | getattr(env, "found", {})
    config = replace(config, hyper=config.hyper.settled(), env_options=options)
    check_sizes(config, algorithm)
    seed_batch(config)  # raises where it does not divide the seeds
    return make_trainer(config, env, algorithm), algorithm, config


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
    begin = time.monotonic()
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    ids, per_event = jnp.asarray(seeds, jnp.int32), trainer.plan.updates_per_event
    start = None
    with directory.lock() if directory else nullcontext():
        if resume and directory is not None:
            _check_length(directory, trainer)
            complete = _is_complete(directory, trainer, config)
            if not complete:
                start = _restore(directory, jax.eval_shape(trainer.init, ids), per_event)
            directory.update_config(config, without=_absent(algorithm))
            if complete:
                message = f"The run in {directory.path} is finished; nothing to do."
                warnings.warn(message, stacklevel=4)
                return load_with(algorithm, config, directory)
        if start is None:
            recorder = Recorder(list(seeds), per_event, trainer.game.agents)
            with compilation_cache():
                start = Start(trainer.init(ids), recorder, 0.0)
        start = start._replace(seconds=start.seconds + time.monotonic() - begin)
        with closing(trainer):
            state, metrics = train_loop(trainer, start, config, directory, progress, stop)
    policies = Policies(algorithm, state.learner, seeds, trainer.game)
    return Run(config, metrics, directory.path if directory else None, lambda: policies)


def _restore(directory: RunDir, like: Any, updates_per_event: int) -> Start | None:
    """State and records at the newest intact checkpoint; None where none was written yet."""

    def read(step: Path) -> tuple[checkpoint.Meta, Any]:
        return checkpoint.read_meta(step), checkpoint.restore(step, like)

    found = directory.newest_intact(read)
    if found is None:
        return None
    meta, state = found
    metrics = directory.read_metrics()
    if metrics.sizes["update"] < meta.points:
        raise RunError(f"The metrics in {directory.path} end before its checkpoint.")
    recorder = Recorder.from_dataset(metrics, meta.points, updates_per_event)
    return Start(state, recorder, meta.seconds)


def _done(directory: RunDir) -> int:
    """Logging points before the newest checkpoint, intact or not."""
    return max(directory.saved(), default=0)


def _check_length(directory: RunDir, trainer: Trainer) -> None:
    """Raises ConfigError if more is done already than the run is to have."""
    done, plan = _done(directory), trainer.plan
    if done > plan.points:
        raise ConfigError(
            f"episodes must be at least the {done * plan.episodes_per_point:,} that are done in "
            f"{directory.path}."
        )


def _is_complete(directory: RunDir, trainer: Trainer, config: TrainConfig) -> bool:
    """Whether all of the planned run is done, its last evaluation included.

    Warns of corrupt checkpoints that are passed over.

    Raises:
        RunError: All checkpoints are corrupt.
    """
    points = trainer.plan.points
    if _done(directory) < points:  # restoring reads them anyway
        return False
    meta = directory.newest_intact(checkpoint.check_whole)
    if meta is None or meta.points < points:
        return False
    if not evaluation_due(points, points, config):
        return True
    metrics = directory.read_metrics()
    return "greedy_return" in metrics and bool(np.isfinite(metrics.greedy_return[:, -1]).any())


def is_finished(directory: RunDir) -> bool:
    """Whether the run reached the end of its plan."""
    meta = directory.newest_intact(checkpoint.read_meta)
    return meta is not None and meta.points >= prepare(directory.read_config())[0].plan.points


def load(path: str | Path, checkpoint: int | None = None) -> Run:
    """Opens a recorded run, finished or not: config, metrics, and policies ready to act.

    Nothing of this needs the run's environment; ``evaluate`` does.

    Args:
        path: Run directory.
        checkpoint: Whose policies: the logging points done before it, as its folder is named. By
            default the newest that is intact.

    Raises:
        RunError: There is no run, no metrics yet, or they are corrupt, or there is no such
            checkpoint. Checkpoints are first read when the policies are asked for.
    """
    directory = RunDir(user_path(path))
    config = directory.read_config()
    if checkpoint is not None:
        directory.checkpoint_at(checkpoint)
    find_policies = partial(_recorded_policies, config, directory, checkpoint)
    return Run(config, directory.read_metrics(), directory.path, find_policies)


@as_written()
def _recorded_policies(config: TrainConfig, directory: RunDir, points: int | None) -> Policies:
    from mamt_jax.algorithms import registry

    game = directory.read_game()
    algorithm = registry.make(config.algorithm, game, config.hyper)
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
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    like = jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), len(seeds)))
    if points is None:
        learner = directory.newest_intact(lambda step: checkpoint.restore_learner(step, like))
    else:
        learner = checkpoint.restore_learner(directory.checkpoint_at(points), like)
    if learner is None:
        raise RunError(f"{directory.path} holds no checkpoint yet.")
    return Policies(algorithm, learner, seeds)


def _as_recorded(options: dict[str, Any]) -> dict[str, Any]:
    """As they are read when the run goes on: tuples as lists, keys of dicts as texts."""
    with suppress(TypeError, ValueError):  # what is not to be recorded is what it is
        read: dict[str, Any] = json.loads(json.dumps(options))
        return read
    return options


def make_env(config: TrainConfig) -> Environment | HostEnvironment:
    """The config's environment; unknown names and options raise ConfigError."""
    from mamt_jax import envs

    try:
        env = envs.make(config.env, **_as_recorded(config.env_options))
        _ = env.spec  # what a host environment needs may be missing
        return env
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


@as_written()
def make_algorithm(config: TrainConfig) -> tuple[Algorithm, Environment | HostEnvironment]:
    """The config's algorithm and environment; unknown names raise ConfigError."""
    from mamt_jax.algorithms import registry

    env = make_env(config)
    return registry.make(config.algorithm, game_of(env.spec), config.hyper), env
