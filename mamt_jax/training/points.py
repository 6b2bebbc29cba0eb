"""One logging point of a run, as whoever follows the training sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mamt_jax.config import TrainConfig


@dataclass(frozen=True)
class LoggingPoint:
    """What a run has recorded at one logging point.

    All is NumPy and the receiver's own: writing into it changes nothing in the run.
    """

    config: TrainConfig
    """Of the run; ``config.seed_ids`` are the rows of ``metrics``."""
    path: Path | None
    """Run directory; None for a run in memory."""
    point: int
    """Logging points done, this one included."""
    points: int
    """Logging points planned."""
    update: int
    """Updates done, per seed."""
    episode: float
    """Episodes finished: the mean over the seeds that have not diverged."""
    seconds: float
    """Wall-clock seconds since the run began, over all of its processes."""
    metrics: dict[str, np.ndarray]
    """Values of this point, by name, seeds first ``[S, ...]``: ``return_mean``, what the algorithm
    reports, and ``greedy_return`` where there was an evaluation. NaN where there is nothing yet."""
    dims: dict[str, tuple[str, ...]]
    """Dimensions of each of them."""
    agents: tuple[str, ...]
    """Names of the agents, in the order of the dimensions ``agent`` and ``opponent``."""
    diverged: tuple[int, ...]
    """Seeds that are lost."""


Callback = Callable[[LoggingPoint], object]
"""Whoever is told of every logging point; True asks for the end of the run."""

MEAN = "mean"
"""What :func:`scalars` calls the mean over seeds."""


def scalars(point: LoggingPoint) -> dict[str, dict[str, float]]:
    """A logging point as plain numbers, for dashboards.

    Returns:
        By curve, which is :data:`MEAN` over the seeds that have not diverged, or ``seed_0`` and so
        on: by name, such as ``delta/agent_1``. What is NaN or infinite is left out, and so are
        pairs of an agent with itself.
    """
    seeds = point.config.seed_ids
    kept = np.array([seed not in point.diverged for seed in seeds])
    found: dict[str, dict[str, float]] = {MEAN: {}, **{f"seed_{seed}": {} for seed in seeds}}
    for name, values in point.metrics.items():
        for index in np.ndindex(values.shape[1:]):
            where = dict(zip(point.dims[name][1:], index, strict=True))
            if "opponent" in where and where["agent"] == where["opponent"]:
                continue
            tag = "/".join([name, *(_label(dim, i, point.agents) for dim, i in where.items())])
            each = values[(slice(None), *index)]
            for seed, value in zip(seeds, each, strict=True):
                if np.isfinite(value):
                    found[f"seed_{seed}"][tag] = float(value)
            counting = each[kept & np.isfinite(each)]
            if len(counting):
                found[MEAN][tag] = float(counting.mean(dtype=np.float64))
    return found


def _label(dim: str, index: int, agents: Sequence[str]) -> str:
    if dim in ("agent", "opponent") and index < len(agents):
        return agents[index]
    return f"{dim}_{index}"
