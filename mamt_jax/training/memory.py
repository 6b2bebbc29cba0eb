"""The memory that a run takes, known before any of it is allocated."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.errors import ConfigError
from mamt_jax.training.mesh import laid_out
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
    """Bytes that the update program takes beside the state, in each memory; None if unknown.

    Compiles it, for the training that follows as well.
    """
    compiled = trainer.compile_ahead(_shapes(trainer))
    analysis = compiled and compiled.memory_analysis()
    if analysis is None:
        return None
    together = trainer.mesh.size if trainer.mesh and _memories(trainer) == 1 else 1
    return int(analysis.temp_size_in_bytes) * together


class DoesNotFit(ConfigError):
    """A run takes more memory than there is."""

    def __init__(self, text: str, rows: int) -> None:
        super().__init__(text)
        self.rows = rows
        """About how many of its rows would fit; at least one."""


def fitted(trainer: Trainer) -> Trainer:
    """The same training, with as many seeds side by side as there is memory for.

    Its state is looked at first, and what an update takes beside it once that is compiled.

    Raises:
        DoesNotFit: Not even one seed after another; with the numbers and what to change.
    """
    held, free = memory_of(trainer), free_bytes()
    if free is None:
        return trainer
    _check_fits(held, 0, free, trainer)
    working, room = working_bytes(trainer) or 0, free - held.total // _memories(trainer)
    while working > room and trainer.seed_batch > 1:
        rows, batch = len(trainer.seeds), trainer.seed_batch
        rows //= trainer.mesh.size if trainer.mesh else 1
        fitting = max(1, min(batch - 1, batch * room // working))
        trainer = trainer.with_batch(-(-rows // -(-rows // fitting)))
        working = working_bytes(trainer) or 0
    _check_fits(held, working, free, trainer)
    return trainer


def _memories(trainer: Trainer) -> int:
    """Devices with a memory of their own among which the state is divided."""
    apart = trainer.mesh is not None and jax.default_backend() != "cpu"
    return trainer.mesh.size if trainer.mesh and apart else 1


def _check_fits(held: Memory, working: int, free: int, trainer: Trainer) -> None:
    count, each = _memories(trainer), held.total // len(trainer.seeds)
    needed, free = held.total + working * count, free * count
    if needed > free:
        update = f" and {working * count / 1e9:,.1f} GB within an update" if working else ""
        raise DoesNotFit(
            f"The run takes {needed / 1e9:,.1f} GB ({held.replay / 1e9:,.1f} GB for the "
            f"replay, seeds: {len(trainer.seeds)}{update}) and {free / 1e9:.1f} GB are free; lower "
            f"buffer_size, seeds, episodes or batch_size.",
            rows=max(1, (free - working * count) // max(each, 1)),
        )


def _shapes(trainer: Trainer) -> Any:
    """Shapes of the state of a run, and where it lies."""
    shapes = jax.eval_shape(trainer.init, jnp.asarray(trainer.seeds, jnp.int32))
    return laid_out(shapes, trainer.mesh)


def _size(tree: Any) -> int:
    """Bytes of all leaves."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def free_bytes() -> int | None:
    """Free memory of each device, or of the host where that is the CPU; None if unknown."""
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        stats = [device.memory_stats() or {} for device in devices]
        if not all("bytes_limit" in each for each in stats):
            return None
        return min(each["bytes_limit"] - each.get("bytes_in_use", 0) for each in stats)
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
