"""How programs are compiled: one place for training, evaluation, and policies that act.

What a policy answers must not depend on who asks, so all entry points compute with the same
precision, whatever JAX's own settings say (:func:`as_written`). Compiled programs are kept between
processes; the calling process' own are left alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields, is_dataclass
from functools import cache, lru_cache, partial, wraps
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from mamt_jax.backend import Choices, chosen, tracing, with_precision
from mamt_jax.errors import ConfigError
from mamt_jax.files import user_path

T = TypeVar("T")


@contextmanager
def compilation_cache() -> Iterator[None]:
    """Keeps on disk what is compiled inside of it, and takes it from there.

    ``MAMT_JAX_CACHE`` names the directory; empty turns this off. A cache that the user has set
    serves instead. On leaving, JAX's own settings are as they were.
    """
    before = getattr(jax.config, "jax_compilation_cache_dir", None)
    directory = None if before else _cache_directory()
    if directory is None:
        yield
        return
    # JAX opens a cache once, at the first program, and writes there whatever the setting says
    # later: it is made to forget before and after.
    jax.config.update("jax_compilation_cache_dir", str(directory))
    reset_cache()
    try:
        yield
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        reset_cache()


def _cache_directory() -> Path | None:
    """Where compiled programs are kept; None where they are not, or it cannot be written."""
    chosen = os.environ.get("MAMT_JAX_CACHE")
    if chosen is None:
        chosen = f"{os.environ.get('XDG_CACHE_HOME') or '~/.cache'}/mamt_jax"
    if not chosen:
        return None
    try:
        directory = user_path(chosen)
        directory.mkdir(parents=True, exist_ok=True)
    except (OSError, ConfigError):  # the latter where there is no home
        return None
    return directory if os.access(directory, os.W_OK) else None


@contextmanager
def as_written() -> Iterator[None]:
    """What is computed within depends on no variable such as ``JAX_ENABLE_X64``.

    Numbers are float32 and int32, types and shapes are promoted as NumPy does it, random streams
    are threefry's. A run is the same under any of these settings, and one that was recorded under
    others loads.

    Raises:
      ConfigError: JAX has no device to compute on.
    """
    check_device()
    with ExitStack() as settings:
        for setting in (
            jax.enable_x64(False),
            jax.numpy_dtype_promotion("standard"),
            jax.numpy_rank_promotion("allow"),
            jax.default_prng_impl("threefry2x32"),
            jax.threefry_partitionable(True),
            jax.transfer_guard("allow"),
        ):
            settings.enter_context(setting)
        yield


@cache
def check_device() -> None:
    """Raises ConfigError where JAX cannot compute on what ``JAX_PLATFORMS`` asks for."""
    try:
        jax.devices()
    except Exception as error:  # RuntimeError; AssertionError where a platform's plugin is missing
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = str(error).strip().partition("\n")[0]
        raise ConfigError(
            f"JAX cannot use a device (JAX_PLATFORMS={asked})"
            f"{f': {reason}' if reason else ''}. Unset JAX_PLATFORMS to take what is there, or "
            f"set it to cpu."
        ) from error


def kept(make: Callable[..., T]) -> Callable[..., T]:
    """Programs for equal descriptions are the same, so that they are compiled once in a process.

    The newest few are kept. What is no value, such as an environment that is no frozen dataclass
    and may have changed since, gets programs of its own.
    """
    cached = lru_cache(maxsize=8)(make)

    @wraps(make)
    def made(*described: Any) -> T:
        try:
            hash(described)
        except TypeError:
            return make(*described)
        return cached(*described) if _is_value(described) else make(*described)

    return made


def _is_value(part: Any) -> bool:
    """Whether something that can be hashed stays what it is: values, of values, and functions."""
    if isinstance(part, tuple):
        return all(map(_is_value, part))
    if part is None or isinstance(part, type | FunctionType | partial):
        return True
    if type(part).__hash__ is object.__hash__:
        return False
    if is_dataclass(part):
        return all(_is_value(getattr(part, f.name)) for f in fields(part) if f.hash is not False)
    return True


class Program:
    """A function as one compiled program.

    Matrix products are computed in full float32 on every device, but for those of an algorithm that
    was asked for others (:class:`~mamt_jax.algorithms.registry.Recipe`).

    Args:
      function: pure, of arrays.
      donate: arguments that a call gives away.
      choices: of the device that it is for; JAX's own where left out.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        donate: tuple[int, ...] = (),
        choices: Choices | None = None,
    ) -> None:
        made_for = chosen() if choices is None else choices

        def exact(*arguments: Any) -> Any:
            with tracing(made_for):
                return with_precision("float32", function, *arguments)

        self.__wrapped__ = function
        self._jitted = jax.jit(
            exact, donate_argnums=donate, compiler_options=dict(made_for.compiler_options)
        )
        self._ahead: dict[Any, Any] = {}
        self._called = False

    def __call__(self, *arguments: Any) -> Any:
        with as_written():
            if self._ahead:
                compiled = self._ahead.get(_shapes(arguments), self._jitted)
                return compiled(*arguments)
            if self._called:
                return self._jitted(*arguments)
            with compilation_cache():
                result = self._jitted(*arguments)
            self._called = True
            return result

    def lower(self, *arguments: Any) -> Any:
        """The program for arguments of these shapes, to look at."""
        with as_written():
            return self._jitted.lower(*arguments)

    def compile_ahead(self, *arguments: Any) -> Any:
        """Compiles for arguments of these shapes; calls with such use it from here on.

        Returns:
          The compiled program, which knows its memory; None where ``JAX_DISABLE_JIT`` keeps
          anything from being compiled.
        """
        shapes = _shapes(arguments)
        if shapes not in self._ahead and not jax.config.values["jax_disable_jit"]:
            with compilation_cache():
                self._ahead[shapes] = self.lower(*arguments).compile()
        return self._ahead.get(shapes)


def _shapes(arguments: tuple[Any, ...]) -> Any:
    """What a program is compiled for."""
    leaves, structure = jax.tree.flatten(arguments)
    return structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
