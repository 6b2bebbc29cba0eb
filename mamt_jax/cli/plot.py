"""``mamt plot``: figures of runs, finished or running."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from mamt_jax.cli.flags import File, MaybeFile


@dataclass(frozen=True)
class Plot:
    """Draw figures of runs, finished or running."""

    runs: tyro.conf.Positional[tuple[File, ...]]
    """Run directories, their records in JSON, or folders of these at any depth."""
    quantity: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """What to draw, such as entropy; may be given again. By default what mamt report draws."""
    out: MaybeFile = None
    """Folder of the figures; by default figures/ in the working directory."""
    format: Literal["png", "svg"] = "png"
    """Of the files."""
    per_seed: bool = False
    """Draw a thin line for each seed in the place of bands."""
    live: bool = False
    """Draw again whenever a run has saved more, until none of them goes on."""

    def run(self) -> None:
        """Draws, and prints the names of the files when they are there for the first time."""
        from mamt_jax.reports.report import figures_folder
        from mamt_jax.reports.watching import plot, watch

        folder, printed = figures_folder(self.out), set()

        def draw() -> None:
            for file in plot(self.runs, folder, self.quantity, self.format, self.per_seed):
                if file not in printed:
                    printed.add(file)
                    print(file, flush=True)

        if not self.live:
            return draw()
        try:
            with _said_once():
                watch(self.runs, draw)
        except KeyboardInterrupt:  # the usual way to end this
            return
        print("No run goes on any more; the figures are the last.")


@contextmanager
def _said_once() -> Iterator[None]:
    """Shows each warning once, however often the figures are drawn."""
    show, told = warnings.showwarning, set()

    def shown_once(message: Any, *details: Any, **more: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            show(message, *details, **more)

    with warnings.catch_warnings():
        warnings.showwarning = shown_once
        yield
