"""Published and measured returns to compare with (Li et al. 2022, Table 10, and our own)."""

from __future__ import annotations

from typing import NamedTuple

import envs
from mamt_jax.config import TrainConfig


class References(NamedTuple):
    """Levels of return on one environment."""

    levels: dict[str, float]
    """By name: random policy, greedy controller, the paper's results."""
    thresholds: tuple[float, ...]
    """Levels whose passing is timed."""


class _Known(NamedTuple):
    measured: dict[str, float]
    """Simple policies, at the environment's default options."""
    paper: dict[str, float]
    """Table 10, by algorithm."""
    thresholds: tuple[float, ...]


_KNOWN = {
    "spread": _Known(
        {"random": -67.0, "greedy": -35.8},
        {"maac": -43.23, "mamd": -42.17, "mamt": -38.06},
        (-50.0, -43.23, -38.06),
    ),
    "rover_tower": _Known(
        {"random": -7.9, "greedy": 132.0},
        {"maac": 121.79, "mamd": 127.80, "mamt": 145.95},
        (0.0, 60.0, 121.79),
    ),
    "pursuit": _Known(
        {"random": 3.7, "chase": 5.8},
        {"maac": 19.86, "mamd": 22.30, "mamt": 25.62},
        (5.8, 19.86, 25.62),
    ),
    "multiwalker": _Known(
        {"random": -105.0, "no torque": -97.0},
        {"maac": -30.16, "mamd": -4.92, "mamt": -4.70},
        (-97.0, -30.16, -4.70),
    ),
}


def references(config: TrainConfig) -> References | None:
    """Levels for a run's environment and algorithm; None where none are known."""
    known = _KNOWN.get(config.env)
    if known is None:
        return None
    defaults = envs.options(config.env)
    if defaults | config.env_options != defaults:
        return None
    levels = dict(known.measured)
    if config.algorithm in known.paper:
        levels[f"paper's {config.algorithm.upper()}"] = known.paper[config.algorithm]
    return References(levels, known.thresholds)
