"""Training on Spread as PyTorch users would: environments on the host, replay on the device.

The cadence is mamt_jax's: an update event after every 100 transitions counted over all
environments, 4 updates each, from when the replay holds a batch.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from benchmarks.torch_reference.learner import Learner
from benchmarks.torch_reference.maths import Batch
from benchmarks.torch_reference.spread import EPISODE_LENGTH, NUM_ACTIONS, Spread
from mamt_jax.settings import Settings


def synchronise(device: torch.device) -> None:
    """Waits until a GPU has done what it was asked for."""
    if device.type == "cuda":
        torch.cuda.synchronize()


class World:
    """Parallel environments of Spread, whose episodes all end together."""

    def __init__(self, num_envs: int, seed: int = 0, device: str | torch.device = "cpu"):
        self.env, self.device = Spread(num_envs, seed=seed), device
        self.steps, self.total = 0, np.zeros(num_envs)
        self.returns: list[np.ndarray] = []
        self.obs = self._place(self.env.reset())

    @property
    def obs_sizes(self) -> tuple[int, ...]:
        """Observation size of each agent."""
        return (self.env.obs_size,) * self.env.shape[1]

    def step(self, action: Tensor) -> tuple[Tensor, Tensor, bool]:
        """Acts ``[E, n]``: rewards ``[E, n]``, true successors ``[E, n, O]``, end of episodes.

        ``obs`` is then what to act on next.
        """
        seen, reward = self.env.step(action.cpu().numpy())
        self.total += reward.mean(1)
        self.steps += 1
        self.obs = next_obs = self._place(seen)
        if finished := self.steps % EPISODE_LENGTH == 0:
            self.returns.append(self.total)
            self.total = np.zeros_like(self.total)
            self.obs = self._place(self.env.reset())
        return self._place(reward), next_obs, finished

    def _place(self, values: np.ndarray) -> Tensor:
        return torch.as_tensor(values, device=self.device)


class Replay:
    """Uniform replay in preallocated tensors, with running reward moments of its contents."""

    def __init__(
        self, capacity: int, num_agents: int, obs_size: int, device: str | torch.device = "cpu"
    ):
        self.capacity, self.inserted = capacity, 0
        rows = (capacity, num_agents)
        self.obs = torch.zeros((*rows, obs_size), device=device)
        self.next_obs = torch.zeros_like(self.obs)
        self.action = torch.zeros(rows, dtype=torch.int64, device=device)
        self.reward = torch.zeros(rows, device=device)
        self.terminated = torch.zeros(rows, dtype=torch.bool, device=device)
        # Sums in double precision: rewards that leave are subtracted exactly enough.
        self.moments = torch.zeros(2, num_agents, dtype=torch.float64, device=device)

    def insert(self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor) -> None:
        """Adds E transitions; E must divide the capacity. Episodes only end by truncation."""
        start = self.inserted % self.capacity
        rows = slice(start, start + len(obs))
        self._count(self.reward[rows], -1.0)
        self._count(reward, 1.0)
        self.obs[rows], self.next_obs[rows] = obs, next_obs
        self.action[rows], self.reward[rows] = action, reward
        self.inserted += len(obs)

    def _count(self, reward: Tensor, sign: float) -> None:
        # Slots that were never filled hold zeros and count for nothing.
        values = reward.double()
        self.moments += sign * torch.stack((values.sum(0), values.square().sum(0)))

    def sample(self, size: int) -> Batch:
        """Transitions drawn uniformly, with mean and deviation of all stored rewards."""
        stored = min(self.inserted, self.capacity)
        index = torch.randint(stored, (size,), device=self.obs.device)
        mean, square = self.moments / stored
        variance = square - mean.square()
        std = torch.where(variance > 1e-12 * (1.0 + square), variance.clamp_min(0).sqrt(), 1.0)
        return Batch(
            self.obs[index],
            self.action[index],
            self.reward[index],
            self.next_obs[index],
            self.terminated[index],
            mean.to(self.reward.dtype),
            std.to(self.reward.dtype),
        )


class Result(NamedTuple):
    """What a run did, and how fast."""

    returns: np.ndarray
    """Return of every episode in order, mean over agents."""
    seconds: float
    steps_per_second: float
    """Environment steps, counted over all environments, updates included."""
    warm_steps_per_second: float
    """The same over the second half of the run."""
    updates: int
    learner: Learner


def train(
    algorithm: str,
    idiom: str = "batched",
    episodes: int = 10_000,
    seed: int = 0,
    *,
    num_envs: int = 12,
    steps_per_update: int = 100,
    updates_per_event: int = 4,
    batch_size: int = 1024,
    buffer_size: int = 1_000_000,
    settings: Settings | None = None,
    device: str = "cpu",
    compiled: bool = False,
) -> Result:
    """Trains one seed on Spread with two agents, ``episodes`` rounded up to whole rounds."""
    torch.manual_seed(seed)
    world = World(num_envs, seed, device)
    sizes = world.obs_sizes
    options: dict[str, Any] = {"idiom": idiom, "device": device, "compiled": compiled}
    learner = Learner(algorithm, sizes, NUM_ACTIONS, settings, **options)
    rounds = -(-episodes // num_envs)
    steps, before = rounds * EPISODE_LENGTH, rounds // 2 * EPISODE_LENGTH
    capacity = min(buffer_size, steps * num_envs) // num_envs * num_envs
    replay = Replay(capacity, len(sizes), sizes[0], device)
    events, halfway = 0, 0.0
    begin = time.perf_counter()
    for step in range(steps):
        if step == before:
            synchronise(learner.device)
            halfway = time.perf_counter()
        obs = world.obs
        action = learner.act(obs)
        reward, next_obs, _ = world.step(action)
        replay.insert(obs, action, reward, next_obs)
        due = replay.inserted // steps_per_update
        if due > events and replay.inserted >= batch_size:
            for _ in range(updates_per_event):
                learner.update(replay.sample(batch_size))
        events = due
    synchronise(learner.device)
    end = time.perf_counter()
    return Result(
        returns=np.concatenate(world.returns),
        seconds=end - begin,
        steps_per_second=steps * num_envs / (end - begin),
        warm_steps_per_second=(steps - before) * num_envs / (end - halfway),
        updates=learner.updates,
        learner=learner,
    )
