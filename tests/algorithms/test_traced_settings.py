"""Algorithms are built inside of programs: no number of theirs is asked anything in Python."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.registry import ALGORITHMS, make
from mamt_jax.settings.numbers import as_data
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import quick

GAME = Game((3, 2, 3), (3, 2, 3), teams=((0, 2), (1,)))
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {name: (name, {}) for name in ALGORITHMS} | {
    "released": (
        "mamt",
        {"coordination": "released", "delta_objective": "surrogate", "trd_monotone": True},
    )
}


@pytest.mark.parametrize("variant", list(VARIANTS))
def test_every_function_is_traced_with_its_numbers(variant: str) -> None:
    """Under abstract values: anything that asks one for its value raises."""
    name, options = VARIANTS[variant]
    game = Game(GAME.obs_sizes[:2], GAME.action_counts[:2]) if name == "lola_dqn" else GAME
    settings = as_data(tiny.settings(name, ppo_epochs=1, ppo_minibatches=2, **options))
    key = jax.random.key(0)

    def everything(settings: Any) -> tuple[Any, ...]:
        algorithm = make(name, game, settings)
        batch = tiny.batch_for(algorithm, *game[:2], size=6)
        state = algorithm.init(key)
        stepped, metrics = algorithm.update(state, key, batch, jnp.int32(0))
        obs = jnp.zeros((2, game.num_agents, 3))
        action = algorithm.act(stepped, key, obs)
        assert algorithm.inspect is not None
        found = algorithm.inspect(stepped, obs, action, None)
        return state, stepped, metrics, found, algorithm.greedy(stepped, obs)

    before, after, *_ = jax.eval_shape(everything, settings)
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True
    ):
        where = jax.tree_util.keystr(path)
        assert (one.shape, one.dtype) == (other.shape, other.dtype), where


def test_numbers_that_are_inputs_are_those_that_act() -> None:
    """One compiled update of LOLA, with other rates, limits and temperatures: as built apart."""
    game = Game((3, 2), (3, 2))
    batch, key = tiny.batch(*game[:2]), jax.random.key(0)
    names = ("learning_rate", "critic_weight_decay", "policy_clip", "lola_step", "lola_temperature")

    @quick.jit
    def update(settings: Any) -> Any:
        algorithm = make("lola_dqn", game, settings)
        return algorithm.update(algorithm.init(key), key, batch, jnp.int32(0))[0].actor.params

    plain = tiny.settings("lola_dqn")
    seen = []
    for name, value in zip(names, (0.01, 0.1, 1e-3, 5.0, 0.3), strict=True):
        other = plain.replace({name: value})
        algorithm = make("lola_dqn", game, other)
        apart = quick.jit(lambda a=algorithm: a.update(a.init(key), key, batch, jnp.int32(0))[0])()
        got = update(as_data(other))
        for one, two in zip(jax.tree.leaves(got), jax.tree.leaves(apart.actor.params), strict=True):
            np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6, err_msg=name)
        seen.append(got)
    assert update._cache_size() == 1
