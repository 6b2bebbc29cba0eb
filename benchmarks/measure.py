"""The measurements, each as a function that returns rows for JSON."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.batches import SHAPES
from benchmarks.machine import cores
from benchmarks.multiply_adds import maac_update, matrix_peak
from benchmarks.progress import duration, note
from benchmarks.training import on_policy
from benchmarks.turns import QUIET, ContenderError, Spec, in_turns, last_words

PAPER_EPISODES, PAPER_SEEDS, SPREAD_LENGTH = 10_000, 8, 25
"""The paper's budget on Spread."""
TORCH_EPISODES = 120
"""Per repetition of training in PyTorch; the second half is timed."""

IDIOMS = ("modules", "batched")
WRITTEN = {"maac": IDIOMS, "mamd": IDIOMS, "mamt": IDIOMS, "mappo": ("batched",)}
"""Idioms in which PyTorch has an algorithm; none of the others."""

Row = dict[str, Any]


def written(algorithm: str, idioms: Sequence[str]) -> list[str]:
    """Those of the idioms in which PyTorch has an algorithm."""
    return [idiom for idiom in idioms if idiom in WRITTEN.get(algorithm, ())]


def _thread_counts() -> list[int]:
    """One, and as many as there are cores."""
    return sorted({1, len(cores())})


def updates(
    env: str,
    algorithm: str,
    seeds: Sequence[int],
    idioms: Sequence[str],
    repetitions: int,
    batch_size: int = 1024,
    device: str = "cpu",
    seed_batch: int = 0,
) -> Row:
    """Milliseconds per update and seed: mamt_jax with each number of seeds, PyTorch with one.

    PyTorch counts with its best number of threads. ``speedup`` is its median over that of the
    largest number of seeds here. Idioms in which it does not have the algorithm are ``left_out``.
    """
    work = {"algorithm": algorithm, "env": env, "batch_size": batch_size}
    ours = [
        work | {"kind": "jax_update", "seeds": count, "updates": 4, "seed_batch": seed_batch}
        for count in seeds
    ]
    threads = _thread_counts() if device == "cpu" else [1]
    theirs: list[Spec] = [
        work
        | {"kind": "torch_update", "idiom": idiom, "threads": count, "updates": 2, "device": device}
        for idiom in written(algorithm, idioms)
        for count in threads
    ]
    results = in_turns([*ours, *theirs], repetitions)
    best = _best([row for row in results if row["spec"]["kind"] == "torch_update"])
    base = results[len(ours) - 1]["ms"]["median"]
    return {
        "env": env,
        "algorithm": algorithm,
        "batch_size": batch_size,
        "device": device,
        "mamt_jax": {row["spec"]["seeds"]: row["ms"] for row in results[: len(ours)]},
        "torch": best,
        "torch_by_threads": [
            {"idiom": row["spec"]["idiom"], "threads": row["spec"]["threads"]} | row["ms"]
            for row in results[len(ours) :]
        ],
        "speedup": {idiom: ms["median"] / base for idiom, ms in best.items()},
        "left_out": [idiom for idiom in idioms if idiom not in best],
        "repetitions": repetitions,
    }


def _best(rows: Sequence[Row]) -> Row:
    """Of each idiom, the number of threads with the smallest median."""
    best: Row = {}
    for row in rows:
        idiom, ms = row["spec"]["idiom"], row["ms"] | {"threads": row["spec"]["threads"]}
        if idiom not in best or ms["median"] < best[idiom]["median"]:
            best[idiom] = ms
    return best


def training(
    algorithm: str, seeds: int, idioms: Sequence[str], repetitions: int, device: str = "cpu"
) -> Row:
    """Environment steps per second on Spread, all included, and hours for the paper's budget.

    PyTorch trains one seed after another, at its best number of threads; and, on a CPU, as many
    seeds side by side as there are cores, each on one core. Each way takes turns with mamt_jax, and
    its ``speedup`` is against mamt_jax in these turns. On-policy a turn is a rollout, of every seed
    of mamt_jax's. Idioms in which PyTorch does not have the algorithm are ``left_out``.
    """
    rollouts = on_policy(algorithm)
    work: Spec = {"algorithm": algorithm}
    ours: Spec = work | {"kind": "jax_training", "env": "spread", "seeds": seeds}
    ours |= {"warm_up": 2 if rollouts else 6}  # a replay must first hold a batch
    turn: Spec = {"kind": "torch_rollouts", "warm_up": 2}
    if not rollouts:
        turn = {"kind": "torch_training", "episodes": TORCH_EPISODES, "warm_up": 1}
    theirs: list[Spec] = [
        work | turn | {"idiom": idiom, "device": device} for idiom in written(algorithm, idioms)
    ]
    threads = _thread_counts() if device == "cpu" else [1]
    after = [spec | {"threads": count} for spec in theirs for count in threads]
    first, *others = in_turns([ours, *after], repetitions)
    rates = {"mamt_jax": first["per_second"]}
    spread, speedup = {"mamt_jax": first["ms"]}, {}
    for row in others:
        name = f"{row['spec']['idiom']}, one after another"
        if row["per_second"] > rates.get(name, 0.0):
            rates[name], spread[name] = row["per_second"], row["ms"]
            speedup[name] = rates["mamt_jax"] / row["per_second"]
    for spec in theirs if device == "cpu" else []:
        side = [spec | {"threads": 1, "cores": [core]} for core in cores()]
        both = in_turns([ours, *side], repetitions, together=tuple(range(1, len(side) + 1)))
        name = f"{spec['idiom']}, side by side"
        spread[name] = _together(both[1:])
        rates[name] = 1e3 / spread[name]["median"]
        speedup[name] = both[0]["per_second"] / rates[name]
    steps = PAPER_EPISODES * SPREAD_LENGTH * PAPER_SEEDS
    return {
        "algorithm": algorithm,
        "seeds": seeds,
        "device": device,
        "steps_per_second": rates,
        "ms_per_step": spread,
        "hours_of_the_paper": {name: steps / rate / 3600 for name, rate in rates.items()},
        "speedup": speedup,
        "left_out": [idiom for idiom in idioms if idiom not in written(algorithm, idioms)],
        "mamt_jax_seconds_of_first_call": first["first_call_seconds"],
        "repetitions": repetitions,
    }


def _together(rows: Sequence[Row]) -> Row:
    """Milliseconds per unit of contenders that worked at the same time, all their units counted."""
    turns = zip(*(row["ms_of_turns"] for row in rows), strict=True)
    each = [1 / sum(1 / ms for ms in turn) for turn in turns]
    return {"median": statistics.median(each), "min": min(each), "max": max(each)}


def share_of_peak(rows: Sequence[Row]) -> list[Row]:
    """Time of MAAC's updates as a multiple of what their multiply-adds need at the matrix peak."""
    measured = [row for row in rows if row["algorithm"] == "maac"]
    if not measured:
        return []
    note("Large matrix products, for the peak: some seconds")
    peak = matrix_peak()
    found = []
    for row in measured:
        obs_sizes, actions = SHAPES[row["env"]]
        count = maac_update(obs_sizes, actions, batch=row["batch_size"])
        ms = list(row["mamt_jax"].values())[-1]
        found.append(
            {
                "env": row["env"],
                "multiply_adds": count,
                "peak_multiply_adds_per_second": peak,
                "needed_ms": 1e3 * count / peak,
                "measured_ms": ms["median"],
                "fastest_ms": ms["min"],
                "slowest_ms": ms["max"],
                "multiple": ms["median"] / (1e3 * count / peak),
            }
        )
    return found


COMPILE = """
import json, sys
from benchmarks.contender import jax_training
import time
begin = time.perf_counter()
jax_training(*sys.argv[1:], 8)()
print(json.dumps(time.perf_counter() - begin))
"""


def compile_seconds(algorithm: str, env: str) -> Row:
    """First logging point of training in a new process: with an empty cache, then with a full one.

    Includes tracing, compilation and that logging point's computation.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, **QUIET, "MAMT_JAX_CACHE": cache}
        environment.pop("JAX_COMPILATION_CACHE_DIR", None)  # would be used instead

        def once(how: str) -> float:
            seconds = _of_new_process(COMPILE, [algorithm, env], environment)
            note(f"  {how} cache: {duration(seconds)}")
            return seconds

        cold, cached = once("empty"), once("full")
    return {"algorithm": algorithm, "env": env, "cold": cold, "cached": cached}


def _of_new_process(program: str, arguments: list[str], environment: Mapping[str, str]) -> float:
    """The number that a program prints last; its first arguments are algorithm and environment.

    Raises:
      ContenderError: it ends without.
    """
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True)
    if done.returncode:
        said = last_words(done.stderr, done.returncode)
        raise ContenderError(f"mamt_jax, {' on '.join(arguments[:2])}, ended: {said}")
    return float(json.loads(done.stdout.splitlines()[-1]))


PEAK = """
import json, sys
from mamt_jax import envs
from benchmarks.contender import jax_training
algorithm, env, seeds, size = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
length = envs.make(env).spec.episode_length
filled = {"buffer_size": size, "episodes": max(-(-size // length), 24)} if size else {}
work = jax_training(algorithm, env, seeds, **filled)
for _ in range(4):
    work()
import jax, resource
stats = jax.local_devices()[0].memory_stats()
unit = 2**20 if sys.platform == "darwin" else 2**10
own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit
print(json.dumps(stats["peak_bytes_in_use"] / 2**20 if stats else own))
"""


def peak_memory(algorithm: str, env: str, seeds: int, buffer_size: int | None) -> Row:
    """Peak MiB of a training process: resident on CPU, of the device on an accelerator.

    ``buffer_size`` None stands for algorithms without a replay.
    """
    arguments = [algorithm, env, str(seeds), str(buffer_size or 0)]
    mib = _of_new_process(PEAK, arguments, os.environ | QUIET)
    row = {"algorithm": algorithm, "env": env, "seeds": seeds, "buffer_size": buffer_size}
    return row | {"peak_mib": mib}
