"""Spread, variant "paper", in NumPy: all parallel environments in one array.

Faster on the host than published code, which steps one environment at a time in Python objects
(and one process for each).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
EPISODE_LENGTH, NUM_ACTIONS = 25, 5
DT, DAMPING, SENSITIVITY, RADIUS, STIFFNESS, MARGIN = 0.1, 0.25, 5.0, 0.15, 100.0, 1e-3
MOVES = SENSITIVITY * np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]], np.float32)


class Spread:
    """``num_envs`` worlds of ``num_agents`` agents and as many landmarks, reset together."""

    def __init__(self, num_envs: int, num_agents: int = 2, seed: int = 0):
        self.shape = (num_envs, num_agents, 2)
        self.rng = np.random.default_rng(seed)
        n = num_agents
        self.others = np.array([[j for j in range(n) if j != i] for i in range(n)])
        self.silence = np.zeros((num_envs, n, 2 * (n - 1)), np.float32)

    @property
    def obs_size(self) -> int:
        """Own velocity and position, landmarks, other agents, silence."""
        n = self.shape[1]
        return 4 + 2 * n + 4 * (n - 1)

    def reset(self) -> Floats:
        """Starts an episode everywhere: observations ``[E, n, O]``."""
        self.position = self.rng.uniform(-1, 1, self.shape).astype(np.float32)
        self.landmark = self.rng.uniform(-1, 1, self.shape).astype(np.float32)
        self.velocity = np.zeros(self.shape, np.float32)
        return self.observe()

    def observe(self) -> Floats:
        """``[E, n, O]``."""
        envs, n, _ = self.shape
        landmarks = (self.landmark[:, None] - self.position[:, :, None]).reshape(envs, n, -1)
        others = self.position[:, self.others] - self.position[:, :, None]
        rows = self.velocity, self.position, landmarks, others.reshape(envs, n, -1), self.silence
        return np.concatenate(rows, axis=-1)

    def step(self, action: NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Moves all agents by ``[E, n]``: observations ``[E, n, O]``, rewards ``[E, n]``."""
        delta, distance = self._apart()
        depth = (2 * RADIUS - distance) / MARGIN
        push = STIFFNESS * MARGIN * np.logaddexp(0, depth) / np.maximum(distance, 1e-12)
        force = MOVES[action] + (push[..., None] * delta).sum(2)
        self.velocity = (self.velocity * (1 - DAMPING) + force * DT).astype(np.float32)
        self.position = (self.position + self.velocity * DT).astype(np.float32)
        gaps = np.linalg.norm(self.landmark[:, :, None] - self.position[:, None], axis=-1)
        hits = (self._apart()[1] < 2 * RADIUS).sum(2)  # an agent overlaps itself
        reward = -gaps.min(2).sum(1, keepdims=True) - hits
        return self.observe(), reward.astype(np.float32)

    def _apart(self) -> tuple[Floats, Floats]:
        """Vectors between agents ``[E, n, n, 2]`` and their lengths."""
        delta = self.position[:, :, None] - self.position[:, None]
        return delta, np.linalg.norm(delta, axis=-1)
