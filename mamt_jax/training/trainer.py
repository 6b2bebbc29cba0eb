"""A run's training, ready to start: sizes, store and learning, on the stage of its environment."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mamt_jax.config import TrainConfig
from mamt_jax.envs.base import Environment
from mamt_jax.envs.hosted import HostEnvironment
from mamt_jax.training.game import game_of
from mamt_jax.training.learning import EpochOutput, Learning, RunState
from mamt_jax.training.plan import Plan, cadence, plan_run
from mamt_jax.training.stage.base import Evaluator, Stage
from mamt_jax.training.stage.hosted import HostedStage
from mamt_jax.training.stage.native import NativeStage
from mamt_jax.training.store import Store, make_store
from mamt_jax.types import Algorithm, Game


class Trainer(NamedTuple):
    """Training as compiled functions, and what they share."""

    plan: Plan
    store: Store
    init: Callable[[jax.Array], RunState]
    """As in :class:`~mamt_jax.training.stage.base.Loop`, and so the next two."""
    epoch: Callable[[RunState], tuple[RunState, EpochOutput]]
    compile_ahead: Callable[[RunState], Any]
    evaluate: Evaluator
    """Plays ``evaluation_episodes``."""
    game: Game
    """Sizes of the environment."""
    close: Callable[[], None] = lambda: None
    """Closes the environments of training; the next epoch opens new ones."""


def make_stage(env: Environment | HostEnvironment, config: TrainConfig) -> Stage:
    """The stage of an environment: nowhere else is asked what kind of environment it is."""
    if isinstance(env, HostEnvironment):
        return HostedStage(env, config)
    return NativeStage(env, config)


def make_trainer(
    config: TrainConfig, env: Environment | HostEnvironment, algorithm: Algorithm
) -> Trainer:
    """Compiles lazily: the first call of each function traces it."""
    config = cadence(config, algorithm)
    plan = plan_run(config, env.spec)
    store = make_store(config, plan, env.spec, algorithm)
    stage = make_stage(env, config)
    loop = stage.loop(plan, Learning(config, algorithm, store))
    evaluate = stage.evaluator(algorithm, config.evaluation_episodes)
    ahead, game = loop.compile_ahead, game_of(env.spec)
    return Trainer(plan, store, loop.init, loop.epoch, ahead, evaluate, game, loop.close)
