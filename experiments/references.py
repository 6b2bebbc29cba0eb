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


_PAPER = {"maac": -43.23, "mamd": -42.17, "mamt": -38.06}


def references(config: TrainConfig) -> References | None:
    """Levels for a run's environment and algorithm; None where none are known."""
    paper = envs.options("spread")
    if config.env != "spread" or paper | config.env_options != paper:
        return None
    levels = {"random": -67.0, "greedy": -35.8}
    if config.algorithm in _PAPER:
        levels[f"paper's {config.algorithm.upper()}"] = _PAPER[config.algorithm]
    return References(levels, (-50.0, _PAPER["maac"], _PAPER["mamt"]))
