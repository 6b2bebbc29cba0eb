"""What a call of :func:`mamt_jax.train` asks for: configs, places, and objects."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mamt_jax.algorithms import registry
from mamt_jax.algorithms.registry import Recipe
from mamt_jax.config import TrainConfig, make_config
from mamt_jax.envs import EnvSpec
from mamt_jax.errors import ConfigError
from mamt_jax.files import user_path
from mamt_jax.training.prepare import Objects


class Call(NamedTuple):
    """The runs that are asked for at once; their configs differ in numbers alone."""

    configs: list[TrainConfig]
    outs: list[Path | None]
    objects: Objects
    is_list: bool
    """Whether a list was given in the place of a number."""


def read_call(algorithm: Any, env: Any, out: Any, options: dict[str, Any]) -> Call:
    """Reads the arguments of :func:`mamt_jax.train`.

    Args:
        algorithm: A name, a recipe or a builder.
        env: A name or an environment.
        out: Where to record; None for nowhere.
        options: Flat keywords, numbers of the algorithm as lists where there are several.

    Raises:
        ConfigError: Something is neither of these, unknown, or out of range.
    """
    recipe, name = _algorithm(algorithm)
    given_env, env_name = _env(env, options)
    objects = Objects(None if isinstance(algorithm, str) else recipe, given_env)
    named = ("algorithm", objects.algorithm), ("env", objects.env)
    fixed = {
        "algorithm": name,
        "env": env_name,
        "objects": tuple(what for what, given in named if given is not None),
    }
    for key in {"objects", "settings"} & set(options):
        raise ConfigError(f"{key} cannot be given; settings of the algorithm are keywords.")
    lists = {key: list(value) for key, value in options.items() if _is_list(recipe, key, value)}
    configs, outs = [], []
    whole = None if out is None else user_path(out)
    for chosen in _combinations(lists):
        config = make_config(recipe.settings, **fixed | options | chosen)
        values = config.settings.flat()
        place = ",".join(f"{key}={values[key]}" for key in chosen)
        configs.append(config)
        outs.append(whole and whole / place)
    return Call(configs, outs, objects, bool(lists))


def _algorithm(given: Any) -> tuple[Recipe, str]:
    if isinstance(given, str):
        return registry.get(given), given
    recipe = registry.recipe_of(given)
    build = recipe.build
    name = build.partition(":")[2] if isinstance(build, str) else getattr(build, "__name__", "own")
    return recipe, name


def _env(given: Any, options: dict[str, Any]) -> tuple[Any, str]:
    if isinstance(given, str):
        return None, given
    check_env(given, "the name of an environment, or ")
    if options.get("env_options"):
        raise ConfigError("An environment that is given as an object has its options already.")
    return given, given.spec.name


def check_env(given: Any, other: str = "") -> None:
    """Raises ConfigError, with what ``other`` is accepted, unless this is an environment."""
    if not isinstance(getattr(given, "spec", None), EnvSpec):
        raise ConfigError(f"env must be {other}one with a spec (EnvSpec), got {given!r}.")


def _is_list(recipe: Recipe, name: str, value: Any) -> bool:
    """Whether a list was given in the place of a number.

    Raises:
        ConfigError: It was given in the place of something else, or is empty.
    """
    if not isinstance(value, list | tuple | np.ndarray) or name not in recipe.settings.flat():
        return False
    numbers = recipe.settings.numbers()
    if name not in numbers:
        raise ConfigError(
            f"{name} shapes the program, and takes one value; lists are for numbers: "
            f"{', '.join(sorted(numbers))}."
        )
    try:
        different = len(set(value))
    except TypeError:  # lists in lists, or an array without axes
        different = 0
    if not different or different < len(value):
        raise ConfigError(f"{name} must be a list of different numbers, got {value!r}.")
    return True


def _combinations(lists: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    for values in product(*lists.values()):
        yield dict(zip(lists, values, strict=True))
