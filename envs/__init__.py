"""JAX environments for cooperative multi-agent learning.

Example::

    env = mamt_jax.envs.make("spread", num_agents=2, variant="paper")
    state, obs = env.reset(key)
    step = env.step(key, state, actions)
"""

from __future__ import annotations

if __name__ == "envs":
    raise ImportError("This folder is imported as mamt_jax.envs: `from mamt_jax import envs`.")

import difflib
import inspect
from collections.abc import Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mamt_jax.envs.base import Environment, EnvSpec, Field, TimeStep
from mamt_jax.envs.hosted import BadEnvironment, HostEnvironment

if TYPE_CHECKING:
    from mamt_jax.envs.outbound import to_pettingzoo
    from mamt_jax.envs.wrappers import VectorEnv, VectorState, VectorStep

__all__ = [
    "BadEnvironment",
    "EnvSpec",
    "Environment",
    "Field",
    "HostEnvironment",
    "TimeStep",
    "VectorEnv",
    "VectorState",
    "VectorStep",
    "make",
    "names",
    "options",
    "summaries",
    "text_options",
    "to_pettingzoo",
]

# Classes, or where they are: ours are imported when they are asked for, because worker processes
# start without JAX. Options and their defaults are read from the constructors, never listed again.
_REGISTRY: Mapping[str, str | type[Any]] = {
    "spread": "mamt_jax.envs.spread:Spread",
    "spread3_sep": "mamt_jax.envs.spread:Spread3Sep",
    "spread3_mix": "mamt_jax.envs.spread:Spread3Mix",
    "spread3_ful": "mamt_jax.envs.spread:Spread3Ful",
    "rover_tower": "mamt_jax.envs.rover_tower:RoverTower",
    "pursuit": "mamt_jax.envs.pursuit:Pursuit",
    "multiwalker": "mamt_jax.envs.multiwalker:MultiWalker",
    "pettingzoo": "mamt_jax.envs.bridge:PettingZoo",
    "toy_matching": "mamt_jax.envs.toy:ToyMatching",
    "toy_survival": "mamt_jax.envs.toy:ToySurvival",
    "toy_elimination": "mamt_jax.envs.toy:ToyElimination",
}
_HOMES = {
    "VectorEnv": "mamt_jax.envs.wrappers",
    "VectorState": "mamt_jax.envs.wrappers",
    "VectorStep": "mamt_jax.envs.wrappers",
    "to_pettingzoo": "mamt_jax.envs.outbound",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, as the registry does."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def names() -> tuple[str, ...]:
    """Names that `make` accepts."""
    return tuple(_REGISTRY)


def summaries() -> dict[str, str]:
    """One line about every registered environment."""
    return {name: _summary(name) for name in _REGISTRY}


def _summary(name: str) -> str:
    found: str = getattr(_constructor(name), "summary", None) or make(name).spec.summary
    return found


def options(name: str) -> dict[str, Any]:
    """Options of environment `name` with their defaults.

    Raises:
      ValueError: no environment is called `name`.
    """
    parameters = inspect.signature(_constructor(name)).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is not p.VAR_KEYWORD}


def text_options(name: str) -> set[str]:
    """Options of environment `name` that are texts, by their default or their annotation.

    Raises:
      ValueError: no environment is called `name`.
    """
    parameters = inspect.signature(_constructor(name)).parameters.values()
    return {
        p.name
        for p in parameters
        if isinstance(p.default, str)
        or "str" in str(getattr(p.annotation, "__name__", p.annotation)).replace(" ", "").split("|")
    }


def make(name: str, /, **chosen: Any) -> Any:
    """Builds environment `name` with the `chosen` options, defaults for the rest.

    Returns:
      An `Environment`, or for those of PettingZoo a `HostEnvironment`.

    Raises:
      ValueError: unknown name, unknown option, or a value that the environment rejects.
    """
    constructor = _constructor(name)
    accepted = options(name)
    unknown = [option for option in chosen if option not in accepted]
    if unknown and not _hands_on(constructor):
        raise ValueError(
            f"{name} has no option {', '.join(map(repr, unknown))}{_close(unknown[0], accepted)}; "
            f"it accepts {', '.join(accepted)}."
        )
    return constructor(**chosen)


def _constructor(name: str) -> type[Any]:
    if name not in _REGISTRY:
        close = _close(name, _REGISTRY)
        raise ValueError(
            f"No environment is called {name!r}{close}; there are {', '.join(_REGISTRY)}."
        )
    found = _REGISTRY[name]
    if isinstance(found, str):
        module, _, called = found.partition(":")
        found = getattr(import_module(module), called)
    return found


def _close(name: str, accepted: Iterable[str]) -> str:
    """As `mamt_jax.errors.close_to`: nothing of ours is imported here."""
    known = {each.lower(): each for each in accepted}
    found = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f" (did you mean {known[found[0]]!r}?)" if found else ""


def _hands_on(constructor: type[Any]) -> bool:
    """Whether it takes options that it does not name."""
    parameters = inspect.signature(constructor).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)
