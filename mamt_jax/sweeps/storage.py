"""Optuna, if it is installed, and its storages."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mamt_jax.errors import ConfigError, RunError
from mamt_jax.sweeps.grid import Grid, Point

try:
    import optuna
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
except ImportError as error:
    raise ConfigError(
        "Sweeps need a package that is not installed; install it with pip install "
        '"mamt-jax[sweep]".'
    ) from error

__all__ = ["SQLAlchemyError", "optuna"]

HEARTBEAT, GRACE = 30, 300
"""Seconds between signs of life, and without one until a claim is anybody's."""
_TRIES = 3


def shown(url: str) -> str:
    """A storage's URL without its password."""
    with suppress(Exception):
        return make_url(url).render_as_string(hide_password=True)
    return url


def open_storage(url: str) -> Any:
    """Opens a storage, and makes its tables where there are none."""
    engine = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    for left in reversed(range(_TRIES)):
        try:
            return optuna.storages.RDBStorage(
                url, engine_kwargs=engine, heartbeat_interval=HEARTBEAT, grace_period=GRACE
            )
        except (IntegrityError, ProgrammingError):  # another process makes the same tables
            if not left:
                raise
            time.sleep(1)


def locks_of(url: str) -> list[Path]:
    """The lock of a storage that is an SQLite file: SQLite locks no rows."""
    with suppress(Exception):
        parts = make_url(url)
        if parts.get_backend_name() == "sqlite" and parts.database:
            file = Path(parts.database + ".lock")
            return [file] if file.parent.is_dir() else []
    return []


@contextmanager
def opening(url: str) -> Iterator[None]:
    try:
        yield
    except (ConfigError, RunError):
        raise
    except Exception as error:  # of whatever the driver of a database is
        raise ConfigError(
            f"The storage {shown(url)} cannot be opened: {bottom_line(error)}; give a URL such as "
            f"sqlite:///study.db or postgresql://user@host/name."
        ) from error


def bottom_line(error: BaseException) -> str:
    """The first line of the text of what was at the bottom of an error."""
    while error.__cause__ is not None or getattr(error, "orig", None) is not None:
        error = error.__cause__ or error.orig  # type: ignore[attr-defined]
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


@contextmanager
def quiet() -> Iterator[None]:
    """Optuna says nothing of what it creates."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def distributions(grid: Grid, point: Point) -> dict[str, Any]:
    """Of each setting what its values are drawn from: numbers are on a scale, others are kinds."""
    found: dict[str, Any] = {}
    for name, values in grid.axes.items():
        numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)
        if not numbers:
            found[name] = optuna.distributions.CategoricalDistribution(values)
            continue
        low, high = min(values), max(values)
        whole = all(isinstance(v, int) for v in values)
        kinds = optuna.distributions
        kind: Any = kinds.IntDistribution if whole else kinds.FloatDistribution
        found[name] = kind(low, high, log=low > 0 and high >= 10 * low)
    return found
