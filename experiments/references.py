"""Published and measured returns to compare with (Li et al. 2022, Table 10, and our own)."""

from __future__ import annotations

from typing import NamedTuple

from mamt_jax.config import TrainConfig
from mamt_jax.experiments.paper import NAMES, TABLE10
from mamt_jax.reports.tasks import task


class References(NamedTuple):
    """Levels of return on one environment."""

    measured: dict[str, float]
    """Simple policies, by name, at the environment's default options."""
    paper: dict[str, float]
    """The paper's results, by the paper's name of the algorithm."""
    thresholds: tuple[float, ...]
    """Levels whose passing is timed."""


_MEASURED = {
    "spread": {"random": -67.0, "greedy": -35.8},
    "rover_tower": {"random": -7.9, "greedy": 132.0},
    "pursuit": {"random": 3.7, "chase": 5.8},
    "multiwalker": {"random": -105.0, "no torque": -97.0},
}
_THRESHOLDS = {
    "spread": (-50.0, -43.23, -38.06),
    "rover_tower": (0.0, 60.0, 121.79),
    "pursuit": (5.8, 19.86, 25.62),
    "multiwalker": (-97.0, -30.16, -4.70),
}


def references(config: TrainConfig) -> References | None:
    """Levels for a run's environment and algorithm; None where none are known."""
    if task(config) not in TABLE10:  # the paper's environments, at their default options
        return None
    published = TABLE10[config.env].get(config.algorithm)
    paper = {NAMES[config.algorithm]: published.mean} if published else {}
    return References(_MEASURED[config.env], paper, _THRESHOLDS[config.env])
