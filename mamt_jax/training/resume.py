"""Going on with runs: what may differ, and what is read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.training import checkpoint
from mamt_jax.training.game import check_unchanged
from mamt_jax.training.loop import Book, Start, evaluation_due
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.prepare import Objects, prepare
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import is_lost
from mamt_jax.training.trainer import Trainer


def check_resumable(
    directory: RunDir, trainer: Trainer, config: TrainConfig, objects: Objects
) -> None:
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
    earlier = replace(config, episodes=before.episodes)
    was, now = prepare(earlier, objects).trainer.plan, trainer.plan
    if (was.steps_per_point, was.collect) != (now.steps_per_point, now.collect):
        raise ConfigError(
            f"episodes cannot change from {before.episodes:,} to {config.episodes:,}: logging "
            f"points would be of another length; start another run."
        )


def books(
    configs: Sequence[TrainConfig], directories: Sequence[RunDir | None], trainer: Trainer
) -> list[Book]:
    """A book for each run, with nothing in it."""
    seeds, books = configs[0].seeds, []
    first = configs[0].settings.flat()
    several = [config.settings.flat() for config in configs]
    varied = [name for name in first if any(flat[name] != first[name] for flat in several)]
    for index, (config, directory) in enumerate(zip(configs, directories, strict=True)):
        ids, agents = list(config.seed_ids), trainer.game.agents
        per_event = trainer.plan.updates_per_event
        recorder = Recorder(ids, per_event, agents, trainer.quantities)
        all_rows = seeds == len(trainer.seeds)
        rows = None if all_rows else slice(index * seeds, (index + 1) * seeds)
        values = config.settings.flat()
        label = ", ".join(f"{name}={values[name]}" for name in varied)
        books.append(Book(config, directory, recorder, rows, label))
    return books


def restore(
    directories: Sequence[RunDir], configs: Sequence[TrainConfig], trainer: Trainer
) -> Start | None:
    """State and records at the newest checkpoint that all have intact; None where nobody has one.

    Raises:
        RunError: There are some, and none of the same logging point that is intact.
    """
    like = state_shapes(trainer, configs[0].seeds)
    upto = _newest_of_all(directories) if len(directories) > 1 else None
    found: list[tuple[checkpoint.Meta, list[np.ndarray]]] = []
    for directory in directories:
        one = directory.newest_intact(
            lambda step: (checkpoint.read_meta(step), checkpoint.read(step, like)), upto
        )
        if one is None:
            return None
        found.append(one)
    restored = books(configs, directories, trainer)
    for book, directory, (meta, _) in zip(restored, directories, found, strict=True):
        metrics = directory.read_metrics()
        if metrics.sizes["update"] < meta.points:
            raise RunError(f"The metrics in {directory.path} end before its checkpoint.")
        per_event = trainer.plan.updates_per_event
        book.recorder = Recorder.from_dataset(metrics, meta.points, per_event, trainer.quantities)
    state = checkpoint.place([leaves for _, leaves in found], like, trainer.mesh)
    return Start(state, restored, found[0][0].seconds)


def state_shapes(trainer: Trainer, rows: int) -> Any:
    """Shapes of the state of so many rows."""
    shapes = jax.eval_shape(trainer.init, jnp.asarray(trainer.seeds, jnp.int32))

    def of_some(leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((rows, *leaf.shape[1:]), leaf.dtype)

    return shapes._replace(seeds=jax.tree.map(of_some, shapes.seeds))


def _newest_of_all(directories: Sequence[RunDir]) -> int | None:
    """The newest logging point of which all have an intact checkpoint; None if nobody has any."""
    saved = [each.saved() for each in directories]
    for points in sorted(set.intersection(*map(set, saved)), reverse=True):
        if all(_is_intact(steps[points]) for steps in saved):
            return points
    if not any(saved):
        return None
    raise RunError(
        f"The runs in {', '.join(str(each.path) for each in directories)} have no checkpoint of "
        f"the same logging point; resume each by itself."
    )


def _is_intact(step: Path) -> bool:
    try:
        checkpoint.check_whole(step)
    except checkpoint.CorruptCheckpoint:
        return False
    return True


def lost(directories: Sequence[RunDir | None]) -> list[RunDir]:
    """Those of several runs that do not go on, because all of their seeds have diverged.

    Nobody where that is so of all: then it is found out again, and said.
    """
    found = [each for each in directories if each is not None and is_lost(each)]
    return found if len(found) < len(directories) else []


def done(directory: RunDir) -> int:
    """Logging points before the newest checkpoint, intact or not."""
    return max(directory.saved(), default=0)


def check_length(directory: RunDir, trainer: Trainer) -> None:
    """Raises ConfigError if more is done already than the run is to have."""
    points, plan = done(directory), trainer.plan
    if points > plan.points:
        raise ConfigError(
            f"episodes must be at least the {points * plan.episodes_per_point:,} that are done in "
            f"{directory.path}."
        )


def is_complete(directory: RunDir, trainer: Trainer, config: TrainConfig) -> bool:
    """Whether all of the planned run is done, its last evaluation included.

    Warns of corrupt checkpoints that are passed over.

    Raises:
        RunError: All checkpoints are corrupt.
    """
    points = trainer.plan.points
    if done(directory) < points:  # restoring reads them anyway
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
    return meta is not None and meta.points >= prepare(directory.read_config()).trainer.plan.points
