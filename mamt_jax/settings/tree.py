"""Settings of an algorithm: the parts that it is composed of."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from mamt_jax.errors import ConfigError, close_to
from mamt_jax.settings.fields import check_fields, fields_of


@dataclasses.dataclass(frozen=True)
class Part:
    """Settings of one part of an algorithm: subclasses are frozen dataclasses of them.

    A docstring below a field is its text in ``mamt train --help``.
    """

    group: ClassVar[str]
    """What the part is called in ``--help`` and in ``config.json``."""

    def __post_init__(self) -> None:
        check_fields(self)
        self.check()

    def check(self) -> None:
        """Refuses what does not fit together; raises ConfigError."""

    def settled(self: P) -> P:
        """The same with nothing left open."""
        return self


P = TypeVar("P", bound=Part)
_TAKEN = ("run", "execution")
"""Groups of settings that every run has."""


@dataclasses.dataclass(frozen=True)
class Settings:
    """The parts of an algorithm: ``settings[Learning].discount``.

    No two parts have a field of the same name, so that each setting is one flat keyword.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        seen: set[str] = set()
        if not (isinstance(self.parts, tuple) and all(isinstance(p, Part) for p in self.parts)):
            raise ConfigError(f"Settings are a tuple of parts (Part), got {self.parts!r}.")
        for part in self.parts:
            names = {each.name for each in dataclasses.fields(part)}
            if twice := seen & names:
                raise ConfigError(
                    f"Two parts of an algorithm have a setting {min(twice)!r}; one is enough."
                )
            seen |= names
        groups = [getattr(part, "group", "") for part in self.parts]
        for part, group in zip(self.parts, groups, strict=True):
            if groups.count(group) > 1 or group in ("", *_TAKEN):
                raise ConfigError(
                    f"{type(part).__name__} needs a group (a ClassVar[str]) of its own, got "
                    f"{group!r}."
                )

    def __getitem__(self, kind: type[P]) -> P:
        for part in self.parts:
            if isinstance(part, kind):
                return part
        held = ", ".join(type(part).__name__ for part in self.parts)
        raise ConfigError(
            f"What is built here needs settings of {kind.__name__}, and was given {held}."
        )

    def __contains__(self, kind: type[Part]) -> bool:
        return any(isinstance(part, kind) for part in self.parts)

    def flat(self) -> dict[str, Any]:
        """Every setting by its name."""
        return {name: value for part in self.parts for name, value in vars(part).items()}

    def numbers(self) -> set[str]:
        """Names of the settings that are numbers; all others shape the program."""
        kinds = (fields_of(type(part)) for part in self.parts)
        return {name for kind in kinds for name, field in kind.items() if field.is_number}

    def to_dict(self) -> dict[str, dict[str, Any]]:
        """By group and name, ready for JSON."""
        return {part.group: dict(vars(part)) for part in self.parts}

    def replace(self, changes: Mapping[str, Any], owner: str = "The algorithm") -> Settings:
        """The same with other values for some settings.

        Args:
            changes: By name.
            owner: Whose settings they are, for the error.

        Raises:
            ConfigError: There is no such setting, or it is out of range.
        """
        known = self.flat()
        for name in changes:
            if name not in known:
                raise ConfigError(
                    f"{owner} has no setting {name!r}{close_to(name, known)}; it has "
                    f"{', '.join(known)}."
                )
        parts = []
        for part in self.parts:
            given = {name: changes[name] for name in vars(part) if name in changes}
            parts.append(dataclasses.replace(part, **given))
        return Settings(tuple(parts))

    def structure(self, defaults: Settings) -> Settings:
        """The same with the defaults of all numbers: equal where programs are."""
        known = defaults.settled().flat()
        return self.settled().replace({name: known[name] for name in defaults.numbers()})

    def settled(self) -> Settings:
        """The same with nothing left open, for a run to record."""
        return Settings(tuple(part.settled() for part in self.parts))


def compose(*parts: Part) -> Settings:
    """Settings of these parts, whose values are the defaults."""
    return Settings(parts)


def check_part(part: Part) -> None:
    """Refuses a part of somebody's with settings that would not be seen.

    Raises:
        ConfigError: Its class is no dataclass, or a field is of no kind that settings have.
    """
    kind = type(part)
    if "__dataclass_fields__" not in vars(kind):
        raise ConfigError(f"{kind.__name__} must be a frozen dataclass (@dataclass(frozen=True)).")
    for each in dataclasses.fields(part):
        if each.name not in fields_of(kind):
            raise ConfigError(
                f"{kind.__name__}.{each.name} must be a bool, int, float, str or Literal of names, "
                f"got {each.type}."
            )


def recorded(group: str, values: Mapping[str, Any]) -> Part:
    """A part with the values of a recorded run, whose own class is not at hand."""
    found = [(name, Any, dataclasses.field(default=None)) for name in values]
    kind = dataclasses.make_dataclass(
        "Recorded", found, bases=(Part,), frozen=True, namespace={"group": group}
    )
    made: Part = kind(**values)
    return made
