"""Shapes of the paper's games, and random transitions of these shapes."""

from __future__ import annotations

import numpy as np

SHAPES: dict[str, tuple[tuple[int, ...], int]] = {
    "spread": ((12, 12), 5),
    "multiwalker": ((31, 31, 31), 16),
    "rover_tower": ((13,) * 4 + (8,) * 4, 5),
    "pursuit": ((147,) * 8, 5),
}
"""Observation size of every agent, and number of actions."""
TEAMS = {"spread": ((0, 1),)}
"""Agents whose rewards depend on one another, where the environment says."""


def transitions(env: str, count: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Fields of a ``Transition`` ``[count, n, ...]``, random."""
    rng = np.random.default_rng(seed)
    obs_sizes, actions = SHAPES[env]
    rows = count, len(obs_sizes)
    obs = rng.normal(size=(2, *rows, max(obs_sizes))).astype(np.float32)
    for i, size in enumerate(obs_sizes):
        obs[:, :, i, size:] = 0.0
    return {
        "obs": obs[0],
        "action": rng.integers(0, actions, rows).astype(np.int32),
        "reward": rng.normal(size=rows).astype(np.float32),
        "next_obs": obs[1],
        "terminated": np.zeros(rows, bool),
    }
