"""``mamt report``: tables and figures of recorded runs."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from mamt_jax.cli.flags import File, MaybeFile
from mamt_jax.errors import ConfigError


@dataclass(frozen=True)
class Report:
    """Print the tables of recorded runs and draw their figures."""

    runs: tyro.conf.Positional[tuple[File, ...]]
    """Run directories, their records in JSON, or folders of these."""
    figures: MaybeFile = None
    """Where the figures go; by default figures/ in the first of these, or beside a record."""
    keep: MaybeFile = None
    """Also write the one run that is given as a record: one small JSON file, to be kept."""
    note: str | None = None
    """What the numbers of the record do not say, such as the machine."""

    def run(self) -> None:
        """Prints the tables and the names of the files written."""
        from mamt_jax.reports.record import record
        from mamt_jax.reports.report import print_tables, report

        if self.note is not None and self.keep is None:
            raise ConfigError("--note goes with --keep FILE.")
        if self.keep is not None and len(self.runs) != 1:
            raise ConfigError(f"--keep takes one run directory, got {len(self.runs)}.")
        written = [] if self.keep is None else [record(self.runs[0], self.keep, self.note or "")]
        tables, files = report(list(self.runs), self.figures)
        print_tables(*tables)
        for file in [*files, *written]:
            print(file)
