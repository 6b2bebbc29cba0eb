"""What trained policies and critics say at observations: arrays in, named arrays out."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mamt_jax.errors import ConfigError
from mamt_jax.trajectories.trajectory import INSPECTED
from mamt_jax.types import Algorithm, Game

_BEFORE_AGENT = 2  # dimensions of FIELDS that steps have before agents
_NEEDS = {
    "attention": "its critic has no attention",
    "coordination": "it learns no trust regions, which is what they are for",
}


class Asked(NamedTuple):
    """Observations, and the actions taken there, as an algorithm is asked about them."""

    obs: NDArray[np.float32]
    """[B, n, O]"""
    actions: NDArray[np.int32]
    """[B, n], 0 of who is not there."""
    alive: NDArray[np.bool_] | None
    """bool [B, n]; None where everybody is there."""
    outer: tuple[int, ...]
    """Sizes that B is the product of."""
    dims: tuple[str, ...]
    """And their names."""
    coordinates: dict[str, Any]
    """What is known of these dimensions."""


def checked(game: Game | None, obs: Any, actions: Any) -> Asked:
    """Observations ``[..., n, O]`` and actions ``[..., n]`` in the form that is asked.

    Args:
        game: Sizes of the environment, where they are known.
        obs: Array of numbers. Names of leading dimensions are kept of an xarray.DataArray.
        actions: Array of integers, -1 of agents that have left; None where nothing depends on them.

    Raises:
        ConfigError: Wrong shapes, numbers that are not finite, or actions that there are not.
    """
    given = as_observations(game, obs)
    outer, (n, _) = given.shape[:-2], given.shape[-2:]
    dims, coordinates = _leading(obs, outer)
    taken, alive = np.zeros((*outer, n), np.int32), None
    if actions is not None:
        taken = _as_actions(game, actions, (*outer, n))
        alive = taken >= 0
    if alive is not None and alive.all():
        alive = None
    count = math.prod(outer)
    return Asked(
        given.reshape(count, *given.shape[-2:]),
        np.maximum(taken, 0).reshape(count, n),
        None if alive is None else alive.reshape(count, n),
        outer,
        dims,
        coordinates,
    )


def as_observations(game: Game | None, obs: Any, most: int | None = None) -> NDArray[np.float32]:
    """Observations float32 ``[..., n, O]``; errors as those of :func:`checked`.

    Args:
        game: Sizes of the environment, where they are known.
        obs: Array of numbers.
        most: Dimensions that there may be; any number where None.
    """
    try:
        given = np.asarray(obs, np.float32)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"obs must be an array of numbers: {error}.") from error
    sizes = "n, O" if game is None else f"{game.num_agents}, {game.obs_size}"
    fits = game is None or given.shape[-2:] == (game.num_agents, game.obs_size)
    if not 2 <= given.ndim <= (most or given.ndim) or 0 in given.shape or not fits:
        outer = "..." if most is None else "E"
        raise ConfigError(f"obs must be [{sizes}] or [{outer}, {sizes}], got shape {given.shape}.")
    if not np.isfinite(given).all():
        raise ConfigError("obs must hold finite numbers, got NaN or infinity.")
    return given


def _as_actions(game: Game | None, actions: Any, shape: tuple[int, ...]) -> NDArray[np.int32]:
    try:
        given = np.asarray(actions)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"actions must be an array of integers: {error}.") from error
    if given.dtype.kind not in "iu":
        raise ConfigError(f"actions must be integers, got {given.dtype}.")
    if given.shape != shape:
        raise ConfigError(
            f"actions must be {list(shape)}, one of each agent at each observation, got shape "
            f"{given.shape}."
        )
    if game is not None and ((given < -1) | (given >= np.asarray(game.action_counts))).any():
        raise ConfigError(
            f"actions must be below {game.action_counts}, those that each agent has, or -1 of "
            f"agents that have left; got {given.min()} to {given.max()}."
        )
    return given.astype(np.int32)


def _leading(obs: Any, outer: tuple[int, ...]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Names of the dimensions before agents, and their coordinates."""
    if isinstance(obs, xr.DataArray):
        dims = tuple(map(str, obs.dims[:-2]))
        kept = {name: obs.coords[name] for name in dims if name in obs.coords}
        return dims, kept
    if len(outer) < 2:
        return ("sample",)[: len(outer)], {}
    return tuple(f"sample_{k}" for k in range(len(outer))), {}


def check_says(algorithm: Algorithm, learner: Any, asked: Asked, what: str) -> None:
    """Raises ConfigError where an algorithm does not say `what`.

    Args:
        algorithm: Whose ``inspect`` is asked.
        learner: Its state, of one seed; shapes will do.
        asked: Where.
        what: An entry of ``Algorithm.inspect``.
    """
    said: dict[str, Any] = {}
    if algorithm.inspect is not None:
        said = jax.eval_shape(algorithm.inspect, learner, asked.obs, asked.actions, asked.alive)
    if what not in said:
        why = f": {_NEEDS[what]}" if what in _NEEDS else ""
        has = ", ".join(sorted(said)) or "nothing"
        raise ConfigError(f"{algorithm.name} has no {what}{why}. It says {has}.")


def named(what: str, values: NDArray[Any], asked: Asked, agents: tuple[str, ...]) -> xr.DataArray:
    """What was said ``[B, n, ...]``, with names, a unit and the dimensions that were asked."""
    field, n = INSPECTED[what], values.shape[1]
    own = field.dims[_BEFORE_AGENT:]
    names = list(agents) if agents else [f"agent_{i}" for i in range(n)]
    coordinates = dict(asked.coordinates)
    for dim, size in zip(own, values.shape[1:], strict=True):
        coordinates[dim] = names if dim in ("agent", "opponent") else np.arange(size)
    return xr.DataArray(
        values.reshape(*asked.outer, *values.shape[1:]),
        coordinates,
        (*asked.dims, *own),
        what,
        {"units": field.unit, "long_name": field.description},
    )
