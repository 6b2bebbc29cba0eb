"""Where something was measured, and whether anything else works there."""

from __future__ import annotations

import datetime
import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, NamedTuple

import jax

PACKAGES = ("jax", "jaxlib", "flax", "optax", "numpy", "torch")
BUSY = 0.5
"""Cores that other processes may use before the machine counts as busy."""


class Load(NamedTuple):
    """What other processes do; None where the system does not say."""

    average: float | None
    """Processes that wanted to work, on average over the last minute."""
    busy: float | None
    """Cores that worked within the last second, of those that this process may use."""


def load(seconds: float = 1.0) -> Load:
    """The machine's load, looked at for some seconds in which this process sleeps."""
    average = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    before = _ticks()
    if before is None:
        return Load(average, None)
    time.sleep(seconds)
    after = _ticks() or before
    shares = [
        (after[core][0] - worked) / max(after[core][1] - total, 1)
        for core, (worked, total) in before.items()
        if core in after
    ]
    return Load(average, round(sum(shares), 2))


def warning(now: Load) -> str | None:
    """A sentence if the machine is too busy to measure on."""
    if now.busy is not None:
        said = f"other processes keep {now.busy:.1f} of {len(cores())} cores busy"
        too_much = now.busy > BUSY
    else:
        said = f"other processes work here, the load average is {now.average}"
        too_much = now.average is not None and now.average > BUSY
    return f"Warning: {said}: what is measured now is too slow and scatters." if too_much else None


def hardware(now: Load) -> dict[str, Any]:
    """Date, processor, cores that may be used, accelerator, load before the start, versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": len(cores()),
        "device": jax.devices()[0].device_kind,
        "load_before": now.average,
        "busy_cores_before": now.busy,
        "versions": {name: found for name in PACKAGES if (found := _version(name))},
        "gpus": gpus(),
    }


def gpus() -> list[dict[str, str]]:
    """Name, driver and memory of each NVIDIA GPU, as its driver says; none where there is none."""
    fields = "name", "driver_version", "memory.total"
    command = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return []
    lines = [line.split(", ") for line in said.stdout.strip().splitlines()]
    return [dict(zip(fields, line, strict=False)) for line in lines]


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _ticks() -> dict[int, tuple[int, int]] | None:
    """Clock ticks in which each core has worked, and all of its ticks; None without Linux."""
    found = {}
    try:
        with open("/proc/stat") as lines:
            for name, *values in (line.split() for line in lines if line.startswith("cpu")):
                ticks = [int(value) for value in values[:8]]  # the rest is counted among these
                if name != "cpu" and int(name[3:]) in cores():
                    found[int(name[3:])] = sum(ticks) - ticks[3] - ticks[4], sum(ticks)
    except (OSError, ValueError, IndexError):
        return None
    return found or None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as lines:
            return next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        return platform.processor()
