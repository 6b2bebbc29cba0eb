"""The plan of a run: its sizes, worked out before anything is computed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mamt_jax.config import ConfigError, TrainConfig
from mamt_jax.envs.base import EnvSpec
from mamt_jax.types import Algorithm

_TRANSITIONS_PER_POINT = 1500
"""About how many lie between logging points where ``log_interval`` is 0."""


class Plan(NamedTuple):
    """Static sizes of a run."""

    points: int
    """Logging points in the run."""
    episodes_per_point: int
    """Full-length episodes per logging point and seed."""
    steps_per_point: int
    """Steps of each parallel environment per logging point."""
    collect: tuple[int, ...]
    """Environment steps before each update event of a logging point."""
    updates_per_event: int
    """Updates in every event once the replay holds a batch."""
    capacity: int
    """Transitions that each seed's replay is allocated for."""

    @property
    def events_per_point(self) -> int:
        """Update events per logging point."""
        return len(self.collect)

    @property
    def updates_per_point(self) -> int:
        """Updates per logging point once the replay holds a batch."""
        return self.events_per_point * self.updates_per_event


def collection_period(num_envs: int, steps_per_update: int) -> tuple[int, ...]:
    """Environment steps before each update event, over one period of the cadence.

    Events come after every ``steps_per_update`` transitions counted over all environments: with 12
    environments and 100 transitions after steps 9, 17 and 25, so (9, 8, 8).
    """
    period = steps_per_update // math.gcd(num_envs, steps_per_update)
    events = num_envs * period // steps_per_update
    after = [math.ceil(k * steps_per_update / num_envs) for k in range(events + 1)]
    return tuple(int(step) for step in np.diff(after))


def plan_run(config: TrainConfig, spec: EnvSpec) -> Plan:
    """Works out a run's sizes.

    Raises:
      ConfigError: if the run would end before its replay held one batch.
    """
    length, envs = spec.episode_length, config.num_envs
    period = collection_period(envs, config.steps_per_update)
    interval = config.log_interval or max(_TRANSITIONS_PER_POINT // length, 1)
    wanted = min(interval, config.episodes) * length / envs
    periods = math.ceil(wanted / sum(period))
    steps = periods * sum(period)
    points = math.ceil(config.episodes * length / (steps * envs))
    total = points * steps * envs
    if config.batch_size > total:
        raise ConfigError(
            f"batch_size must be at most the transitions that the run collects ({total}), "
            f"got {config.batch_size}; lower it or raise episodes."
        )
    if total >= 2**31:
        raise ConfigError(
            f"episodes must keep the run below 2,147,483,648 transitions per seed, got {total:,}."
        )
    capacity = min(config.buffer_size, total) // envs * envs
    if capacity < config.batch_size:
        raise ConfigError(
            f"buffer_size must hold a batch after rounding down to whole steps of {envs} "
            f"environments, got {config.buffer_size} for batch_size {config.batch_size}."
        )
    return Plan(
        points=points,
        episodes_per_point=steps * envs // length,
        steps_per_point=steps,
        collect=period * periods,
        updates_per_event=config.updates_per_event,
        capacity=capacity,
    )


REPLAY_SIZES = ("steps_per_update", "updates_per_event", "batch_size", "buffer_size")
"""Settings that an on-policy algorithm does not have: ``rollout_size`` stands in their place."""


def check_sizes(config: TrainConfig, algorithm: Algorithm) -> None:
    """Refuses sizes of a replay for an algorithm that has none.

    Raises:
      ConfigError: if one of them is not left at its default.
    """
    for name in REPLAY_SIZES if algorithm.on_policy else ():
        given = getattr(config, name)
        if given != getattr(TrainConfig, name):
            raise ConfigError(
                f"{algorithm.name} learns from rollouts and has no {name} (got {given}); it goes "
                f"by rollout_size, ppo_epochs and ppo_minibatches."
            )


def cadence(config: TrainConfig, algorithm: Algorithm) -> TrainConfig:
    """The config with the sizes that the algorithm's data regime goes by.

    On-policy, an event collects one rollout and makes one update of it.
    """
    if not algorithm.on_policy:
        return config
    size = math.ceil(config.rollout_size / config.num_envs) * config.num_envs
    return replace(
        config, steps_per_update=size, updates_per_event=1, batch_size=size, buffer_size=size
    )
