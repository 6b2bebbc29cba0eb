"""``mamt report``: tables and figures of recorded runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from mamt_jax.cli.flags import File, MaybeFile
from mamt_jax.errors import ConfigError


@dataclass(frozen=True)
class Report:
    """Print the tables of recorded runs and draw their figures."""

    runs: tyro.conf.Positional[tuple[File, ...]]
    """Run directories, their records in JSON, or folders of these at any depth."""
    figures: MaybeFile = None
    """Where the figures go; by default figures/ in the working directory."""
    per_seed: bool = False
    """Draw a thin line for each seed in the place of bands."""
    format: Literal["text", "csv", "json", "latex"] = "text"
    """Of the tables. Others than text are all that is printed; figures are drawn with --figures."""
    keep: MaybeFile = None
    """Also write the one run that is given as a record: one small JSON file, to be kept."""
    policies: MaybeFile = None
    """Also write the policies of the run's best seed as one small .npz file, for
    mamt_jax.pretrained."""
    note: str | None = None
    """What the numbers of the record do not say, such as the machine; without --keep, of the card
    that policies have."""

    def run(self) -> None:
        """Prints the tables and, with text, the names of the files written."""
        from mamt_jax.reports.formats import as_csv, as_json, as_latex
        from mamt_jax.reports.record import record
        from mamt_jax.reports.report import draw, figures_folder, open_panels, print_tables, tables

        if self.note is not None and self.keep is None and self.policies is None:
            raise ConfigError("--note goes with --keep FILE or --policies FILE.")
        for flag, file in (("--keep", self.keep), ("--policies", self.policies)):
            if file is not None and len(self.runs) != 1:
                raise ConfigError(f"{flag} takes one run directory, got {len(self.runs)}.")
        for_people = self.format == "text"
        if self.per_seed and self.figures is None and not for_people:
            raise ConfigError(
                f"--per-seed is for figures; with --format {self.format} they need --figures."
            )
        if self.policies is not None and self.policies.suffix != ".npz":
            raise ConfigError(
                f"--policies takes a file that ends with .npz, got {self.policies.name}."
            )
        written = [] if self.keep is None else [record(self.runs[0], self.keep, self.note or "")]
        if self.policies is not None:
            written.append(
                _keep_policies(self.runs[0], self.policies, "" if self.keep else self.note or "")
            )
        folder = figures_folder(self.figures)
        panels = open_panels(list(self.runs), self.per_seed)
        if for_people or self.figures is not None:
            written = [*draw(panels, folder), *written]
        if not for_people:
            printed = {
                "csv": as_csv,
                "json": as_json,
                "latex": lambda found: as_latex(tables(found)),
            }
            return print(printed[self.format](panels), end="")
        print_tables(*tables(panels))
        for file in written:
            print(file)


def _keep_policies(run: Path, file: Path, note: str) -> Path:
    from mamt_jax.training.pretrained import save_policies
    from mamt_jax.training.run import load

    if run.is_file():
        raise ConfigError(f"--policies takes a run directory; the record {run} has no policies.")
    return save_policies(load(run), file, note)
