"""Episodes of a run as recordings: played where it learned, or in an environment much like it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import xarray as xr

from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError
from mamt_jax.training.game import check_fits, game_of
from mamt_jax.training.playing import Playing
from mamt_jax.training.policies import Policies
from mamt_jax.training.prepare import Objects, make_env
from mamt_jax.training.trainer import make_stage
from mamt_jax.trajectories.recording import Recording, as_recording


def options_text(options: dict[str, Any]) -> str:
    """Options of an environment as JSON; raises ConfigError where they are none."""
    try:
        if not all(isinstance(name, str) for name in options):
            raise TypeError("names must be texts")
        return json.dumps(options, sort_keys=True)
    except (TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"env_options must be a dict by name of what JSON can hold: {error}."
        ) from error


def playing_with(config: TrainConfig, objects: Objects, policies: Policies, text: str) -> Playing:
    """A run's policies in its environment with other options.

    Args:
        config: Of the run.
        objects: What it was given as objects.
        policies: Of the run.
        text: The other options, as JSON.

    Raises:
        ConfigError: There are no such options, or the environment is not of the policies' sizes.
    """
    if objects.env is not None or "env" in config.objects:
        raise ConfigError(
            f"env_options: {config.env} was given as an object, whose options are its own."
        )
    other = replace(config, env_options=config.env_options | json.loads(text))
    env = make_env(other)
    learned = policies.game or game_of(make_env(config).spec)
    check_fits(f"{config.env} with {text}", learned, game_of(env.spec))
    return Playing(make_stage(env, other), policies)


def record(
    playing: Playing,
    config: TrainConfig,
    metrics: xr.Dataset,
    options: dict[str, Any],
    asked: tuple[int, int | None, bool, int],
) -> Recording:
    """Plays episodes and says whose they are.

    Args:
        playing: Who plays, and where.
        config: Of the run.
        metrics: Of the run, whose coordinate has the updates done at each logging point.
        options: Of the environment, other than the run's.
        asked: Arguments of :meth:`Playing.play`.
    """
    trajectory, policies = playing.play(*asked), playing.policies
    updates, points = {0: 0}, policies.points
    updates |= dict(enumerate(metrics["update"].values.tolist(), 1))
    _, seed, greedy, key = asked
    about = {
        "algorithm": config.algorithm,
        "env": config.env,
        "env_options": config.env_options | options,
        "seed": policies.seeds[0] if seed is None else seed,
        "checkpoint": points,
        "update": updates.get(points, -1),
        "greedy": greedy,
        "key": key,
        "scene": trajectory.scene.as_json() if trajectory.scene else "",
    }
    return as_recording(trajectory, about)
