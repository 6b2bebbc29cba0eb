"""Agents with fewer actions than others: outputs that they do not have are left alone."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.registry import make
from mamt_jax.ops.losses import mean_square_logit
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import quick

GAME = Game((4, 4), (2, 20))


def output_layers(state: Any) -> dict[str, Any]:
    """Output layers of everything that predicts actions, by name; the agent is the first axis."""
    found = {"policy": state.actor.params["params"]["out"]}
    region = getattr(state, "region", None)
    if hasattr(region, "nonstationarity"):
        # Of agent 1, whose only opponent is the one with two actions.
        expectation = region.nonstationarity.params["params"]["out"]
        found["expectation"] = jax.tree.map(lambda leaf: leaf[::-1], expectation)
    return found


@pytest.mark.parametrize("name", ["mamt", "maddpg", "lola_dqn", "mappo"])
def test_outputs_of_missing_actions_get_no_gradient(name: str) -> None:
    algorithm = make(
        name, GAME, tiny.settings(logit_regularisation=0.1, modelling_regularisation=0.1)
    )
    batch = tiny.batch_for(algorithm, *GAME[:2], size=24)
    before = quick.jit(algorithm.init)(jax.random.key(0))
    after, _ = quick.jit(algorithm.update)(before, jax.random.key(1), batch, jnp.int32(0))
    for layer, old in output_layers(before).items():
        moved = jax.tree.map(
            lambda new, old: np.abs(np.asarray(new) - old), output_layers(after)[layer], old
        )
        for leaf in jax.tree.leaves(moved):
            assert leaf[0, :2].max() > 0, layer
            assert leaf[0, 2:].max() == 0, layer
            assert leaf[1, 2:].max() > 0, layer


def test_the_penalty_is_the_mean_over_an_agents_own_actions() -> None:
    """As in a game of its own, in which everybody has just these actions."""
    logits = np.random.default_rng(0).normal(size=(3, 7, 5))
    alive = np.random.default_rng(1).random((3, 7)) < 0.6
    counts = (3, 5, 2)
    for mask in (None, jnp.asarray(alive)):
        got = mean_square_logit(jnp.asarray(logits), counts, mask)
        for agent, count in enumerate(counts):
            rows = logits[agent, :, :count] if mask is None else logits[agent, alive[agent], :count]
            np.testing.assert_allclose(got[agent], np.mean(rows**2), rtol=1e-6)


def test_every_opponent_counts_alike() -> None:
    """Modelling policies: ``[n, n − 1, B, A]``, opponents with 2 and with 4 actions."""
    logits = np.random.default_rng(0).normal(size=(3, 2, 6, 4))
    counts = np.array([[2, 4], [4, 4], [4, 2]])
    got = mean_square_logit(jnp.asarray(logits), counts)
    for agent in range(3):
        each = [np.mean(logits[agent, j, :, : counts[agent, j]] ** 2) for j in range(2)]
        np.testing.assert_allclose(got[agent], np.mean(each), rtol=1e-6)
