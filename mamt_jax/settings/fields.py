"""Kinds of settings: what each accepts, and whether it is structure or a number.

A field of type ``float`` is a number, and so is one of type :data:`Period`. All others (sizes,
counts, kinds, flags) are structure: they shape the program.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import fields
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from mamt_jax.errors import ConfigError


class Accepts(NamedTuple):
    """What a setting may be, beyond its type."""

    test: Callable[[Any], bool]
    text: str
    """Completes "must be"."""


class Number:
    """Marks an integer as a number: an input of the program, not a part of its shape."""


POSITIVE = Accepts(lambda value: value > 0, "greater than 0")
NOT_NEGATIVE = Accepts(lambda value: value >= 0, "0 or greater")

Positive = Annotated[float, POSITIVE]
NotNegative = Annotated[float, NOT_NEGATIVE]
BelowOne = Annotated[float, Accepts(lambda value: 0 <= value < 1, "in [0, 1)")]
UpToOne = Annotated[float, Accepts(lambda value: 0 <= value <= 1, "in [0, 1]")]
Rate = Annotated[float, Accepts(lambda value: 0 < value <= 1, "in (0, 1]")]
Count = Annotated[int, POSITIVE]
CountOrNone = Annotated[int, NOT_NEGATIVE]
Period = Annotated[int, POSITIVE, Number()]
Kept = int | Literal["all"]


class Field(NamedTuple):
    """How one field of a settings dataclass is checked and used."""

    kind: Any
    """bool, int, float, str, dict, :data:`Kept`, or a ``Literal`` of names."""
    optional: bool
    """None is accepted and stands for a default that depends on others."""
    accepts: tuple[Accepts, ...]
    is_number: bool


def fields_of(described: type) -> dict[str, Field]:
    """The fields of a settings dataclass that hold a single value each."""
    hints = get_type_hints(described, include_extras=True)
    return {each.name: found for each in fields(described) if (found := _field(hints[each.name]))}


def _field(hint: Any) -> Field | None:
    extras: tuple[Any, ...] = ()
    optional = False
    if get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint):
        optional, (hint, *more) = True, [a for a in get_args(hint) if a is not type(None)]
        if more:
            return None
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        extras = tuple(rest)
    is_name = get_origin(hint) is Literal
    if not (hint in (bool, int, float, str, Kept) or is_name):
        return None
    accepts = tuple(extra for extra in extras if isinstance(extra, Accepts))
    number = hint is float or any(isinstance(extra, Number) for extra in extras)
    return Field(hint, optional, accepts, number)


def check(condition: bool, name: str, value: Any, accepted: str) -> None:
    """Raises ConfigError, naming the setting and what is accepted, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{name} must be {accepted}, got {value!r}.")


def check_fields(settings: Any) -> None:
    """Refuses values of the wrong type or out of range, so that they fail here and not in XLA.

    Numbers become Python's, NumPy's included.

    Raises:
        ConfigError: Names the first one, and what is accepted.
    """
    for name, field in fields_of(type(settings)).items():
        value = getattr(settings, name)
        if value is None and field.optional:
            continue
        value = _typed(name, value, field.kind)
        object.__setattr__(settings, name, value)
        for accepts in field.accepts:
            check(accepts.test(value), name, value, accepts.text)


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value as Python's type of this kind."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if kind == Kept:
        if value == "all":
            return value
        check(whole, name, value, 'an integer or "all"')
        return int(value)
    if get_origin(kind) is Literal:
        check(value in get_args(kind), name, value, "one of " + ", ".join(get_args(kind)))
        return value
    if kind is bool:
        check(isinstance(value, bool), name, value, "true or false")
        return value
    if kind is int:
        check(whole, name, value, "an integer")
        return int(value)
    if kind is float:
        numeric = isinstance(value, Real) and not isinstance(value, bool)
        check(numeric and abs(value) < float("inf"), name, value, "a finite number")
        return float(value)
    check(isinstance(value, str), name, value, "a name")
    return value
