"""The recorder's account of what diverged."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mamt_jax import DivergedError
from mamt_jax.training.metrics import Recorder


def diverging(**first_bad: int) -> SimpleNamespace:
    """One event of four updates in which each quantity is NaN from an update (1 …) on."""
    updates = np.arange(1, 5)[None, None]
    metrics = {name: np.where(updates >= bad, np.nan, 0.0) for name, bad in first_bad.items()}
    return SimpleNamespace(
        metrics=metrics,
        updated=np.array([True]),
        return_sum=np.zeros((1, 1)),
        episodes=np.ones((1, 1)),
        undecided=np.zeros((1, 1), bool),
    )


def test_loss_is_blamed_before_what_follows_from_it() -> None:
    with pytest.raises(DivergedError, match="^trd_loss of seed 5 .* at update 2;"):
        Recorder([5], 4).append(diverging(delta_stationarity=2, trd_grad_norm=2, trd_loss=2))
    with pytest.raises(DivergedError, match="^critic_loss "):
        Recorder([5], 4).append(diverging(trd_loss=2, critic_grad_norm=2, critic_loss=2))
    with pytest.raises(DivergedError, match="^trd_grad_norm .* at update 1;"):
        Recorder([5], 4).append(diverging(critic_loss=2, trd_grad_norm=1))
