"""``python -m benchmarks``: update time, environment throughput and compile time, as JSON."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from typing import Any

import jax

from benchmarks.environments import throughput
from benchmarks.training import update_time
from experiments.cli import guarded
from mamt_jax.config import check, make_config
from mamt_jax.training.run import make_algorithm

COMPILE = """
import json, sys
from mamt_jax.training.run import use_compilation_cache
from benchmarks.training import update_time
use_compilation_cache()
print(json.dumps(update_time("mamt", "spread", repetitions=1)["first_call_seconds"]))
"""


def compile_seconds() -> dict[str, float]:
    """First call of a MAMT training program in a new process: empty cache, then full cache.

    Includes tracing, compilation and the first logging point's computation.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"MAMT_JAX_CACHE": cache}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # would be used instead

        def once() -> float:
            done = subprocess.run(
                [sys.executable, "-c", COMPILE], env=environment, capture_output=True, check=True
            )
            return float(json.loads(done.stdout.splitlines()[-1]))

        return {"cold": once(), "cached": once()}


def hardware() -> dict[str, Any]:
    """Where this was measured."""
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "device": str(jax.devices()[0]),
        "load_before": round(os.getloadavg()[0], 2),
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "optax", "numpy")},
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor()


def main() -> int:
    """Runs the chosen measurements and prints one JSON object."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--algorithms", nargs="*", default=["maac", "mamd", "mamt"])
    parser.add_argument("--env", default="spread")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--skip-compile", action="store_true", help="leave out compile time")
    chosen = parser.parse_args()
    return guarded(lambda: measure(chosen))


def measure(chosen: argparse.Namespace) -> None:
    """As the command line asks.

    Raises:
        ConfigError: A name is unknown or a count out of range; before anything is measured.
    """
    check(chosen.repetitions > 0, "repetitions", chosen.repetitions, "greater than 0")
    for name in chosen.algorithms:
        make_algorithm(make_config(algorithm=name, env=chosen.env, seeds=chosen.seeds))
    report: dict[str, Any] = {"hardware": hardware()}
    report["environment"] = throughput(chosen.env, 4096, 500, chosen.repetitions)
    report["update"] = [
        update_time(name, chosen.env, chosen.seeds, chosen.repetitions)
        for name in chosen.algorithms
    ]
    if not chosen.skip_compile:
        report["compile_seconds"] = compile_seconds()
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    raise SystemExit(main())
