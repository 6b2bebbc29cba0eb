"""JAX environments for cooperative multi-agent learning.

Example::

    env = mamt_jax.envs.make("spread", num_agents=2, variant="paper")
    state, obs = env.reset(key)
    step = env.step(key, state, actions)
"""

from __future__ import annotations

if __name__ == "envs":
    raise ImportError("This folder is imported as mamt_jax.envs: `from mamt_jax import envs`.")

import inspect
from importlib import import_module
from typing import TYPE_CHECKING, Any

from mamt_jax.envs.base import Environment, EnvSpec, Field, TimeStep
from mamt_jax.envs.hosted import BadEnvironment, HostEnvironment
from mamt_jax.errors import ConfigError, close_to
from mamt_jax.lookup import imported, is_path

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
    "register",
    "summaries",
    "text_options",
    "to_pettingzoo",
]

# Classes, or where they are as MODULE:NAME: ours are imported when they are asked for, because
# worker processes start without JAX. Options and their defaults are read from the constructors,
# never listed again.
_REGISTRY: dict[str, str | type[Any]] = {
    "spread": "mamt_jax.envs.spread:Spread",
    "spread3_sep": "mamt_jax.envs.spread:Spread3Sep",
    "spread3_mix": "mamt_jax.envs.spread:Spread3Mix",
    "spread3_ful": "mamt_jax.envs.spread:Spread3Ful",
    "rover_tower": "mamt_jax.envs.rover_tower:RoverTower",
    "pursuit": "mamt_jax.envs.pursuit:Pursuit",
    "multiwalker": "mamt_jax.envs.multiwalker:MultiWalker",
    "multiwalker_host": "mamt_jax.envs.multiwalker_host:MultiWalkerHost",
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


def register(name: str, environment: type[Any]) -> None:
    """Gives an environment a name, in this process.

    Args:
      name: letters, digits and _.
      environment: its class; the arguments of its constructor are its options.

    Raises:
      ConfigError: the name is taken by another, or is none, or this is no environment.
    """
    if not (isinstance(name, str) and name.isidentifier()):
        raise ConfigError(f"An environment's name must be letters, digits and _, got {name!r}.")
    whole = all(hasattr(environment, needed) for needed in ("spec", "reset", "step"))
    if not (whole or issubclass(environment, HostEnvironment)):
        raise ConfigError(
            f"An environment's class has spec, reset and step; {environment!r} lacks some."
        )
    if _REGISTRY.get(name, environment) != environment:
        raise ConfigError(f"There is an environment {name!r} already; choose another name.")
    _REGISTRY[name] = environment


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
        close = close_to(unknown[0], accepted)
        raise ConfigError(
            f"{name} has no option {', '.join(map(repr, unknown))}{close}; it accepts "
            f"{', '.join(accepted)}."
        )
    return constructor(**chosen)


def _constructor(name: str) -> type[Any]:
    if name not in _REGISTRY and not is_path(name):
        raise ConfigError(
            f"No environment is called {name!r}{close_to(name, _REGISTRY)}; there are "
            f"{', '.join(_REGISTRY)}, or MODULE:NAME of one of yours."
        )
    found: Any = _REGISTRY.get(name, name)
    return imported(found) if isinstance(found, str) else found


def _hands_on(constructor: type[Any]) -> bool:
    """Whether it takes options that it does not name."""
    parameters = inspect.signature(constructor).parameters.values()
    return any(p.kind is p.VAR_KEYWORD for p in parameters)
