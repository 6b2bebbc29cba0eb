"""Runs to report: their directories and records, in any folders, and how they are opened."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr

from mamt_jax.analysis.seeds import surviving
from mamt_jax.config import TrainConfig
from mamt_jax.errors import RunError
from mamt_jax.reports.record import open_directory, read_record
from mamt_jax.reports.texts import counted
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import Recorded


def find_runs(paths: list[Path]) -> list[Path]:
    """Run directories and records, those given and those below given folders.

    Benchmark files, which lie beside records in ``results/``, are left out with one warning; so is
    each thing that a search finds and that cannot be opened.

    Raises:
        RunError: A folder holds neither, or there are only benchmarks.
    """
    runs: list[Path] = []
    benchmarks = 0
    for path in paths:
        searched = path.is_dir() and not RunDir(path).holds_run()
        inside = list(_below(path)) if searched else [path]
        candidates = [each for each in inside if not _is_benchmark(each)]
        kept = [each for each in candidates if not searched or _opens(each)]
        if not (kept or len(candidates) < len(inside)):
            raise RunError(f"{path} holds no run and no record of one.")
        benchmarks += len(inside) - len(candidates)
        runs += kept
    if not runs:
        raise RunError("Only benchmark files were given, no run and no record of one.")
    if benchmarks:
        warnings.warn(f"Left out: {counted(benchmarks, 'benchmark file')}.", stacklevel=3)
    return runs


def run_directories(paths: list[Path]) -> list[Path]:
    """Directories of the runs that are given or below given folders, whatever is in them."""
    found = []
    for path in paths:
        inside = [path] if RunDir(path).holds_run() else _below(path)
        found += [each for each in inside if each.is_dir()]
    return found


def _opens(path: Path) -> bool:
    """Whether what a search found can be opened; warns if not."""
    try:
        open_run(path)
    except RunError as error:
        warnings.warn(f"Left out: {error}", stacklevel=4)
        return False
    return True


def open_run(path: Path) -> tuple[TrainConfig, xr.Dataset]:
    """Config and metrics of a run directory, or of a file by ``mamt report --keep``.

    The metrics are laid out as :func:`~mamt_jax.analysis.seeds.over_seeds` does it.

    Raises:
        RunError: There is neither, it cannot be read, or all its seeds diverged.
    """
    if path.is_file():
        return read_record(path)
    if not path.exists():
        raise RunError(f"{path} does not exist.")
    return open_directory(path)


def open_seeds(path: Path) -> xr.Dataset:
    """What every seed that has not diverged has recorded; of a record, its returns.

    Raises:
        RunError: As :func:`open_run`.
    """
    if path.is_file():
        return read_record(path)[1][["return_mean"]]
    return surviving(Recorded(path).read_metrics())


def _below(folder: Path) -> Iterator[Path]:
    """Run directories and JSON files, in the order of their names; hidden ones are passed by."""
    for name, folders, files in os.walk(folder):
        here = Path(name)
        if RunDir(here).holds_run():
            folders.clear()
            yield here
            continue
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        for file in sorted(files):
            if file.endswith(".json") and not file.startswith("."):
                yield here / file


def _is_benchmark(path: Path) -> bool:
    """Whether a file was written by ``python -m benchmarks``, in its present form or the first."""
    if not path.is_file():
        return False
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False  # whoever opens it says what is wrong
    if isinstance(content, list):
        return bool(content) and all("steps_per_second" in _keys(each) for each in content)
    return "hardware" in _keys(content)


def _keys(content: Any) -> set[str]:
    return set(content) if isinstance(content, dict) else set()
