"""A grid of settings: its points, which of them make one program, and what each is trained for."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError, close_to
from mamt_jax.settings import Settings
from mamt_jax.training.prepare import NAMES_ONLY, Objects, prepare

OF_THE_RUN = ("num_envs", "precision")
"""Settings of the run, not of the algorithm, that a grid may hold."""
_LONGEST = 150
"""Characters of a run directory's name; points that have more are called by their number."""
_SHARES = (6, 3, 1)
"""The paper's budgets: a sixth, a third and all of the episodes."""


@dataclass(frozen=True)
class Point:
    """One combination of a grid's values."""

    index: int
    """Its place in the grid."""
    values: dict[str, Any]
    """By setting."""
    config: TrainConfig
    """Of its run, for the whole budget."""
    name: str
    """Of its run directory."""


@dataclass(frozen=True)
class Grid:
    """All combinations of the values of some settings."""

    axes: dict[str, list[Any]]
    """Values by setting, as given."""
    points: list[Point]
    rungs: tuple[int, ...]
    """Episodes after which points are judged; the last of them is the whole budget."""

    def question(self) -> dict[str, Any]:
        """What the sweep asks, as JSON holds it: two sweeps are the same where this is.

        How runs are carried out is no part of it.
        """
        config = self.points[0].config
        run = config.to_dict()
        kept = {name: run[name] for name in run if name not in ("settings", "execution")}
        flat = kept | config.settings.settled().flat()
        fixed = {name: value for name, value in flat.items() if name not in self.axes}
        asked = fixed | {"grid": self.axes, "rungs": list(self.rungs)}
        try:
            found: dict[str, Any] = json.loads(json.dumps(asked))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"env_options must be what JSON can hold: {error}.") from error
        return found


def read_grid(
    base: TrainConfig, axes: Any, halving: bool = False, objects: Objects = NAMES_ONLY
) -> Grid:
    """The points of a grid, all of them checked; nothing is compiled or allocated.

    Args:
        base: What all points share; its episodes are the whole budget.
        axes: Lists of values, by setting.
        halving: Whether points are judged at a sixth and a third of the budget.
        objects: What the run was given in the place of names.

    Raises:
        ConfigError: A setting is unknown or cannot be in a grid; values are none, out of range or
            the same twice; or the budget is too short to be divided.
    """
    if not isinstance(axes, Mapping) or not axes:
        raise ConfigError(
            f"grid must hold at least one setting with its values, such as "
            f"learning_rate=[3e-4, 1e-3], got {axes!r}."
        )
    lists = {name: _values(base, name, values) for name, values in axes.items()}
    levels = _rungs(base.episodes, halving)
    points = _points(base, lists)
    for name, values in lists.items():
        lists[name] = list(dict.fromkeys(point.values[name] for point in points))
        if len(lists[name]) < len(values):
            raise ConfigError(f"{name} must have different values in a grid, got {values!r}.")
    interval = _log_interval(base, points, levels, objects)
    if interval != base.log_interval:
        points = _points(replace(base, log_interval=interval), lists)
    return Grid(lists, points, levels)


def _values(base: TrainConfig, name: Any, values: Any) -> list[Any]:
    """The values of one setting, as a list.

    Raises:
        ConfigError: There is no such setting, it cannot vary, or there is no value.
    """
    own = base.settings.flat()
    if name not in own and name not in OF_THE_RUN:
        accepted = [*own, *OF_THE_RUN]
        raise ConfigError(
            f"A grid holds settings of {base.algorithm}, and {name!r} is none of them"
            f"{close_to(name, accepted)}; accepted are {', '.join(accepted)}. All else, options of "
            f"the environment included, has one value in a sweep."
        )
    if not isinstance(values, list | tuple | np.ndarray) or not len(values):
        raise ConfigError(f"{name} must have a list of values in a grid, got {values!r}.")
    return list(values)


def _points(base: TrainConfig, lists: Mapping[str, Sequence[Any]]) -> list[Point]:
    points = []
    for index, chosen in enumerate(product(*lists.values())):
        given = dict(zip(lists, chosen, strict=True))
        run = {name: given[name] for name in OF_THE_RUN if name in given}
        own = {name: value for name, value in given.items() if name not in run}
        config = replace(base, settings=base.settings.replace(own, base.algorithm), **run)
        flat = config.settings.flat() | {name: getattr(config, name) for name in OF_THE_RUN}
        values = {name: flat[name] for name in lists}
        name = ",".join(f"{setting}={value}" for setting, value in values.items())
        name = name if len(name) <= _LONGEST else f"point_{index:04d}"
        points.append(Point(index, values, config, name))
    return points


def _rungs(episodes: int, halving: bool) -> tuple[int, ...]:
    if not halving:
        return (episodes,)
    if episodes < _SHARES[0]:
        raise ConfigError(f"episodes must be at least {_SHARES[0]} for halving, got {episodes}.")
    return tuple(math.ceil(episodes / share) for share in _SHARES)


def _log_interval(
    base: TrainConfig, points: Sequence[Point], levels: Sequence[int], objects: Objects
) -> int:
    """Episodes per logging point, the same at all rungs, so that a run can be prolonged.

    Raises:
        ConfigError: The one that was asked for is longer than the first rung, or a run cannot be.
    """
    interval = base.log_interval
    for some in by_structure(points).values():
        plans = [
            prepare(replace(some[0].config, episodes=episodes), objects).trainer.plan
            for episodes in levels
        ]
        if all(plan.collect == plans[0].collect for plan in plans):
            continue
        if base.log_interval:
            raise ConfigError(
                f"log_interval must be at most the first sixth of the episodes ({levels[0]}), got "
                f"{base.log_interval}."
            )
        interval = levels[0]
    return interval


def by_structure(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points whose settings differ in numbers alone: one program trains those of a list."""
    found: dict[str, list[Point]] = {}
    for point in points:
        key = structure(point.config, points[0].config.settings)
        found.setdefault(key, []).append(point)
    return found


def structure(config: TrainConfig, reference: Settings) -> str:
    """Equal where programs are.

    Args:
        config: Of a point.
        reference: Whose numbers stand for all others.
    """
    same = replace(config, settings=config.settings.structure(reference))
    return json.dumps(same.to_dict(), sort_keys=True, default=repr)
