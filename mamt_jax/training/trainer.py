"""A run's training, ready to start: sizes, store and learning, on the stage of its environment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from mamt_jax.algorithms.registry import Recipe
from mamt_jax.backend import Choices, chosen
from mamt_jax.config import TrainConfig
from mamt_jax.envs.base import Environment
from mamt_jax.envs.hosted import HostEnvironment
from mamt_jax.quantities import QUANTITIES, Quantity
from mamt_jax.settings import Settings, numbers
from mamt_jax.training.game import game_of
from mamt_jax.training.learning import EpochOutput, Rule, RunState
from mamt_jax.training.mesh import padded, placed, share
from mamt_jax.training.plan import Plan, plan_run
from mamt_jax.training.seeds import seed_batch
from mamt_jax.training.stage.base import Evaluator, Stage
from mamt_jax.training.stage.hosted import HostedStage
from mamt_jax.training.stage.native import NativeStage
from mamt_jax.training.store import Store, make_store
from mamt_jax.types import Game


class Trainer(NamedTuple):
    """Training as compiled functions, and what they share."""

    plan: Plan
    store: Store
    seeds: tuple[int, ...]
    """The seed of each row, of all settings that are trained together, and then of rows that only
    fill up the devices."""
    seed_batch: int
    """Rows that a device computes side by side."""
    mesh: Mesh | None
    """The devices that share the rows; None for one."""
    with_batch: Callable[[int], Trainer]
    """The same training with so many rows side by side."""
    init: Callable[[jax.Array], RunState]
    """As in :class:`~mamt_jax.training.stage.base.Loop`, for the run's settings; so the next
    two."""
    epoch: Callable[[RunState], tuple[RunState, EpochOutput]]
    compile_ahead: Callable[[RunState], Any]
    evaluate: Evaluator
    """Plays ``evaluation_episodes``."""
    game: Game
    """Sizes of the environment."""
    quantities: Mapping[str, Quantity] = QUANTITIES
    """What the algorithm may report."""
    close: Callable[[], None] = lambda: None
    """Closes the environments of training; the next epoch opens new ones."""


def make_stage(
    env: Environment | HostEnvironment, config: TrainConfig, choices: Choices | None = None
) -> Stage:
    """The stage of an environment: nowhere else is asked what kind of environment it is.

    Args:
        env: Where episodes take place.
        config: Of the run.
        choices: Of the device that training is for; JAX's own where left out. One that is not
            there is for environments in JAX alone.
    """
    if isinstance(env, HostEnvironment):
        return HostedStage(env, config)
    return NativeStage(env, config, choices or chosen())


def make_trainer(
    config: TrainConfig,
    env: Environment | HostEnvironment,
    recipe: Recipe,
    more: Sequence[Settings] = (),
    choices: Choices | None = None,
    batch: int | None = None,
) -> Trainer:
    """Training of a config, and of further settings beside it: all of them in one program.

    Compiles lazily: the first call of each function traces it, and programs that differ in numbers
    only are the same.

    Args:
        config: Of the run.
        env: Where it learns.
        recipe: What learns.
        more: Settings of the same structure as the config's; a row for each of its seeds and each
            of them.
        choices: As in :func:`make_stage`.
        batch: Rows that a device computes side by side; by default as the config says.

    Raises:
        ConfigError: The run cannot be.
    """
    plan, game = plan_run(config, env.spec), game_of(env.spec)
    rule = Rule(recipe, game, config.settings.structure(recipe.settings))
    store, stage = make_store(plan, config.settings, env.spec), make_stage(env, config, choices)
    all_settings = [config.settings, *more]
    rows = config.seeds * len(all_settings)
    mesh = stage.mesh(rows)
    seeds = tuple(map(int, padded(config.seed_ids * len(all_settings), mesh)))
    if batch is None:
        batch = seed_batch(config.execution.seed_batch, share(rows, mesh), choices)
    loop = stage.loop(plan, rule, store, seeds, batch, mesh)
    settings = numbers.stacked(all_settings, config.seeds)
    if mesh is not None:
        settings = jax.tree.map(partial(_on_all, mesh=mesh), settings)
    return Trainer(
        plan=plan,
        store=store,
        seeds=seeds,
        seed_batch=batch,
        mesh=mesh,
        with_batch=partial(make_trainer, config, env, recipe, more, choices),
        init=partial(loop.init, settings),
        epoch=partial(loop.epoch, settings),
        compile_ahead=partial(loop.compile_ahead, settings),
        evaluate=partial(loop.evaluate, settings),
        game=game,
        quantities={**QUANTITIES, **recipe.quantities},
        close=loop.close,
    )


def _on_all(leaf: Any, mesh: Mesh) -> jax.Array:
    """A number where its rows are."""
    return placed(padded(np.asarray(leaf), mesh) if np.ndim(leaf) else np.asarray(leaf), mesh)
