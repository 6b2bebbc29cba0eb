"""Flags of the commands: types, texts, and for ``mamt train`` one for every setting, in groups.

What such a flag is called, its type and its text are read from the config's fields.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, Field, field, fields, is_dataclass, make_dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import tyro
from tyro.constructors import PrimitiveConstructorSpec

from mamt_jax.algorithms import registry
from mamt_jax.config import TrainConfig, make_config, unknown_setting
from mamt_jax.errors import ConfigError
from mamt_jax.settings.fields import Kept, fields_of

_MIN_COLUMNS = 60
"""Columns below which tyro's boxes hold no text; it does not come back where there are very few."""


def whole_number(text: str) -> int:
    """Reads 10000, 10_000 or 1e4.

    Raises:
        ValueError: It is none, or has 20 digits and more.
    """
    try:
        number = Decimal(text)
    except InvalidOperation:
        number = Decimal("NaN")
    if not (number.is_finite() and number.adjusted() < 19 and number == int(number)):
        raise ValueError(f"must be a whole number such as 10000, 10_000 or 1e4, got {text!r}")
    return int(number)


def _path(text: str) -> Path:
    if not text:
        raise ValueError("must name a file or directory, got an empty text")
    return Path(text)


def _kept(text: str) -> int | str:
    try:
        return "all" if text == "all" else whole_number(text)
    except ValueError as error:
        raise ValueError(f"must be a whole number or all, got {text!r}") from error


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"must be a number, got {text!r}") from error


def _maybe_number(text: str) -> float | None:
    return None if text == "None" else _number(text)


def _primitive(metavar: str, kind: Any, read: Any) -> PrimitiveConstructorSpec[Any]:
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=metavar,
        instance_from_str=lambda given: read(given[0]),
        is_instance=lambda value: isinstance(value, kind),
        str_from_instance=lambda value: [str(value)],
    )


Whole = Annotated[int, _primitive("INT", int, whole_number)]
File = Annotated[Path, _primitive("PATH", Path, _path)]
MaybeFile = Annotated[Path | None, _primitive("PATH", Path | None, _path)]
Text = Annotated[str, _primitive("TEXT", str, str)]
MaybeWhole = Annotated[int | None, _primitive("INT", int | None, whole_number)]
KeptNumber = Annotated[int | str, _primitive("INT|all", int | str, _kept)]
_KINDS: dict[Any, Any] = {
    int: Whole,
    float: Annotated[float, _primitive("FLOAT", float | int, _number)],
    float | None: Annotated[float | None, _primitive("FLOAT", float | int | None, _maybe_number)],
    Kept: KeptNumber,
}
"""Types of settings and how they are read, where tyro would name Python's types in its errors."""


def parse(command: type, prog: str, arguments: Sequence[str]) -> Any:
    """Arguments to an instance of a command's dataclass, whose docstrings are the help.

    Raises:
        SystemExit: A usage error or ``--help``.
    """
    with _wide_enough():
        return tyro.cli(
            command,
            prog=prog,
            description=inspect.getdoc(command),
            args=list(arguments),
            config=(tyro.conf.OmitArgPrefixes,),
        )


def with_settings(command: type, defaults: TrainConfig) -> type:
    """A dataclass with the fields of a command and, in groups, those of the config."""
    own = [
        _described(each.name, kind, each, _texts(command))
        for each, kind in zip(
            fields(command), get_type_hints(command, include_extras=True).values(), strict=True
        )
    ]
    parts = []
    for name, group in _groups(defaults).items():
        found, texts = [], texts_of_fields(type(group))
        for each, described in fields_of(type(group)).items():
            kind = described.kind | None if described.optional else described.kind
            default = field(default=getattr(group, each))
            found.append(_described(each, _KINDS.get(kind, kind), default, texts))
        part = make_dataclass(_key(name), found, frozen=True)
        kind = Annotated[part, tyro.conf.arg(name=name, help="")]
        parts.append((_key(name), kind, field(default_factory=part)))
    made = make_dataclass(command.__name__, own + parts, frozen=True)
    made.__doc__ = command.__doc__
    return made


def parse_with_settings(
    command: type, prog: str, defaults: TrainConfig, arguments: Sequence[str]
) -> tuple[dict[str, Any], TrainConfig]:
    """The values of a command's own fields, and the config that its other flags ask for.

    Raises:
        SystemExit: A usage error or ``--help``.
        ConfigError: A setting is out of range, or not one of the algorithm's.
    """
    own = defaults.settings.flat()
    for name in given_settings(arguments):
        if name in registry.all_settings() and name not in own:
            raise ConfigError(unknown_setting(name, defaults.algorithm, own))
    parsed = parse(with_settings(command, defaults), prog, arguments)
    mine = {each.name: getattr(parsed, each.name) for each in fields(command)}
    return mine, settings(parsed, defaults)


def settings(parsed: Any, defaults: TrainConfig) -> TrainConfig:
    """The config that an instance of :func:`with_settings` holds.

    Raises:
        ConfigError: A setting is out of range.
    """
    values: dict[str, Any] = {}
    for name in _groups(defaults):
        values |= vars(getattr(parsed, _key(name)))
    kept = {"env_options": defaults.env_options, "objects": defaults.objects}
    return make_config(defaults.settings, **kept, **values)


def _groups(config: TrainConfig) -> dict[str, Any]:
    """What holds the settings of each group, in the order of ``--help``."""
    parts = {part.group: part for part in config.settings.parts}
    return {"run": config, **parts, "execution": config.execution}


def given_settings(arguments: Sequence[str]) -> list[str]:
    """Names of what is given as flags, whether or not there are such settings."""
    flags = (each.partition("=")[0] for each in arguments if each.startswith("--"))
    return [each.removeprefix("--").removeprefix("no-").replace("-", "_") for each in flags]


def given(arguments: Sequence[str], name: str) -> str | None:
    """What follows a flag, the last time that it is given."""
    found = None
    for flag, following in zip(arguments, [*arguments, ""][1:], strict=True):
        if flag == f"--{name}":
            found = following
        elif flag.startswith(f"--{name}="):
            found = flag.partition("=")[2]
    return found


def _key(group: str) -> str:
    return re.sub(r"\W", "_", f"group_{group}")


def _described(name: str, kind: Any, default: Any, texts: dict[str, str]) -> tuple[str, Any, Any]:
    """A field for `make_dataclass`, with its text."""
    if isinstance(default, Field):
        given = default.default is not MISSING
        default = field(default=default.default) if given else field()
    return name, Annotated[kind, tyro.conf.arg(help=texts.get(name, ""))], default


def _texts(described: type) -> dict[str, str]:
    """Docstrings of a dataclass's fields, as plain sentences; nothing where its code is nowhere."""
    try:
        code = inspect.getsource(described)
    except (OSError, TypeError):
        return {}
    (definition,) = ast.parse(textwrap.dedent(code)).body
    body = definition.body if isinstance(definition, ast.ClassDef) else []
    found = {}
    for here, after in zip(body, body[1:], strict=False):
        if (
            isinstance(here, ast.AnnAssign)
            and isinstance(here.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[here.target.id] = plain(str(after.value.value))
    return found


def texts_of_fields(described: type) -> dict[str, str]:
    """As :func:`_texts`, of all classes that it inherits fields from."""
    found: dict[str, str] = {}
    for each in reversed(described.__mro__):
        if is_dataclass(each):
            found |= _texts(each)
    return found


def plain(text: str) -> str:
    """A docstring's text without its markup, on one line."""
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"\1", text)
    return " ".join(text.replace("`", "").split())


def print_section(title: str, lines: dict[str, str]) -> None:
    """Prints a title and one line for each name, its summary beside it."""
    width = max(map(len, lines))
    print(f"{title}:")
    for name, summary in lines.items():
        print(f"  {name:<{width}}  {summary}")


@contextmanager
def _wide_enough() -> Iterator[None]:
    """Says that the terminal is wide enough for tyro where it is not."""
    if shutil.get_terminal_size().columns >= _MIN_COLUMNS:
        yield
        return
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = str(_MIN_COLUMNS)
    try:
        yield
    finally:
        del os.environ["COLUMNS"]
        if before is not None:
            os.environ["COLUMNS"] = before
