"""From a config to what runs it: environment, algorithm, trainer."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, NamedTuple

from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.algorithms.registry import Recipe
from mamt_jax.config import TrainConfig
from mamt_jax.envs import Environment, HostEnvironment
from mamt_jax.errors import ConfigError
from mamt_jax.training.game import game_of
from mamt_jax.training.programs import as_written
from mamt_jax.training.trainer import Trainer, make_trainer
from mamt_jax.types import Algorithm


class Objects(NamedTuple):
    """What a run was given as objects, in the place of names."""

    algorithm: Recipe | None = None
    env: Environment | HostEnvironment | None = None


NAMES_ONLY = Objects()
"""Of a run that was given names."""


class Prepared(NamedTuple):
    """A run, ready to start."""

    trainer: Trainer
    algorithm: Algorithm
    config: TrainConfig
    """As it runs, with nothing left open."""


class PreparedTogether(NamedTuple):
    """Runs whose settings differ in numbers, ready to start in one program."""

    trainer: Trainer
    algorithms: list[Algorithm]
    configs: list[TrainConfig]


def prepare(config: TrainConfig, objects: Objects = NAMES_ONLY) -> Prepared:
    """What runs a config, with nothing allocated or compiled yet.

    Raises:
        ConfigError: The config names what does not exist, or asks for what cannot be.
    """
    trainer, (algorithm,), (config,) = prepare_together([config], objects)
    return Prepared(trainer, algorithm, config)


@as_written()
def prepare_together(
    configs: Sequence[TrainConfig],
    objects: Objects = NAMES_ONLY,
) -> PreparedTogether:
    """As :func:`prepare`, for configs that differ in the numbers of their settings alone."""
    first = configs[0]
    recipe, env = make_recipe(first, objects), make_env(first, objects)
    options = first.env_options | getattr(env, "found", {})
    settled = [replace(config.settled(), env_options=options) for config in configs]
    more = [config.settings for config in settled[1:]]
    trainer = make_trainer(settled[0], env, recipe, more)
    algorithms = [recipe(trainer.game, config.settings) for config in settled]
    return PreparedTogether(trainer, algorithms, settled)


def make_recipe(config: TrainConfig, objects: Objects = NAMES_ONLY) -> Recipe:
    """The config's algorithm, with the precision that it asks for.

    Raises:
        ConfigError: Its name leads to nothing.
    """
    return replace(_recipe(config, objects), precision=config.precision)


def _recipe(config: TrainConfig, objects: Objects) -> Recipe:
    if objects.algorithm is not None:
        return objects.algorithm
    if "algorithm" in config.objects:
        raise ConfigError(
            f"{config.algorithm} was given as an object; give it again, as algorithm=... of "
            f"mamt_jax.load or mamt_jax.train."
        )
    return registry.get(config.algorithm)


def make_env(config: TrainConfig, objects: Objects = NAMES_ONLY) -> Environment | HostEnvironment:
    """The config's environment; raises ConfigError for unknown names and options.

    And for one whose actions no algorithm can choose.
    """
    env = _env(config, objects)
    if not all(env.spec.action_counts):
        raise ConfigError(
            f"{env.spec.name} takes continuous actions with these options; algorithms choose among "
            f"discrete ones, so leave out continuous."
        )
    return env


def _env(config: TrainConfig, objects: Objects) -> Environment | HostEnvironment:
    if objects.env is not None:
        return objects.env
    if "env" in config.objects:
        raise ConfigError(
            f"{config.env} was given as an object; give it again, as env=... of mamt_jax.load or "
            f"mamt_jax.train."
        )
    try:
        env: Environment | HostEnvironment
        env = envs.make(config.env, **_as_recorded(config.env_options))
        _ = env.spec  # what a host environment needs may be missing
        return env
    except (ValueError, TypeError) as error:
        raise ConfigError(str(error)) from error


@as_written()
def make_algorithm(
    config: TrainConfig,
    objects: Objects = NAMES_ONLY,
) -> tuple[Algorithm, Environment | HostEnvironment]:
    """The config's algorithm and environment; unknown names raise ConfigError."""
    env = make_env(config, objects)
    return make_recipe(config, objects)(game_of(env.spec), config.settings), env


def _as_recorded(options: dict[str, Any]) -> dict[str, Any]:
    """As they are read when the run goes on: tuples as lists, keys of dicts as texts."""
    with suppress(TypeError, ValueError):  # what is not to be recorded is what it is
        read: dict[str, Any] = json.loads(json.dumps(options))
        return read
    return options
