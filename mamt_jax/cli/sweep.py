"""``mamt sweep``: trains every combination of some settings' values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tyro

from mamt_jax.cli import flags
from mamt_jax.cli.flags import MaybeFile, Text, Whole
from mamt_jax.cli.train import usual_directory
from mamt_jax.config import TrainConfig, make_config
from mamt_jax.errors import ConfigError
from mamt_jax.files import quoted, user_path
from mamt_jax.settings.fields import fields_of

_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}


@dataclass(frozen=True)
class SweepFlags:
    """Train all combinations of some settings, and show which are best; resumable."""

    grid: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """SETTING=VALUE,VALUE,...: the values of one setting; may be given again."""
    out: MaybeFile = None
    """Directory of the sweep, in which the same command goes on; runs/sweep-ALGORITHM-ENV where
    none is given."""
    halving: bool = False
    """Train all combinations for a sixth of the episodes, the best sixth of them for a third, and
    the best sixth of those for all."""
    storage: Text = ""
    """URL of an Optuna storage that machines share; by default SQLite in --out."""
    study: Text = ""
    """Name of the study in the storage; ALGORITHM-ENV where none is given."""
    together: Whole = 0
    """Combinations that are claimed and trained at once, at most; 0 means as many of one structure
    as there is memory for."""
    env_option: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Option of the environment, as KEY=VALUE; quotes make a text of a value: KEY='"3"'."""


@dataclass(frozen=True)
class Sweep(SweepFlags):
    """Train all combinations of some settings, and show which are best; resumable."""

    config: TrainConfig = field(default_factory=TrainConfig)
    axes: dict[str, list[Any]] = field(default_factory=dict)

    def directory(self) -> Path:
        """Where the sweep goes."""
        usual = usual_directory(self.config.algorithm, self.config.env)
        return self.out or usual.with_name(f"sweep-{usual.name}")

    def run(self) -> None:
        """Trains what is not trained yet, prints the best and draws the figures."""
        from mamt_jax.env_options import read_options
        from mamt_jax.reports.report import print_tables
        from mamt_jax.sweeps.plots import draw
        from mamt_jax.sweeps.run import sweep_config

        config = self.config
        if self.env_option:
            config = replace(config, env_options=read_options(config.env, self.env_option))
        out = user_path(self.directory())
        found = sweep_config(
            config,
            self.axes,
            out=out,
            halving=self.halving,
            storage=self.storage or None,
            study=self.study or None,
            together=self.together,
            progress=True,
        )
        print_tables(found.table())
        for file in [found.write_csv(), *draw(found)]:
            print(file)
        best = out / found.best.run
        here = "is in" if best.is_dir() else "is on another machine, where the sweep has"
        print(f"The best run {here} {quoted(best if best.is_dir() else found.best.run)}.")


def parse(arguments: Sequence[str]) -> Sweep:
    """What follows ``mamt sweep`` to a command; defaults are the algorithm's own.

    Raises:
        SystemExit: A usage error or ``--help``.
        ConfigError: A setting is out of range, or a grid is not of the form SETTING=VALUE,VALUE.
    """
    defaults = make_config(algorithm=flags.given(arguments, "algorithm") or TrainConfig.algorithm)
    mine, config = flags.parse_with_settings(SweepFlags, "mamt sweep", defaults, arguments)
    axes = read_axes(config, mine["grid"])
    for name in flags.given_settings(arguments):
        if name in axes:
            raise ConfigError(f"{name} is in the grid, and cannot be given beside it.")
    return Sweep(**mine, config=config, axes=axes)


def read_axes(config: TrainConfig, texts: Sequence[str]) -> dict[str, list[Any]]:
    """SETTING=VALUE,VALUE texts to lists of values by setting.

    Raises:
        ConfigError: A text is not of that form, a setting is given twice, or a value is not of its
            kind.
    """
    parts = [*config.settings.parts, config]
    kinds = {name: each for part in parts for name, each in fields_of(type(part)).items()}
    axes: dict[str, list[Any]] = {}
    for each in texts:
        written, separator, values = each.partition("=")
        name = written.replace("-", "_")
        if not separator or not all(values.split(",")):
            raise ConfigError(f"--grid must be SETTING=VALUE,VALUE,..., got {each!r}.")
        if name in axes:
            raise ConfigError(f"{name} is given to --grid more than once; name all values at once.")
        kind = kinds[name].kind if name in kinds else None
        axes[name] = [_value(name, kind, value) for value in values.split(",")]
    return axes


def _value(name: str, kind: Any, written: str) -> Any:
    """A value of a setting, as it is written; texts of kinds are checked by the settings."""
    if written.lower() in _WORDS and kind is not str:
        return _WORDS[written.lower()]
    readers: dict[Any, Any] = {int: flags.whole_number, float: float}
    try:
        return readers.get(kind, str)(written)
    except ValueError as error:
        wanted = "whole numbers" if kind is int else "numbers"
        raise ConfigError(f"{name} must have {wanted} in a grid, got {written!r}.") from error
