"""The memory that a run takes, known before any of it is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.errors import ConfigError
from mamt_jax.training.trainer import Trainer

_CGROUP = Path("/sys/fs/cgroup")


class Memory(NamedTuple):
    """Bytes that all seeds of a run hold from beginning to end."""

    replay: int
    learners: int
    """Networks, their averages, and the state of their optimisers."""
    environments: int
    """And random keys. Not what the processes of a host environment take."""

    @property
    def total(self) -> int:
        """Sum of all."""
        return sum(self)


def memory_of(trainer: Trainer) -> Memory:
    """Sizes of the state of a run; exact, and nothing is computed."""
    state = _shapes(trainer).seeds
    return Memory(_size(state.store), _size(state.learner), _size((state.env, state.key)))


def working_bytes(trainer: Trainer) -> int | None:
    """Bytes that the update program takes beside the state; None if unknown.

    Compiles it, for the training that follows as well.
    """
    compiled = trainer.compile_ahead(_shapes(trainer))
    analysis = compiled and compiled.memory_analysis()
    return None if analysis is None else int(analysis.temp_size_in_bytes)


def check_memory(trainer: Trainer) -> None:
    """Refuses a run that does not fit: its state at once, with what an update takes once compiled.

    Raises:
        ConfigError: With the numbers and what to change.
    """
    held, free = memory_of(trainer), free_bytes()
    if free is None:
        return
    _check_fits(held, 0, free, trainer)
    _check_fits(held, working_bytes(trainer) or 0, free, trainer)


def _check_fits(held: Memory, working: int, free: int, trainer: Trainer) -> None:
    needed = held.total + working
    if needed > free:
        update = f" and {working / 1e9:,.1f} GB within an update" if working else ""
        raise ConfigError(
            f"The run takes {needed / 1e9:,.1f} GB ({held.replay / 1e9:,.1f} GB for the "
            f"replay, seeds: {len(trainer.seeds)}{update}) and {free / 1e9:.1f} GB are free; lower "
            f"buffer_size, seeds, episodes or batch_size."
        )


def _shapes(trainer: Trainer) -> Any:
    """Shapes of the state of a run."""
    return jax.eval_shape(trainer.init, jnp.asarray(trainer.seeds, jnp.int32))


def _size(tree: Any) -> int:
    """Bytes of all leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def free_bytes() -> int | None:
    """Free memory of the device, or of the host where the device is the CPU; None if unknown."""
    device = jax.devices()[0]
    if device.platform != "cpu":
        stats = device.memory_stats() or {}
        limit = stats.get("bytes_limit")
        return None if limit is None else limit - stats.get("bytes_in_use", 0)
    found = (_machine_bytes(), _container_bytes())
    return min((free for free in found if free is not None), default=None)


def _machine_bytes() -> int | None:
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
        available = next(line for line in text.splitlines() if line.startswith("MemAvailable"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError):
        return None


def _container_bytes() -> int | None:
    """What a container's limit (cgroup v2) leaves; None where there is no limit."""
    try:
        limit, used = (int((_CGROUP / f"memory.{name}").read_text()) for name in ("max", "current"))
        lines = (_CGROUP / "memory.stat").read_text().splitlines()
        cache = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        return limit - used + cache  # the kernel gives up its file cache on demand
    except (OSError, StopIteration, ValueError):  # the limit may read "max"
        return None
