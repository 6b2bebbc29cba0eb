"""Cooperative multi-agent reinforcement learning with mirror descent and trust regions, in JAX.

>>> import mamt_jax
>>> run = mamt_jax.train("mamt", "spread", seeds=8, episodes=10_000, out="runs/x")  # doctest: +SKIP
>>> run.metrics.return_mean.mean("seed")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mamt_jax.errors import ConfigError, DivergedError, InterruptedRun, MamtError, RunError

if TYPE_CHECKING:
    from mamt_jax import envs
    from mamt_jax.algorithms.registry import Recipe
    from mamt_jax.config import TrainConfig, make_config
    from mamt_jax.registration import register
    from mamt_jax.reports.comparison import compare
    from mamt_jax.sweeps.run import sweep
    from mamt_jax.training.points import LoggingPoint
    from mamt_jax.training.pretrained import pretrained
    from mamt_jax.training.result import Run
    from mamt_jax.training.run import load, train
    from mamt_jax.trajectories.recording import read_recording

__version__ = "0.1.0"

__all__ = [
    "ConfigError",
    "DivergedError",
    "InterruptedRun",
    "LoggingPoint",
    "MamtError",
    "Recipe",
    "Run",
    "RunError",
    "TrainConfig",
    "compare",
    "envs",
    "load",
    "make_config",
    "pretrained",
    "read_recording",
    "register",
    "sweep",
    "train",
]

_HOMES = {
    "Recipe": "mamt_jax.algorithms.registry",
    "TrainConfig": "mamt_jax.config",
    "make_config": "mamt_jax.config",
    "LoggingPoint": "mamt_jax.training.points",
    "Run": "mamt_jax.training.result",
    "compare": "mamt_jax.reports.comparison",
    "load": "mamt_jax.training.run",
    "pretrained": "mamt_jax.training.pretrained",
    "read_recording": "mamt_jax.trajectories.recording",
    "register": "mamt_jax.registration",
    "sweep": "mamt_jax.sweeps.run",
    "train": "mamt_jax.training.run",
}


def __getattr__(name: str) -> Any:
    """Imports on first use, so that ``mamt --help`` does not wait for JAX."""
    from importlib import import_module

    if name == "envs":
        return import_module("mamt_jax.envs")
    if name not in _HOMES:
        raise AttributeError(f"module 'mamt_jax' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
