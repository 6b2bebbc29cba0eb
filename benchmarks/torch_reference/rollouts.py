"""On-policy training on Spread: a rollout of all environments, then an update on it."""

from __future__ import annotations

import torch

from benchmarks.torch_reference.loop import World, synchronise
from benchmarks.torch_reference.maths import Rollout
from benchmarks.torch_reference.proximal import Metrics, ProximalLearner
from benchmarks.torch_reference.spread import NUM_ACTIONS
from mamt_jax.settings import Settings


class Training:
    """One seed, a rollout at a time. Episodes go on from one rollout to the next."""

    def __init__(
        self,
        seed: int = 0,
        *,
        num_envs: int = 12,
        rollout_size: int = 4096,
        settings: Settings | None = None,
        device: str | torch.device = "cpu",
    ):
        torch.manual_seed(seed)
        self.world = World(num_envs, seed, device)
        sizes = self.world.obs_sizes
        self.learner = ProximalLearner(sizes, NUM_ACTIONS, settings, device)
        rows = -(-rollout_size // num_envs), num_envs
        obs = torch.zeros(*rows, len(sizes), max(sizes), device=device)
        reward = torch.zeros(obs.shape[:-1], device=device)
        self.store = Rollout(
            obs=obs,
            action=torch.zeros_like(reward, dtype=torch.int64),
            reward=reward,
            next_obs=torch.zeros_like(obs),
            terminated=torch.zeros_like(reward, dtype=torch.bool),  # episodes are only cut off
            finished=torch.zeros(rows, dtype=torch.bool, device=device),
        )

    @property
    def steps(self) -> int:
        """Environment steps in each rollout, counted over all environments."""
        return self.store.finished.numel()

    def advance(self) -> Metrics:
        """Collects a rollout and learns from it."""
        world, store = self.world, self.store
        for step in range(len(store.obs)):
            store.obs[step] = world.obs
            action = self.learner.act(world.obs)
            store.action[step] = action
            store.reward[step], store.next_obs[step], finished = world.step(action)
            store.finished[step] = finished
        metrics = self.learner.update(store)
        synchronise(self.learner.device)
        return metrics
