"""Training compiled for a GPU that is not there: what its program launches, moves and multiplies.

XLA compiles for a described device as for one that it finds. The descriptions in ``targets/`` hold
what NVIDIA publishes of a card. Nothing is measured here: times are what a kernel takes at least
(:func:`floor`), added up, and real kernels do not reach the card's peaks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import hlo
from mamt_jax.backend import Precision, choices_for
from mamt_jax.config import make_config
from mamt_jax.envs import Environment, HostEnvironment
from mamt_jax.errors import ConfigError

_FOLDER = Path(__file__).with_name("targets")
LAUNCH = 2.0e-6
"""Seconds from one kernel to the next within a CUDA graph, whatever it does."""


@dataclass(frozen=True)
class Target:
    """A card, and its dense peaks."""

    name: str
    file: str
    """XLA's description of it."""
    bandwidth: float
    """Bytes/s of its memory."""
    multiply_adds: dict[str, float]
    """Per second, by precision: half of the published operations."""

    def peak(self, precision: str) -> float:
        """Multiply-adds per second of products with a precision, as XLA calls it."""
        if "bf16" in precision:
            return self.multiply_adds["bfloat16"]
        passes = 3 if precision.endswith("_x3") else 1
        tensor = "tf32" in precision or precision in ("high", "default")
        return self.multiply_adds["tensorfloat32" if tensor else "float32"] / passes


def _target(name: str, terabytes: float, float32: float, tf32: float, bf16: float) -> Target:
    peaks = {"float32": float32, "tensorfloat32": tf32, "bfloat16": bf16}
    halves = {kind: 0.5e12 * value for kind, value in peaks.items()}
    return Target(name, f"{name}.txtpb", terabytes * 1e12, halves)


TARGETS = {
    target.name: target
    for target in (
        _target("h100", 3.35, 66.9, 494.7, 989.4),
        _target("a100", 2.04, 19.5, 156.0, 312.0),
        _target("rtx4090", 1.01, 82.6, 82.6, 165.2),
    )
}
"""H100 SXM5 80GB, A100 SXM4 80GB, GeForce RTX 4090; TFLOP/s of their data sheets, dense."""


def floor(kernel: hlo.Kernel, target: Target) -> float:
    """Seconds that a kernel takes at least: its launch, its bytes, or its products."""
    moved = (kernel.read + kernel.written) / target.bandwidth
    return max(LAUNCH, moved, kernel.multiply_adds / target.peak(kernel.precision))


def device(target: Target) -> Any:
    """The card, as JAX compiles for it.

    Raises:
      ConfigError: JAX's CUDA plugin is not installed.
    """
    os.environ["JAX_SKIP_CUDA_CONSTRAINTS_CHECK"] = "1"  # it asks for a driver
    from jax.experimental import topologies

    described = (_FOLDER / target.file).read_text(encoding="utf-8")
    try:
        topology = topologies.get_topology_desc(
            target.name, platform="cuda", target_config=described, topology="1x1x1"
        )
    except Exception as error:  # of whatever is missing in the plugin
        raise ConfigError(
            f"Compiling for {target.name} needs JAX's CUDA plugin (Linux, x86-64): "
            f"pip install 'mamt-jax[cuda13]'. JAX says: {str(error).splitlines()[0]}"
        ) from error
    return topology.devices[0]


def native(name: str) -> Environment:
    """An environment in JAX; raises ConfigError where it is on the host."""
    from mamt_jax.training.prepare import make_env

    env = make_env(make_config(env=name))
    if isinstance(env, HostEnvironment):
        raise ConfigError(f"{name} is stepped on the host; only JAX environments are compiled.")
    return env


def training(
    env: str, algorithm: str, seeds: int, target: Target, precision: Precision = "float32"
) -> dict[str, Any]:
    """A logging point of training, compiled for the card: one row of the table.

    Raises:
      ConfigError: as :func:`native` and :func:`device`.
    """
    import jax
    import jax.numpy as jnp

    from mamt_jax.training.learning import COLLECT, UPDATES
    from mamt_jax.training.prepare import make_recipe
    from mamt_jax.training.programs import as_written
    from mamt_jax.training.trainer import make_trainer

    there = jax.sharding.SingleDeviceSharding(device(target))
    config = make_config(algorithm=algorithm, env=env, seeds=seeds, precision=precision)
    choices = choices_for("gpu")
    trainer = make_trainer(config, native(env), make_recipe(config), choices=choices)

    def placed(tree: Any) -> Any:
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=there), tree
        )

    begin = time.perf_counter()
    with as_written():
        state = placed(jax.eval_shape(trainer.init, jnp.arange(seeds, dtype=jnp.int32)))
        settings = placed(trainer.epoch.args[0])  # type: ignore[attr-defined]
        program = trainer.epoch.func  # type: ignore[attr-defined]
        lowered = program.lower(settings, state)
        traced = time.perf_counter()
        compiled = lowered.compile()
    plan, memory = trainer.plan, compiled.memory_analysis()
    row = {
        "env": env, "algorithm": algorithm, "seeds": seeds, "target": target.name,
        "precision": precision, "jax": jax.__version__,
        "trace_seconds": traced - begin, "compile_seconds": time.perf_counter() - traced,
        "state_bytes": memory.argument_size_in_bytes, "working_bytes": memory.temp_size_in_bytes,
    }  # fmt: skip
    body = hlo.read(compiled.as_text())
    point = _sums(body.total(), target)
    parts = {"environment step": body.find(COLLECT), "update": body.find(UPDATES)}
    counted = {name: _sums(found.total(), target) for name, found in parts.items() if found}
    # Collection is as long as the plan says; the program only knows when it runs.
    extra = sum(plan.collect) - plan.events_per_point
    steps = counted.get("environment step")
    seconds = point["floor_ms"] + (extra * steps["floor_ms"] if steps else 0.0)
    return row | {
        "parts": counted | {"logging point": point},
        "updates_per_point": plan.updates_per_point,
        "steps_per_point": plan.steps_per_point,
        "points": plan.points,
        "floor_seconds_of_the_budget": plan.points * seconds / 1e3,
    }


def _sums(kernels: Iterable[tuple[int, hlo.Kernel]], target: Target) -> dict[str, Any]:
    each = list(kernels)
    products: dict[str, int] = {}
    for times, kernel in each:
        if kernel.multiply_adds:
            name = kernel.precision or "default"
            products[name] = products.get(name, 0) + times * kernel.multiply_adds
    moved = sum(times * (kernel.read + kernel.written) for times, kernel in each)
    return {
        "kernels": sum(times for times, _ in each),
        "copies": sum(times for times, kernel in each if kernel.name.startswith("copy")),
        "bytes": moved,
        "multiply_adds": products,
        "ms_of_launches": 1e3 * LAUNCH * sum(times for times, _ in each),
        "ms_of_bytes": 1e3 * moved / target.bandwidth,
        "ms_of_products": 1e3 * sum(n / target.peak(p) for p, n in products.items()),
        "floor_ms": 1e3 * sum(times * floor(kernel, target) for times, kernel in each),
    }
