"""Time of training as users run it: whole logging points of the compiled program."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.batches import SHAPES, TEAMS
from mamt_jax import envs
from mamt_jax.algorithms.registry import get
from mamt_jax.config import make_config
from mamt_jax.settings import Rollout
from mamt_jax.training.mesh import laid_out
from mamt_jax.training.prepare import make_recipe
from mamt_jax.training.programs import compilation_cache
from mamt_jax.training.trainer import make_trainer
from mamt_jax.types import Game

EPISODES_PER_POINT = 24


def on_policy(algorithm: str) -> bool:
    """Whether a registered algorithm learns from rollouts."""
    return Rollout in get(algorithm).settings


def game_of(env: str) -> Game:
    """The game of a shape in :mod:`benchmarks.batches`."""
    obs_sizes, actions = SHAPES[env]
    return Game(obs_sizes, (actions,) * len(obs_sizes), TEAMS.get(env))


class LoggingPoint(NamedTuple):
    """A logging point of a run, again and again."""

    run: Callable[[], None]
    """Computes the next one."""
    updates: int
    """In each, of all seeds, once the replay holds a batch."""
    steps: int
    """Environment steps in each, of all seeds."""


def logging_point(algorithm: str, env: str, seeds: int = 8, **options: Any) -> LoggingPoint:
    """Training of a registered algorithm in a registered environment, ready to go on.

    Args:
      algorithm: registered algorithm.
      env: registered environment.
      seeds: trained together.
      **options: any setting of the config.
    """
    settings = {"log_interval": EPISODES_PER_POINT, "episodes": 10_000} | options
    config = make_config(algorithm=algorithm, env=env, seeds=seeds, **settings)
    environment = envs.make(env, **config.env_options)
    trainer = make_trainer(config, environment, make_recipe(config))
    ids = jnp.asarray(trainer.seeds)
    trainer.compile_ahead(laid_out(jax.eval_shape(trainer.init, ids), trainer.mesh))
    with compilation_cache():
        kept = [trainer.init(ids)]

    def run() -> None:
        kept[0], output = trainer.epoch(kept[0])
        jax.block_until_ready(output)

    steps = trainer.plan.steps_per_point * config.num_envs * seeds
    return LoggingPoint(run, trainer.plan.updates_per_point * seeds, steps)
