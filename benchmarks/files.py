"""Files of measurements: written whole or not at all, and read by machine."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mamt_jax.errors import OutputError
from mamt_jax.reports.texts import counted

Rows = list[dict[str, Any]]


def check_out(path: Path) -> None:
    """Asks, before anything is measured, whether a file can be written; leaves nothing.

    Raises:
      OutputError: it cannot.
    """
    try:
        if path.exists() and not path.is_file():
            raise OutputError(
                f"{path} cannot be written: Is {'a directory' if path.is_dir() else 'no file'}."
            )
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error


def write(path: Path, content: dict[str, Any]) -> None:
    """Writes JSON under another name first: a file is there whole, or as it was before.

    Raises:
      OutputError: it cannot be written.
    """
    target = path.resolve()  # of a link, the file behind it
    part = target.with_name(f".{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(json.dumps(content, indent=1) + "\n")
        part.replace(target)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror}.") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@dataclass
class Machine:
    """A machine, and what was measured there."""

    processor: str
    cores: int
    device: str
    """As JAX calls it."""
    versions: dict[str, str]
    dates: set[str] = field(default_factory=set)
    """Of the measurements, ISO."""
    found: dict[str, Rows] = field(default_factory=dict)
    """Rows by kind of measurement."""

    def caption(self) -> str:
        """Processor, cores, accelerator, versions, dates."""
        parts = [self.processor, counted(self.cores, "core")]
        parts += [self.device] if self.device != "cpu" else []
        parts += [f"{name} {self.versions[name]}" for name in ("jax", "torch") if self._has(name)]
        return ", ".join([*parts, " to ".join(self._days()) or "date not recorded"])

    def label(self) -> str:
        """The same as the name of a folder."""
        device = self.device if self.device != "cpu" else ""
        parts = [self.processor, counted(self.cores, "core"), device, f"jax {self.versions['jax']}"]
        text = " ".join([*parts, *self._days()[:1]])
        return re.sub(r"[^a-z0-9.]+", "-", text.lower()).strip("-.")

    def _has(self, package: str) -> bool:
        return package in self.versions

    def _days(self) -> list[str]:
        """First and last."""
        return sorted({min(self.dates), max(self.dates)}) if self.dates else []


def by_machine(files: Sequence[Path], kinds: Sequence[str]) -> list[Machine]:
    """Every machine that the files are of, with its rows of these kinds from all of its files.

    Two files are of one machine if they name the same system, processor, number of cores,
    accelerator and version of JAX.

    Raises:
      OutputError: a file cannot be read, or holds nothing of these kinds.
    """
    machines: dict[str, Machine] = {}
    for file in files:
        try:
            content = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise OutputError(f"{file} is no file of measurements: {error}.") from error
        content = content if isinstance(content, dict) else {}
        found = {k: rows for k in kinds if isinstance(rows := content.get(k), list) and rows}
        if not found:
            raise OutputError(f"{file} holds none of {', '.join(kinds)}.")
        machine = _machine(file, content, machines)
        for name, rows in found.items():
            machine.found.setdefault(name, []).extend(rows)
    return list(machines.values())


def _machine(file: Path, content: dict[str, Any], known: dict[str, Machine]) -> Machine:
    """The known machine that a file is of, or a new one."""
    try:
        said = content["hardware"]
        processor = said["processor"] or "unknown processor"
        what = processor, int(said["cores"]), said["device"]
        identity = json.dumps([said["platform"], *what, said["versions"]["jax"]])
        machine = known.setdefault(identity, Machine(*what, versions={}))
        machine.versions |= said["versions"]
        machine.dates |= {said["date"]} if "date" in said else set()
    except (KeyError, TypeError, ValueError) as error:
        raise OutputError(f"{file} does not say on which machine it was measured.") from error
    return machine
