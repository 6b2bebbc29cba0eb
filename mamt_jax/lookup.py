"""Things by their path, MODULE:NAME, modules in the working directory included."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from mamt_jax.errors import ConfigError

_PATH = re.compile(r"\w+(\.\w+)*:\w+")


def is_path(name: str) -> bool:
    """Whether a name is of the form MODULE:NAME."""
    return bool(_PATH.fullmatch(name))


def imported(path: str) -> Any:
    """What MODULE:NAME names.

    Raises:
        ConfigError: There is no such module or name, or the module cannot be imported.
    """
    module, _, name = path.partition(":")
    try:
        with _working_directory():
            found = import_module(module)
    except Exception as error:  # whatever a module of somebody's raises
        missing = isinstance(error, ModuleNotFoundError) and module.startswith(str(error.name))
        if module.partition(".")[0] == __package__ and not missing:
            raise
        raise ConfigError(f"Cannot import {module}: {type(error).__name__}: {error}.") from error
    if not hasattr(found, name):
        raise ConfigError(f"{module} has no {name}.")
    return getattr(found, name)


@contextmanager
def _working_directory() -> Iterator[None]:
    """Finds modules there, too, after all others: nothing that is installed is hidden."""
    here = os.getcwd()
    if here in sys.path or "" in sys.path:
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
