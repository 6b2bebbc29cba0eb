"""What ``python -m benchmarks gpu`` does: its parts in order of worth, as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any, NamedTuple

from benchmarks.batches import SHAPES
from benchmarks.turns import Spec
from mamt_jax.config import make_config
from mamt_jax.settings.fields import check
from mamt_jax.training.prepare import make_algorithm

PARTS = ("golden", "environments", "updates", "precision", "spread", "table10")
"""In order of worth, which is the order of work."""
RUNS = (
    "mamt:rover_tower",
    "maac:rover_tower",
    "mamd:rover_tower",
    "maac:pursuit",
    "mamt:pursuit",
    "mamt_ws:rover_tower",
    "mamt_fixed:rover_tower",
    "mamt_random:rover_tower",
    "mamd:pursuit",
)
"""Cells of Table 10, the most telling first."""
BYTES = {
    ("spread", "mamt"): 44e6,
    ("multiwalker", "mamt"): 90e6,
    ("rover_tower", "mamt"): 300e6,
    ("pursuit", "mamt"): 300e6,
}
"""About what an update takes for each seed, beside the state, where it is known."""


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    precisions: tuple[str, ...] = ("float32", "float64")
    copies: tuple[int, ...] = (1024, 4096, 16_384, 65_536)
    steps: int = 500
    shapes: tuple[str, ...] = ("spread", "rover_tower", "pursuit", "multiwalker")
    seeds: tuple[int, ...] = (1, 8, 64, 256, 1024)
    batch_size: int = 1024
    repetitions: int = 7
    training_seeds: tuple[int, ...] = (1, 8, 1024)
    training_buffer: int = 50_000
    run_seeds: int = 8
    points: int = 40
    """Logging points before a learner is asked what less precise products change."""
    spread_episodes: int = 10_000
    episodes: int = 50_000
    options: dict[str, Any] = field(default_factory=dict)
    """Settings of everything that learns in JAX, where they are not the defaults."""


FULL = Sizes()
TINY = Sizes(
    precisions=("float32",),
    copies=(8, 16),
    steps=5,
    shapes=("spread", "rover_tower"),
    seeds=(1, 2),
    batch_size=16,
    repetitions=2,
    training_seeds=(1, 2),
    training_buffer=1200,
    run_seeds=2,
    points=2,
    spread_episodes=240,
    episodes=2400,
    options={"hidden_size": 8},
)
"""For a rehearsal on a CPU."""


class Wave(NamedTuple):
    """Contenders that compile side by side and then work one after another."""

    name: str
    specs: tuple[Spec, ...]
    least: float
    """Seconds below which it is not begun."""


def golden(sizes: Sizes) -> tuple[Wave, ...]:
    """Every golden file: in float32, which training is, and in float64."""
    from benchmarks.torch_reference.cases import CASES, PROXIMAL_CASES

    runs = [(name, *run) for name, case in CASES.items() for run in case.runs]
    runs += [(name, "mappo", case.precision) for name, case in PROXIMAL_CASES.items()]
    specs = [_file(*run) for kind in sizes.precisions for run in runs if run[2] == kind]
    return (Wave("golden files", _of("golden", specs, warm_up=1), least=30),)


def environments(sizes: Sizes) -> tuple[Wave, ...]:
    """Environments in many copies."""
    specs = [
        {"name": name, "num_envs": copies, "steps": sizes.steps}
        for name, copies in product(("spread", "rover_tower", "pursuit"), sizes.copies)
    ]
    return (Wave("environments", _of("environment", specs, warm_up=1), least=30),)


def _file(case: str, algorithm: str, precision: str, products: str = "float32") -> Spec:
    """A golden file, and the precision of matrix products that its numbers are compared in."""
    named = {"case": case, "algorithm": algorithm, "precision": precision}
    return named | {"products": products}


def updates(sizes: Sizes, torch: str | None, memory: float) -> tuple[Wave, ...]:
    """Updates of ``maac`` and ``mamt``, a wave for each shape.

    Args:
      sizes: of the batches, and how many seeds.
      torch: device of PyTorch; None where there is none.
      memory: bytes of the device; updates that are :func:`hopeless` are left out.
    """
    waves, compiled = [], []
    for env in sizes.shapes:
        specs: list[Spec] = []
        for algorithm in ("maac", "mamt"):
            fitting = (n for n in sizes.seeds if not hopeless(env, algorithm, n, memory))
            specs += [_update(sizes, env, algorithm, seeds) for seeds in fitting]
            theirs: Spec = {"algorithm": algorithm, "env": env, "batch_size": sizes.batch_size}
            theirs |= {"kind": "torch_update", "idiom": "batched", "updates": 8}
            theirs |= {"device": torch, "graphs": True, "threads": 1}
            if torch:
                specs.append(theirs)
                compiled.append(theirs | {"compiled": True})
        # Those that may not fit come last.
        specs.sort(key=lambda spec: spec.get("seeds", 1))
        waves.append(Wave(f"updates on {env}", _of("", specs), least=45))
    if compiled:  # which takes minutes: nothing else waits for it
        waves.append(Wave("updates of PyTorch, compiled", _of("", compiled), least=90))
    return tuple(waves)


def hopeless(env: str, algorithm: str, seeds: int, memory: float) -> bool:
    """Whether an update is known to need far more than a device's bytes; the rest is tried."""
    return seeds * BYTES.get((env, algorithm), 0.0) > 1.3 * memory


def precision(sizes: Sizes) -> tuple[Wave, ...]:
    """What less exact matrix products give and cost: time of updates, and golden files."""
    kinds = ("float32x3", "tensorfloat32", "bfloat16")
    files = [
        {"kind": "golden", "warm_up": 1} | _file("three_unequal", algorithm, "float32", products)
        for products, algorithm in product(kinds, ("maac", "mamt"))
    ]
    times = [
        _update(sizes, env, "mamt", sizes.run_seeds) | {"precision": products}
        for env, products in product(sizes.shapes[:2], kinds)
    ]
    trained: Spec = {"kind": "deviations", "warm_up": 1, "env": "spread3_mix", "algorithm": "mamt"}
    trained |= {"seeds": sizes.run_seeds, "points": sizes.points, "batch_size": sizes.batch_size}
    trained |= sizes.options
    return (Wave("precision", _of("", [*times, *files, trained]), least=45),)


def _update(sizes: Sizes, env: str, algorithm: str, seeds: int) -> Spec:
    """Updates in JAX."""
    spec: Spec = {"kind": "jax_update", "algorithm": algorithm, "env": env, "seeds": seeds}
    spec |= {"batch_size": sizes.batch_size, "updates": updates_of(seeds)}
    return spec | {"own_batches": True} | sizes.options


def updates_of(seeds: int) -> int:
    """Updates in a call: long enough to time, and even, for δ moves in every second one."""
    return 32 if seeds <= 8 else 8 if seeds <= 64 else 4 if seeds <= 256 else 2


def training(sizes: Sizes) -> tuple[Wave, ...]:
    """Logging points of ``mamt`` on Spread, whose replays are as small as many seeds need."""
    work: Spec = {"algorithm": "mamt", "env": "spread", "buffer_size": sizes.training_buffer}
    work |= {"batch_size": sizes.batch_size} | sizes.options
    specs = [work | {"seeds": seeds} for seeds in sizes.training_seeds]
    # The replay holds a batch after the second logging point.
    return (Wave("seeds on spread", _of("jax_training", specs, warm_up=3), least=60),)


def runs(sizes: Sizes, cells: Sequence[str]) -> list[Spec]:
    """Runs at the paper's budget: algorithm:environment."""
    found = []
    for cell in cells:
        algorithm, env = cell.split(":")
        spec: Spec = {"kind": "run", "algorithm": algorithm, "env": env}
        spec["seeds"] = sizes.run_seeds
        spec["episodes"] = sizes.spread_episodes if env == "spread" else sizes.episodes
        # Episodes of 500 steps: by default a logging point is 3, and the record would be huge.
        spec |= {"log_interval": 12} if env == "pursuit" else {}
        spec |= {"batch_size": sizes.batch_size} | sizes.options
        found.append(spec | {"waits": True, "warm_up": 0})
    return found


def check_cells(cells: Sequence[str]) -> None:
    """Raises ConfigError where one cannot be trained."""
    for cell in cells:
        algorithm, _, env = cell.partition(":")
        check(bool(env), "only_runs", cell, "ALGORITHM:ENV, such as mamt:rover_tower")
        make_algorithm(make_config(algorithm=algorithm, env=env))


def _of(kind: str, specs: Sequence[Spec], **more: Any) -> tuple[Spec, ...]:
    named = {"kind": kind} if kind else {}
    return tuple(named | spec | {"waits": True} | more for spec in specs)


assert set(FULL.shapes) == set(SHAPES)
