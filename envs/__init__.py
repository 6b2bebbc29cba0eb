"""JAX environments for cooperative multi-agent learning.

Example::

    env = envs.make("spread", num_agents=2, variant="paper")
    state, obs = env.reset(key)
    step = env.step(key, state, actions)
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from envs.base import Environment, EnvSpec, TimeStep
from envs.bridge import HostEnvironment, PettingZoo
from envs.multiwalker import MultiWalker
from envs.outbound import to_pettingzoo
from envs.pursuit import Pursuit
from envs.rover_tower import RoverTower
from envs.spread import Spread, Spread3Ful, Spread3Mix, Spread3Sep
from envs.toy import ToyElimination, ToyMatching, ToySurvival
from envs.wrappers import VectorEnv, VectorState, VectorStep

__all__ = [
    "EnvSpec",
    "Environment",
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

# Options and their defaults are read from the constructors, never listed a second time.
_REGISTRY: Mapping[str, type[Any]] = {
    "spread": Spread,
    "spread3_sep": Spread3Sep,
    "spread3_mix": Spread3Mix,
    "spread3_ful": Spread3Ful,
    "rover_tower": RoverTower,
    "pursuit": Pursuit,
    "multiwalker": MultiWalker,
    "pettingzoo": PettingZoo,
    "toy_matching": ToyMatching,
    "toy_survival": ToySurvival,
    "toy_elimination": ToyElimination,
}


def names() -> tuple[str, ...]:
    """Names that `make` accepts."""
    return tuple(_REGISTRY)


def summaries() -> dict[str, str]:
    """One line about every registered environment."""
    return {name: _summary(name) for name in _REGISTRY}


def _summary(name: str) -> str:
    found: str = getattr(_REGISTRY[name], "summary", None) or make(name).spec.summary
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


def make(name: str, **chosen: Any) -> Any:
    """Builds environment `name` with the `chosen` options, defaults for the rest.

    Returns:
      An `Environment`, or for those of PettingZoo a `HostEnvironment`.

    Raises:
      ValueError: unknown name, unknown option, or a value that the environment rejects.
    """
    constructor = _constructor(name)
    accepted = options(name)
    unknown = [option for option in chosen if option not in accepted]
    if unknown and constructor is not PettingZoo:  # which hands them on
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
    return _REGISTRY[name]


def _close(name: str, accepted: Iterable[str]) -> str:
    """As `mamt_jax.errors.close_to`: nothing of ours is imported here."""
    known = {each.lower(): each for each in accepted}
    found = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f" (did you mean {known[found[0]]!r}?)" if found else ""
