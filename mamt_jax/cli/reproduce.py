"""``mamt reproduce``: tables and figures of the paper, from runs that it trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

from mamt_jax.cli.flags import File, MaybeWhole, Text
from mamt_jax.errors import ConfigError


@dataclass(frozen=True)
class Reproduce:
    """Train and draw tables and figures of the paper, or judge its claims."""

    names: tyro.conf.Positional[tuple[str, ...]]
    """Such as table10, figure2 or verdicts; or all. --list says what there is."""
    budget: Literal["paper", "cpu", "smoke"] = "cpu"
    """How long runs are: as in the paper, in hours on a laptop, or so short that they only show
    that everything works, on Spread and Spread-3-Mix."""
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Only this environment, or with smoke this one instead; may be given again."""
    seeds: MaybeWhole = None
    """In place of the budget's."""
    out: File = field(default_factory=lambda: Path("reproduced"))
    """Folder of the runs, their records, and what is made of them."""
    records: tyro.conf.UseAppendAction[tuple[File, ...]] = ()
    """Folder with records of runs that need not be trained again; may be given again. By default
    results/ in the working directory, if there is one."""
    recorded: bool = False
    """Train nothing: draw what is recorded."""
    note: Text = ""
    """Of the records that are made, such as the machine."""
    dry_run: bool = False
    """Only list the runs: which are recorded, and how long the others are."""
    list: bool = False
    """Only list what can be reproduced."""

    def run(self) -> None:
        """Trains what is missing; prints tables and the names of the files written."""
        from mamt_jax.experiments.reproduce import checked, places, plan, reproduce, targets

        if self.list:
            return print("\n".join(f"  {name:<10} {text}" for name, text in targets().items()))
        request = checked(self.names, self.budget, self.env, self.seeds, self.recorded, self.note)
        usual = [Path("results")] if Path("results").is_dir() else []
        for folder in self.records:
            if not folder.is_dir():
                raise ConfigError(f"--records takes folders; {folder} is none.")
        where = places(self.out, self.records or usual)
        if self.dry_run:
            for run, file in plan(request, where):
                length = f"{run.seeds} seeds, {run.episodes:,} episodes"
                print(f"  {run.record:<34} {length:<26} {file or 'to be trained'}")
            return None
        for file in reproduce(request, where):
            print(file)
        return None
