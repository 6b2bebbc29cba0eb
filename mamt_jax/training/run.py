"""Training from the host: :func:`train` starts or resumes a run, :func:`load` opens one."""

from __future__ import annotations

import os
import time
import warnings
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from mamt_jax.config import MOST_EPISODES, ConfigError, TrainConfig, check, make_config
from mamt_jax.errors import RunError
from mamt_jax.training import checkpoint
from mamt_jax.training.loop import Start, train_loop
from mamt_jax.training.memory import check_memory
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.policies import Policies
from mamt_jax.training.programs import as_written
from mamt_jax.training.progress import notice
from mamt_jax.training.run_dir import RunDir
from mamt_jax.types import Algorithm, Game

if TYPE_CHECKING:
    from envs import Environment, HostEnvironment
    from mamt_jax.training.trainer import Trainer


@dataclass(frozen=True, eq=False)
class Run:
    """A finished or recorded run.

    Attributes:
        config: What was run.
        metrics: Everything recorded; ``training.metrics`` lists the quantities.
        policies: The trained policies.
        path: The run directory, None for a run in memory.
    """

    config: TrainConfig
    metrics: xr.Dataset = field(repr=False)
    policies: Policies = field(repr=False)
    path: Path | None = None

    def evaluate(self, episodes: int = 10, seed: int = 0) -> np.ndarray:
        """Returns of greedy episodes.

        Args:
            episodes: Episodes per trained seed.
            seed: Seed of the evaluation's own randomness.

        Returns:
            ``[S, episodes]``: undiscounted return, averaged over agents; NaN for seeds that
            diverged in training.
        """
        from mamt_jax.training.evaluate import evaluation_keys, make_evaluator

        accepted = f"in 1 to {MOST_EPISODES:,}"
        check(1 <= episodes <= MOST_EPISODES, "episodes", episodes, accepted)
        check(0 <= seed < 2**31, "seed", seed, "in 0 to 2**31 - 1")
        env = make_env(self.config)
        play = make_evaluator(self.policies.algorithm, env, self.config, episodes)
        return np.asarray(play(self.policies.learner, evaluation_keys(self.policies.seeds, seed)))


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
        resume: Goes on with the run in ``out``; its settings must be the same.
        env_options: Keyword options of the environment.
        progress: Shows a progress bar.
        **options: Any other field of ``TrainConfig`` or ``AlgorithmConfig``.

    Raises:
        ConfigError: A setting is unknown or out of range.
        RunError: ``out`` is taken, corrupt, or its disk is full.
        DivergedError: A recorded quantity became NaN or infinite in every seed.
        EnvironmentFailed: A process that steps a host environment crashed or hangs.
        InterruptedRun: Ctrl-C or SIGTERM; the run was saved first.
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
    directory = None if out is None else RunDir(Path(out))
    trainer, algorithm, config = prepare(config)
    if resume and directory is None:
        raise ConfigError("resume needs the run directory (out).")
    if directory is not None:  # before anything is compiled
        directory.check_same(config) if resume else directory.check_free()
    if not (resume and directory is not None and is_finished(directory)):
        notice(progress, "Compiling the update of all seeds.")
        check_memory(trainer, config)
    if directory is not None and not resume:
        from mamt_jax.training.trainer import REPLAY_SIZES

        directory.create(config, without=REPLAY_SIZES if algorithm.on_policy else ())
    return run_trainer(trainer, algorithm, config, directory, resume, progress)


def prepare(config: TrainConfig) -> tuple[Trainer, Algorithm, TrainConfig]:
    """What runs a config, with nothing allocated or compiled yet, and the config as it runs.

    Raises:
        ConfigError: The config names what does not exist, or asks for what cannot be.
    """
    from mamt_jax.training.trainer import check_sizes, make_trainer, seed_batch

    use_compilation_cache()
    algorithm, env = make_algorithm(config)
    config = replace(config, hyper=config.hyper.settled())
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
) -> Run:
    """Initialises or restores the state, trains to the end, and wraps up the result."""
    begin = time.monotonic()
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    ids, per_event = jnp.asarray(seeds, jnp.int32), trainer.plan.updates_per_event
    start = None
    with directory.lock() if directory else nullcontext():
        if resume and directory is not None:
            if is_finished(directory):
                message = f"The run in {directory.path} is finished; nothing to do."
                warnings.warn(message, stacklevel=4)
                return load_with(algorithm, config, directory)
            start = _restore(directory, jax.eval_shape(trainer.init, ids), per_event)
        if start is None:
            recorder = Recorder(list(seeds), per_event)
            start = Start(trainer.init(ids), recorder, 0.0)
        start = start._replace(seconds=start.seconds + time.monotonic() - begin)
        state, metrics = train_loop(trainer, start, config, directory, progress)
    policies = Policies(algorithm, state.learner, seeds)
    return Run(config, metrics, policies, directory.path if directory else None)


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


def is_finished(directory: RunDir) -> bool:
    """Whether the run reached the end of its plan."""
    meta = directory.newest_intact(checkpoint.read_meta)
    return meta is not None and meta.finished


def load(path: str | Path) -> Run:
    """Opens a recorded run: policies ready to act, config and metrics.

    Raises:
        RunError: No run, no checkpoint yet, or corrupt files.
    """
    directory = RunDir(Path(path))
    config = directory.read_config()
    return load_with(make_algorithm(config)[0], config, directory)


@as_written()
def load_with(algorithm: Algorithm, config: TrainConfig, directory: RunDir) -> Run:
    """As :func:`load`, for a given algorithm."""
    seeds = tuple(range(config.seed, config.seed + config.seeds))
    like = jax.eval_shape(jax.vmap(algorithm.init), jax.random.split(jax.random.key(0), len(seeds)))
    learner = directory.newest_intact(lambda step: checkpoint.restore_learner(step, like))
    if learner is None:
        raise RunError(f"{directory.path} holds no checkpoint yet.")
    policies = Policies(algorithm, learner, seeds)
    return Run(config, directory.read_metrics(), policies, directory.path)


def make_env(config: TrainConfig) -> Environment | HostEnvironment:
    """The config's environment; unknown names and options raise ConfigError."""
    import envs

    try:
        env = envs.make(config.env, **config.env_options)
        _ = env.spec  # what a host environment needs may be missing
        return env
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


@as_written()
def make_algorithm(config: TrainConfig) -> tuple[Algorithm, Environment | HostEnvironment]:
    """The config's algorithm and environment; unknown names raise ConfigError."""
    from mamt_jax.algorithms import registry

    env = make_env(config)
    game = Game(env.spec.obs_sizes, env.spec.action_counts, env.spec.teams)
    return registry.make(config.algorithm, game, config.hyper), env


def use_compilation_cache() -> None:
    """Keeps compiled programs between runs, unless the user has set a cache of their own.

    ``MAMT_JAX_CACHE`` names another directory; empty turns the cache off.
    """
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mamt_jax"
    chosen = os.environ.get("MAMT_JAX_CACHE", str(default))
    if not chosen or getattr(jax.config, "jax_compilation_cache_dir", None):
        return
    try:
        Path(chosen).mkdir(parents=True, exist_ok=True)
        writable = os.access(chosen, os.W_OK)
    except OSError:
        return
    if writable:
        jax.config.update("jax_compilation_cache_dir", chosen)
