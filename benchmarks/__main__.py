"""Measures speed and memory, prints a table and writes JSON; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from benchmarks import figures, files, gpu, gpu_parts, plans, tables
from benchmarks.ahead import TARGETS
from benchmarks.batches import SHAPES
from benchmarks.machine import hardware, load, warning
from benchmarks.measure import IDIOMS
from benchmarks.progress import each, note
from mamt_jax.algorithms.registry import ALGORITHMS
from mamt_jax.backend import Precision
from mamt_jax.cli.guard import guarded
from mamt_jax.settings.fields import check

FOLDER = Path("runs/benchmarks")
"""Where figures go: git keeps nothing there."""


def main() -> int:
    """Measures what the command line asks for."""
    chosen = _parser().parse_args()
    return guarded(lambda: chosen.run(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def command(
        name: str,
        plan: Callable[[argparse.Namespace], plans.Plan],
        help: str,
        repeats: bool = True,
    ) -> Any:
        options = commands.add_parser(name, help=help, description=help)
        options.set_defaults(run=lambda chosen: _measure(name, plan, chosen))
        if repeats:
            options.add_argument("--repetitions", type=int, default=5, help="turns of each")
        options.add_argument("--out", type=Path, help="JSON file; the table alone if left out")
        return options

    names = {"nargs": "+", "choices": list(ALGORITHMS), "metavar": "NAME"}
    against = {
        "nargs": "*",
        "choices": IDIOMS,
        "metavar": "IDIOM",
        "help": f"of {', '.join(IDIOMS)}; all that PyTorch has if left out",
    }
    device = {"help": "of PyTorch: cpu, cuda or cuda:N; where JAX works if left out"}
    update = command("update", plans.update, "time of an update, against PyTorch in turns")
    update.add_argument("--envs", nargs="+", default=list(SHAPES), choices=SHAPES, metavar="ENV")
    update.add_argument("--algorithms", default=["maac", "mamt"], **names)
    update.add_argument("--seeds", type=int, nargs="+", default=[8])
    update.add_argument("--against", **against)
    update.add_argument("--batch-size", type=int, default=1024)
    update.add_argument("--seed-batch", type=int, default=0, help="seeds side by side; 0: default")
    update.add_argument("--device", **device)
    training = command("training", plans.training, "environment steps per second on Spread")
    training.add_argument("--algorithms", default=["maac", "mamt"], **names)
    training.add_argument("--seeds", type=int, default=8)
    training.add_argument("--against", **against)
    training.add_argument("--device", **device)
    environments = command("environments", plans.environments, "steps per second of environments")
    environments.add_argument("names", nargs="*", default=["spread"], metavar="ENV")
    environments.add_argument("--num-envs", type=int, default=0, help="copies; 0: default")
    environments.add_argument("--steps", type=int, default=0, help="in a turn; 0: default")
    environments.add_argument("--compare", action="store_true", help="in turns with the originals")
    compiling = command(
        "compile", plans.compiling, "seconds until the first logging point", repeats=False
    )
    compiling.add_argument("--envs", nargs="+", default=["spread", "rover_tower"], metavar="ENV")
    compiling.add_argument("--algorithms", default=["maac", "mamt"], **names)
    memory = command("memory", plans.memory, "peak memory by seeds and replay size", repeats=False)
    memory.add_argument("--envs", nargs="+", default=["spread"], metavar="ENV")
    memory.add_argument("--algorithms", default=["mamt"], **names)
    memory.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    memory.add_argument("--buffer-sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    _gpu(commands.add_parser("gpu", help="all that a GPU is asked, in so many minutes"))
    ahead = command(
        "ahead", plans.ahead, "what training compiled for an absent GPU consists of", repeats=False
    )
    ahead.add_argument("--target", default="h100", choices=TARGETS)
    ahead.add_argument("--envs", nargs="+", default=["spread", "rover_tower"], metavar="ENV")
    ahead.add_argument("--algorithms", default=["maac", "mamt"], **names)
    ahead.add_argument("--seeds", type=int, default=8)
    ahead.add_argument("--precision", default="float32", choices=get_args(Precision))
    plot = commands.add_parser("plot", help="draws what files of measurements hold")
    plot.add_argument("files", nargs="+", type=Path)
    plot.add_argument("--out", type=Path, default=FOLDER, help=f"folder; {FOLDER} if left out")
    plot.set_defaults(run=lambda chosen: figures.draw(chosen.files, chosen.out))
    return parser


def _gpu(options: argparse.ArgumentParser) -> None:
    """Options of the command for the day a GPU is there."""
    options.add_argument("--minutes", type=float, default=9.0, help="after which all has ended")
    options.add_argument("--out", type=Path, default=FOLDER / "gpu", help="folder")
    parts = list(gpu_parts.PARTS)
    options.add_argument(
        "--parts", nargs="+", choices=parts, default=parts, metavar="PART", help=", ".join(parts)
    )
    options.add_argument(
        "--only-runs", nargs="+", default=list(gpu_parts.RUNS), metavar="ALGORITHM:ENV",
        help="of table10, in this order",
    )  # fmt: skip
    options.add_argument("--tiny", action="store_true", help="a rehearsal: everything small")
    options.add_argument("--commit", help="of this source, where there is no git to ask")
    options.set_defaults(run=gpu.measure)


def _measure(
    name: str, planned: Callable[[argparse.Namespace], plans.Plan], chosen: argparse.Namespace
) -> None:
    for option in ("repetitions", "seeds", "buffer_sizes", "batch_size"):
        counts = getattr(chosen, option, None)
        for count in counts if isinstance(counts, list) else [counts]:
            check(count is None or count > 0, option, count, "greater than 0")
    if chosen.out is not None:
        files.check_out(chosen.out)
    plan = planned(chosen)
    now = load()
    note(f"{name}: {len(plan.tasks)} to measure; {plan.about}.")
    note(f"Load average of the last minute: {'unknown' if now.average is None else now.average}.")
    if said := warning(now):
        note(said)
    found = {"hardware": hardware(now), **plan.content(each(plan.tasks))}
    tables.show(found)
    if chosen.out is not None:
        files.write(chosen.out, {"command": name, **found})


if __name__ == "__main__":
    # A kill ends the contenders as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    raise SystemExit(main())
