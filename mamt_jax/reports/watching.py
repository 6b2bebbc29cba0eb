"""Figures of runs that are drawn again while the runs go on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from mamt_jax.errors import RunError
from mamt_jax.files import user_path
from mamt_jax.reports.report import draw, open_panels
from mamt_jax.reports.sources import run_directories
from mamt_jax.training.shards import Recorded

_INTERVAL = 5.0  # seconds between looks at the runs


def plot(
    paths: Sequence[Path],
    folder: Path,
    quantities: Sequence[str] = (),
    kind: str = "png",
    per_seed: bool = False,
) -> list[Path]:
    """Draws figures of runs, finished or not; arguments and errors as those of ``report``."""
    panels = open_panels([user_path(path) for path in paths], per_seed)
    return draw(panels, folder, quantities, kind)


def watch(
    paths: Sequence[Path], redraw: Callable[[], None], interval: float = _INTERVAL
) -> list[Path]:
    """Draws whenever there is more to draw, until nobody trains one of the runs any more.

    A run that has recorded nothing yet is waited for. Runs that begin in a given folder meanwhile
    are drawn, too.

    Args:
        paths: Run directories, records, or folders of these.
        redraw: Draws them all.
        interval: Seconds between looks.

    Returns:
        The run directories that were watched.

    Raises:
        RunError: Of ``redraw``, once no run goes on.
    """
    drawn = None
    while True:
        runs = run_directories([user_path(path) for path in paths])
        going = any(
            [Recorded(run).is_written() for run in runs]
        )  # asked first: then all is on disk
        state = [(run, _written_at(run)) for run in runs]
        if drawn != state or not going:
            try:
                redraw()
                drawn = state
            except RunError:
                if not going:
                    raise
        if not going:
            return runs
        time.sleep(interval)


def _written_at(run: Path) -> int | None:
    """When a run's metrics were last written."""
    try:
        return Recorded(run).written_at()
    except OSError:
        return None
