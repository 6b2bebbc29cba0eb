"""Planned runs: their records where there are some, or training that makes them.

Records lie under the run's name in one of several folders, looked through in turn. What is trained
goes to ``OUT/runs``, is recorded in ``OUT/records`` when it is finished, policies of its best seed
beside, and is resumed if it was stopped before that.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import xarray as xr

from mamt_jax.config import TrainConfig, make_config
from mamt_jax.errors import RunError
from mamt_jax.experiments.budgets import STUDIED
from mamt_jax.experiments.studies import Run
from mamt_jax.files import quoted
from mamt_jax.reports.record import read_record, record
from mamt_jax.training.pretrained import save_policies
from mamt_jax.training.resume import is_finished
from mamt_jax.training.run import load, run_config
from mamt_jax.training.run_dir import RunDir


@dataclass(frozen=True)
class Places:
    """Where runs and records are."""

    out: Path
    """Gets runs and records."""
    kept: tuple[Path, ...] = ()
    """Folders of records that were made before."""

    def record(self, run: Run) -> Path | None:
        """The record of a run, if there is one."""
        for folder in (self.out / "records", *self.kept):
            if (file := folder / f"{run.record}.json").is_file():
                return file
        return None

    def directory(self, run: Run) -> Path:
        """Where a run is trained."""
        return self.out / "runs" / run.record


@dataclass(frozen=True)
class Opened:
    """A recorded run."""

    run: Run
    """As it was planned."""
    file: Path
    config: TrainConfig
    metrics: xr.Dataset
    """Laid out as :func:`~mamt_jax.reports.record.read_record` does it."""
    summary: dict[str, Any]
    """The record itself: versions, note, seconds."""
    directory: Path | None
    """Of the run with its networks, where that is at hand."""


def find(run: Run, places: Places) -> Opened | None:
    """The record of a planned run.

    Raises:
        RunError: The file there is no record, or that of another run.
    """
    file = places.record(run)
    if file is None:
        return None
    config, metrics = read_record(file)
    summary = json.loads(file.read_text(encoding="utf-8"))
    if run.record not in STUDIED:  # whose records tests compare with their studies
        _check_same(config, make_config(**run.options()).settled(), file)
    directory = places.directory(run)
    return Opened(run, file, config, metrics, summary, directory if directory.is_dir() else None)


def train(run: Run, places: Places, note: str = "") -> Opened:
    """Trains a planned run, or the rest of it, and records it.

    Raises:
        RunError: Another run is in its place, or all its seeds diverged.
        InterruptedRun: Ctrl-C or SIGTERM; the same again goes on with it.
    """
    config, directory = make_config(**run.options()), RunDir(places.directory(run))
    resume = directory.holds_run()
    if resume:
        _check_same(directory.read_config(), config.settled(), directory.path)
    if not (resume and is_finished(directory)):
        run_config(config, out=directory.path, resume=resume, progress=True)
    kept = places.out / "records" / run.record
    save_policies(load(directory.path), kept.with_name(f"{kept.name}.npz"))
    record(directory.path, kept.with_name(f"{kept.name}.json"), note)
    found = find(run, places)
    assert found is not None
    return found


def missing(runs: Sequence[Run], places: Places) -> list[Run]:
    """Those without a record."""
    return [run for run in runs if places.record(run) is None]


def _check_same(found: TrainConfig, planned: TrainConfig, where: Path) -> None:
    mine, its = _flat(planned), _flat(found)
    for name, value in mine.items():
        if its.get(name) != value:
            raise RunError(
                f"{quoted(where)} is of another run than is planned ({name} is "
                f"{its.get(name)!r} there, and {value!r} here); move it away, or choose another "
                f"--out."
            )


def _flat(config: TrainConfig) -> dict[str, Any]:
    """All that defines a run, by name."""
    names = ("algorithm", "env", "env_options", "seeds", "seed", "episodes", "num_envs")
    own = asdict(config)
    return {name: own[name] for name in names} | config.settings.flat()
