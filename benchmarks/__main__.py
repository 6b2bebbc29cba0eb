"""Measures speed and memory, prints a table and writes JSON; see benchmarks/README.md."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from benchmarks import figures, measure, tables
from benchmarks.batches import SHAPES
from benchmarks.environments import throughput
from benchmarks.machine import hardware
from benchmarks.measure import IDIOMS
from benchmarks.training import on_policy
from experiments.cli import guarded
from mamt_jax.algorithms.registry import ALGORITHMS
from mamt_jax.config import ConfigError, check
from mamt_jax.errors import OutputError


def main() -> int:
    """Measures what the command line asks for."""
    chosen = _parser().parse_args()
    return guarded(lambda: chosen.run(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="WHAT")

    def command(
        name: str, work: Callable[..., dict[str, Any]], help: str, repeats: bool = True
    ) -> Any:
        options = commands.add_parser(name, help=help, description=help)
        options.set_defaults(run=lambda chosen: _measured(name, work, chosen))
        if repeats:
            options.add_argument("--repetitions", type=int, default=5)
        options.add_argument("--out", type=Path, help="JSON file; the table alone if left out")
        return options

    names = {"nargs": "*", "choices": list(ALGORITHMS), "metavar": "NAME"}
    against = {"nargs": "*", "choices": IDIOMS, "metavar": "IDIOM"}
    update = command("update", _update, "time of an update, against PyTorch in turns")
    update.add_argument("--envs", nargs="*", default=list(SHAPES), choices=SHAPES, metavar="ENV")
    update.add_argument("--algorithms", default=["maac", "mamt"], **names)
    update.add_argument("--seeds", type=int, nargs="+", default=[8])
    update.add_argument("--against", default=None, help=f"of {', '.join(IDIOMS)}", **against)
    update.add_argument("--batch-size", type=int, default=1024)
    update.add_argument("--seed-batch", type=int, default=0, help="seeds side by side; 0: default")
    update.add_argument("--device", default=_device(), help="of PyTorch")
    training = command("training", _training, "environment steps per second of training on Spread")
    training.add_argument("--algorithms", default=["maac", "mamt"], **names)
    training.add_argument("--seeds", type=int, default=8)
    training.add_argument("--against", default=None, help=f"of {', '.join(IDIOMS)}", **against)
    training.add_argument("--device", default=_device(), help="of PyTorch")
    environments = command("environments", _environments, "steps per second of environments")
    environments.add_argument("names", nargs="*", default=["spread"], metavar="ENV")
    environments.add_argument("--num-envs", type=int, default=0)
    environments.add_argument("--steps", type=int, default=0)
    environments.add_argument("--compare", action="store_true", help="in turns with the originals")
    compiling = command("compile", _compile, "seconds until the first logging point", False)
    compiling.add_argument("--envs", nargs="*", default=["spread", "rover_tower"], metavar="ENV")
    compiling.add_argument("--algorithms", default=["maac", "mamt"], **names)
    memory = command("memory", _memory, "peak memory by seeds and replay size", False)
    memory.add_argument("--envs", nargs="*", default=["spread"], metavar="ENV")
    memory.add_argument("--algorithms", default=["mamt"], **names)
    memory.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    memory.add_argument("--buffer-sizes", type=int, nargs="+", default=[100_000, 1_000_000])
    plot = commands.add_parser("plot", help="draws what files of measurements hold")
    plot.add_argument("files", nargs="+", type=Path)
    plot.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    plot.set_defaults(run=lambda chosen: figures.draw(chosen.files, chosen.out))
    return parser


def _measured(
    name: str, work: Callable[[argparse.Namespace], dict[str, Any]], chosen: argparse.Namespace
) -> None:
    for option in ("repetitions", "seeds", "buffer_sizes", "batch_size"):
        counts = getattr(chosen, option, None)
        for count in counts if isinstance(counts, list) else [counts]:
            check(count is None or count > 0, option, count, "greater than 0")
    new = chosen.out is not None and not chosen.out.exists()
    try:
        if chosen.out is not None:
            chosen.out.parent.mkdir(parents=True, exist_ok=True)
            chosen.out.open("a").close()
        found = {"hardware": hardware(), **work(chosen)}
        tables.show(found)
        if chosen.out is not None:
            chosen.out.write_text(json.dumps({"command": name, **found}, indent=1) + "\n")
    except OSError as error:
        raise OutputError(f"{chosen.out} cannot be written: {error.strerror}.") from error
    finally:
        if new and chosen.out.is_file() and not chosen.out.stat().st_size:
            chosen.out.unlink()


def _device() -> str:
    """Where PyTorch should work: where JAX does."""
    return "cpu" if jax.default_backend() == "cpu" else "cuda"


def _against(chosen: argparse.Namespace) -> list[str]:
    """Idioms to compare with: all if PyTorch is there, unless the command line says."""
    if chosen.against and not measure.have_torch():
        raise ConfigError("--against needs PyTorch: pip install 'mamt-jax[bench]'.")
    if chosen.against is not None:
        return list(chosen.against)
    return list(IDIOMS) if measure.have_torch() else []


def _update(chosen: argparse.Namespace) -> dict[str, Any]:
    check(chosen.batch_size >= 2, "batch_size", chosen.batch_size, "2 or greater")
    for name in chosen.algorithms:
        if on_policy(name):
            raise ConfigError(
                f"update needs an algorithm that learns from a replay, and {name} learns from "
                f"rollouts; measure it with: training --algorithms {name}."
            )
    for seeds in chosen.seeds:
        even = not chosen.seed_batch or seeds % chosen.seed_batch == 0
        check(even, "seeds", seeds, f"a multiple of seed_batch ({chosen.seed_batch})")
    idioms = _against(chosen)
    rows = [
        measure.updates(
            env,
            algorithm,
            sorted(chosen.seeds),
            idioms,
            chosen.repetitions,
            chosen.batch_size,
            chosen.device,
            chosen.seed_batch,
        )
        for env in chosen.envs
        for algorithm in chosen.algorithms
    ]
    return {"updates": rows, "share_of_peak": measure.share_of_peak(rows)}


def _training(chosen: argparse.Namespace) -> dict[str, Any]:
    idioms = _against(chosen)
    return {
        "training": [
            measure.training(algorithm, chosen.seeds, idioms, chosen.repetitions, chosen.device)
            for algorithm in chosen.algorithms
        ]
    }


def _environments(chosen: argparse.Namespace) -> dict[str, Any]:
    sizes = chosen.num_envs, chosen.steps, chosen.repetitions, chosen.compare
    return {"environments": [throughput(name, *sizes) for name in chosen.names]}


def _compile(chosen: argparse.Namespace) -> dict[str, Any]:
    return {
        "compile": [
            measure.compile_seconds(algorithm, env)
            for env in chosen.envs
            for algorithm in chosen.algorithms
        ]
    }


def _memory(chosen: argparse.Namespace) -> dict[str, Any]:
    return {
        "memory": [
            measure.peak_memory(algorithm, env, seeds, size)
            for env in chosen.envs
            for algorithm in chosen.algorithms
            for size in chosen.buffer_sizes
            for seeds in chosen.seeds
        ]
    }


if __name__ == "__main__":
    raise SystemExit(main())
