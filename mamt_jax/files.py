"""Paths as people give them, and files that appear whole."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from mamt_jax.errors import ConfigError


def user_path(path: str | os.PathLike[str]) -> Path:
    """A path that a user gave, as it is meant now: with their home for ``~``, and absolute.

    Taken once, on entry: whatever changes the working directory later does not move it. As in a
    shell, ``~name`` of nobody is a name like any other.

    Raises:
        ConfigError: It cannot be the name of a file, or the user has no home, or the working
            directory has gone.
    """
    given = str(path) if isinstance(path, str | os.PathLike) else ""
    if not given or "\0" in given:
        raise ConfigError(f"{path!r} is not the name of a file or folder.")
    expanded = os.path.expanduser(given)
    homeless = os.environ.get("HOME") == "" and given.split(os.sep)[0] == "~"
    if homeless or expanded.split(os.sep)[0] == "~":
        raise ConfigError(f"{given} is in a home directory, and this user has none; set HOME.")
    try:
        return Path(expanded).absolute()
    except OSError as error:
        raise ConfigError(
            f"{given} is in the working directory, which has gone: {error.strerror}."
        ) from error


def quoted(path: str | os.PathLike[str]) -> str:
    """A path as a shell reads it, in one printable line: ``$'…'`` where it holds what is not."""
    text = os.fspath(path)
    if text.isprintable():
        return shlex.quote(text)
    plain = (chr(byte) if _is_plain(byte) else f"\\x{byte:02x}" for byte in os.fsencode(text))
    return f"$'{''.join(plain)}'"


def _is_plain(byte: int) -> bool:
    return 32 <= byte < 127 and byte not in b"'\\"


def write_whole(path: Path, content: bytes) -> None:
    """Writes a file by renaming it into place: readers see the old or the new content.

    Raises:
        OSError: The old content stays.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
