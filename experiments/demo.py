"""The demonstration: MAMT on Spread with eight seeds, a table, and figures.

Start it with ``make demo``. What is run is the study ``demo``: so many episodes that two cores need
six to seven minutes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from typing import Any

from rich.console import Console

from mamt_jax.cli.guard import guarded
from mamt_jax.config import TrainConfig, make_config
from mamt_jax.errors import InterruptedRun, RunError
from mamt_jax.experiments.studies import STUDIES
from mamt_jax.reports.report import report
from mamt_jax.reports.texts import counted
from mamt_jax.training.resume import is_finished
from mamt_jax.training.run import run_config
from mamt_jax.training.run_dir import RunDir

RUN = STUDIES["demo"].runs[0]
OUT = Path("runs/demo")


def demo(out: Path = OUT, **options: Any) -> None:
    """Trains, then prints the table and draws the figures.

    An unfinished demo in ``out`` is resumed, a finished one replaced.

    Args:
        out: Run directory.
        **options: Keywords of ``mamt_jax.train`` that are not as in the study.

    Raises:
        RunError: ``out`` holds another run.
        InterruptedRun: Ctrl-C or SIGTERM; the text says how to go on.
    """
    config = make_config(**RUN.options() | options)
    resume = _prepare(RunDir(out), config)
    console = Console(width=max(Console().width, 100))
    console.print(
        f"MAMT on Spread: {counted(config.seeds, 'seed')}, {config.episodes:,} episodes each."
    )
    try:
        run_config(config, out=out, resume=resume, progress=True)
    except InterruptedRun as stopped:
        raise InterruptedRun(
            f"The demo was interrupted and is saved in {out}. To go on, run make demo again."
        ) from stopped
    tables, figures = report([out], out / "figures")
    console.print(*tables, sep="\n\n")
    for figure in figures:
        console.print(f"  {figure}", highlight=False)


def _prepare(directory: RunDir, config: TrainConfig) -> bool:
    """Whether there is a demo to resume; removes one that is finished."""
    if not directory.holds_run():
        return False
    if directory.read_config() != config:
        raise RunError(f"{directory.path} holds another run than this demo; move it elsewhere.")
    if not is_finished(directory):
        return True
    shutil.rmtree(directory.path)
    return False


def main() -> int:
    """Entry point of ``python -m mamt_jax.experiments.demo``."""
    parser = argparse.ArgumentParser(description="Trains MAMT on Spread and shows what it learned.")
    parser.add_argument("--episodes", type=int, default=RUN.episodes)
    parser.add_argument("--seeds", type=int, default=RUN.seeds)
    chosen = parser.parse_args()
    return guarded(lambda: demo(**vars(chosen)), trains=True)


if __name__ == "__main__":
    raise SystemExit(main())
