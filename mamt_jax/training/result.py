"""A run that is finished or recorded: what it was, what it recorded, and its policies."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr

from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.training import checkpoint, summary
from mamt_jax.training.episodes import options_text, playing_with, record
from mamt_jax.training.game import check_unchanged, game_of
from mamt_jax.training.merging import joined
from mamt_jax.training.playing import Playing
from mamt_jax.training.policies import Policies
from mamt_jax.training.prepare import NAMES_ONLY, Objects, make_env
from mamt_jax.training.programs import as_written
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import Recorded, is_lost, shards
from mamt_jax.training.stage.base import Stage
from mamt_jax.training.trainer import make_stage
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

    def probabilities(self, obs: Any, seed: int | None = None) -> xr.DataArray:
        """Probability of each action of each agent; needs no environment.

        Args:
            obs: float ``[..., n, O]``, such as ``recording.obs`` or what ``env.reset`` returns.
            seed: Which seed's policies are asked; the first by default.

        Returns:
            ``[..., agent, action]``, 0 of actions that an agent does not have.

        Raises:
            ConfigError: Wrong shape, numbers that are not finite, unknown seed.
            DivergedError: The policies are not finite there.
        """
        return self.policies.says("probability", obs, None, seed)

    def attention(self, obs: Any, actions: Any, seed: int | None = None) -> xr.DataArray:
        """The critic's attention of each agent to each other, ``[..., agent, opponent, head]``.

        Args:
            obs: As of :meth:`probabilities`.
            actions: int ``[..., n]``, taken there; -1 of agents that have left.
            seed: As of :meth:`probabilities`.

        Raises:
            ConfigError: As :meth:`probabilities`; there are no such actions; or the algorithm's
                critic has no attention.
            DivergedError: The critic is not finite there.
        """
        return self.policies.says("attention", obs, actions, seed)

    def coordination(self, obs: Any, actions: Any, seed: int | None = None) -> xr.DataArray:
        """Coordination C_ij of each agent with each other (Eq. 5), ``[..., agent, opponent]``.

        Arguments and errors are those of :meth:`attention`; only MAMT and its variants have C.
        """
        return self.policies.says("coordination", obs, actions, seed)

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
        found = read_policies(policies.algorithm, self.config, Recorded(self.path), points)
        return replace(found, game=policies.game)


@as_written()
def read_policies(
    algorithm: Algorithm, config: TrainConfig, directory: RunDir, points: int | None = None
) -> Policies:
    """Policies at the checkpoint after that many logging points, or the newest intact one.

    Of a run in shards, which may have come to different points, the newest of each.

    Raises:
        RunError: There is none.
    """
    if parts := shards(directory):
        return _side_by_side([_of_shard(algorithm, part, points) for part in parts])
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


def _of_shard(algorithm: Algorithm, part: RunDir, points: int | None) -> Policies:
    """As :func:`read_policies`; NaN where all seeds were lost before there was a checkpoint."""
    config = part.read_config()
    try:
        return read_policies(algorithm, config, part, points)
    except RunError:
        if not is_lost(part):
            raise
    seeds = config.seed_ids
    keys = jax.random.split(jax.random.key(0), len(seeds))
    learner = jax.tree.map(
        lambda leaf: leaf * jnp.nan if jnp.issubdtype(leaf.dtype, jnp.inexact) else leaf,
        jax.vmap(algorithm.init)(keys),
    )
    return Policies(algorithm, learner, seeds)


def _side_by_side(each: Sequence[Policies]) -> Policies:
    """Policies of some seeds and of others, as those of one run."""
    learner = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *(one.learner for one in each))
    points = {one.points for one in each}
    return replace(
        each[0],
        learner=learner,
        seeds=tuple(seed for one in each for seed in one.seeds),
        points=points.pop() if len(points) == 1 else -1,
    )


def side_by_side(runs: Sequence[Run], config: TrainConfig) -> Run:
    """One run, of groups of its seeds that were trained one after another in memory."""
    metrics = joined([run.metrics for run in runs], at_once=False)
    policies = _side_by_side([run.policies for run in runs])
    return Run(config, metrics, None, partial(_same, policies))


def _same(policies: Policies) -> Policies:
    return policies
