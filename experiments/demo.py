"""The demonstration: MAMT on Spread with eight seeds, a table, and figures.

Start it with ``make demo``. ``EPISODES`` is chosen so that two cores need at most six minutes.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from rich.console import Console

from experiments.cli import guarded
from experiments.report import report
from mamt_jax.training.run import train
from mamt_jax.training.run_dir import RunDir

EPISODES = 1800
OUT = Path("runs/demo")


def demo(episodes: int = EPISODES, seeds: int = 8, out: Path = OUT) -> None:
    """Trains, then prints the table and draws the figures; replaces an earlier demo in ``out``."""
    if RunDir(out).holds_run():
        shutil.rmtree(out)
    console = Console(width=max(Console().width, 100))
    console.print(f"MAMT on Spread: {seeds} seeds, {episodes:,} episodes each.")
    train("mamt", "spread", seeds=seeds, episodes=episodes, out=out, progress=True)
    tables, figures = report([out], out / "figures")
    console.print(*tables, sep="\n\n")
    for figure in figures:
        console.print(f"  {figure}", highlight=False)


def main() -> int:
    """Entry point of ``python -m experiments.demo``."""
    parser = argparse.ArgumentParser(description="Trains MAMT on Spread and shows what it learned.")
    parser.add_argument("--episodes", type=int, default=EPISODES)
    parser.add_argument("--seeds", type=int, default=8)
    chosen = parser.parse_args()
    return guarded(lambda: demo(chosen.episodes, chosen.seeds))


if __name__ == "__main__":
    raise SystemExit(main())
