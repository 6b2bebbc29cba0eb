"""A learner with a batch to time it on."""

from __future__ import annotations

import torch

from benchmarks.batches import SHAPES, transitions
from benchmarks.torch_reference.learner import Learner
from benchmarks.torch_reference.maths import Batch


def learner_and_batch(
    algorithm: str,
    env: str,
    idiom: str,
    batch_size: int,
    device: str = "cpu",
    compiled: bool = False,
) -> tuple[Learner, Batch]:
    """A fresh learner of an environment's shape, and a random batch on its device."""
    obs_sizes, actions = SHAPES[env]
    learner = Learner(algorithm, obs_sizes, actions, idiom=idiom, device=device, compiled=compiled)
    rows = {k: torch.as_tensor(v).to(device) for k, v in transitions(env, batch_size).items()}
    mean, std = (
        torch.zeros(len(obs_sizes), device=device),
        torch.ones(len(obs_sizes), device=device),
    )
    return learner, Batch(
        rows["obs"], rows["action"].long(), rows["reward"], rows["next_obs"], rows["terminated"],
        mean, std,
    )  # fmt: skip
