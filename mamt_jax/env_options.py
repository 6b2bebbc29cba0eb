"""Options of an environment as the command line takes them: KEY=VALUE."""

from __future__ import annotations

import ast
import json
import warnings
from collections.abc import Sequence
from typing import Any

from mamt_jax import envs
from mamt_jax.errors import ConfigError

_WORDS = {"true": True, "false": False, "null": None, "none": None}


def read_options(env: str, pairs: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE texts to keywords of an environment; of a key that is given twice, the last counts.

    Raises:
        ConfigError: A text is not of that form.
    """
    options: dict[str, Any] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not (separator and name.isidentifier()):
            raise ConfigError(f"--env-option must be KEY=VALUE, got {pair!r}.")
        options[name] = read_value(value, is_text(env, name))
    return options


def is_text(env: str, option: str) -> bool:
    """Whether an option of an environment is a text, such as the name of a module."""
    return env in envs.names() and option in envs.text_options(env)


def read_value(written: str, text: bool = False) -> Any:
    """What a written value means: a Python literal, JSON, or else the text itself.

    ``true``, ``false``, ``null`` and ``none`` are values in any case; quotes make a text of
    anything. An option that is a ``text`` takes everything as it is written, quotes apart.
    """
    read = _literal(written)
    return written if text and not isinstance(read, str) else read


def written(value: Any, text: bool = False) -> str:
    """Inverse of :func:`read_value`, up to numbers that are equal."""
    bare = isinstance(value, str) and read_value(value, text) == value
    return value if bare else _as_literal(value)


def _as_literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_as_literal, value))}]"
    if isinstance(value, dict):
        inside = (f"{name!r}: {_as_literal(each)}" for name, each in sorted(value.items()))
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return repr(value)


def _literal(text: str) -> Any:
    if text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    for read in (ast.literal_eval, json.loads):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what is odd in a literal
                value = read(text)
            json.dumps(value)  # what a run cannot record is a text
            return value
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            continue
    return text
