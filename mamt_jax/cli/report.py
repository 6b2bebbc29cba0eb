"""``mamt report``: tables and figures of recorded runs."""

from __future__ import annotations

from dataclasses import dataclass

import tyro

from mamt_jax.cli.flags import File, MaybeFile


@dataclass(frozen=True)
class Report:
    """Print the tables of recorded runs and draw their figures."""

    runs: tyro.conf.Positional[tuple[File, ...]]
    """Run directories, their records in JSON, or folders of these."""
    figures: MaybeFile = None
    """Where the figures go; by default figures/ in the first of these, or beside a record."""

    def run(self) -> None:
        """Prints the tables and the names of the figures."""
        from mamt_jax.reports.report import print_tables, report

        tables, files = report(list(self.runs), self.figures)
        print_tables(*tables)
        for file in files:
            print(file)
