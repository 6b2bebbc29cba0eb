"""The plan of a run: its sizes, worked out before anything is computed."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from mamt_jax.config import TrainConfig
from mamt_jax.envs.base import EnvSpec
from mamt_jax.errors import ConfigError
from mamt_jax.settings import Replay, Rollout

_TRANSITIONS_PER_POINT = 1500
"""About how many lie between logging points where ``log_interval`` is 0."""


class Plan(NamedTuple):
    """Static sizes of a run."""

    points: int
    """Logging points in the run."""
    episodes_per_point: int
    """Full-length episodes per logging point and seed."""
    num_envs: int
    """E."""
    steps_per_point: int
    """Steps of each parallel environment per logging point."""
    collect: tuple[int, ...]
    """Environment steps before each update event of a logging point."""
    updates_per_event: int
    """Updates in every event once the store holds a batch."""
    batch_size: int
    """B; on-policy, the transitions of a rollout."""
    capacity: int
    """Transitions that each seed's store is allocated for."""
    on_policy: bool
    """An update sees what was collected since the one before, whole and in order."""

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


class Regime(NamedTuple):
    """How often there are updates, and of what: sizes in transitions of all parallel environments.

    On-policy, an event collects one rollout and makes one update of it.
    """

    steps_per_update: int
    updates_per_event: int
    batch_size: int
    buffer_size: int


def regime(config: TrainConfig) -> Regime:
    """The data regime that a run's settings ask for: a replay, or rollouts."""
    if Rollout in config.settings:
        size = config.settings[Rollout].rollout_size
        size = math.ceil(size / config.num_envs) * config.num_envs
        return Regime(size, 1, size, size)
    replay = config.settings[Replay]
    return Regime(
        replay.steps_per_update, replay.updates_per_event, replay.batch_size, replay.buffer_size
    )


def plan_run(config: TrainConfig, spec: EnvSpec) -> Plan:
    """Works out a run's sizes.

    Raises:
      ConfigError: if the run would end before its store held one batch.
    """
    length, envs, sizes = spec.episode_length, config.num_envs, regime(config)
    period = collection_period(envs, sizes.steps_per_update)
    interval = config.log_interval or max(_TRANSITIONS_PER_POINT // length, 1)
    wanted = min(interval, config.episodes) * length / envs
    periods = math.ceil(wanted / sum(period))
    steps = periods * sum(period)
    points = math.ceil(config.episodes * length / (steps * envs))
    total = points * steps * envs
    if sizes.batch_size > total:
        raise ConfigError(
            f"batch_size must be at most the transitions that the run collects ({total}), "
            f"got {sizes.batch_size}; lower it or raise episodes."
        )
    if total >= 2**31:
        raise ConfigError(
            f"episodes must keep the run below 2,147,483,648 transitions per seed, got {total:,}."
        )
    capacity = min(sizes.buffer_size, total) // envs * envs
    if capacity < sizes.batch_size:
        raise ConfigError(
            f"buffer_size must hold a batch after rounding down to whole steps of {envs} "
            f"environments, got {sizes.buffer_size} for batch_size {sizes.batch_size}."
        )
    return Plan(
        points=points,
        episodes_per_point=steps * envs // length,
        num_envs=envs,
        steps_per_point=steps,
        collect=period * periods,
        updates_per_event=sizes.updates_per_event,
        batch_size=sizes.batch_size,
        capacity=capacity,
        on_policy=Rollout in config.settings,
    )
