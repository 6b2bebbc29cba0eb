"""Greedy episodes: whose policies, how many, and where they end."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.config import make_config
from mamt_jax.envs.toy import ToySurvival
from mamt_jax.envs.wrappers import VectorEnv
from mamt_jax.errors import ConfigError
from mamt_jax.training.loop import Book, _evaluate
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.trainer import make_stage
from mamt_jax.types import Algorithm
from tests.training import fakes


def careless(env: ToySurvival) -> Algorithm:
    """Misses whenever the context is 0, so that episodes end at any time."""

    def greedy(state: jax.Array, obs: jax.Array) -> jax.Array:
        return env.best_actions(obs) * (jnp.argmax(obs, axis=-1) > 0)

    return fakes.algorithm()._replace(greedy=greedy)


def test_returns_are_those_of_the_first_episodes() -> None:
    env, episodes, seeds = ToySurvival(), 20, 2
    algorithm = careless(env)
    play = make_stage(env, fakes.config()).evaluator(algorithm, episodes)
    keys = evaluation_keys(range(seeds))
    played = play(jnp.arange(seeds), keys)
    vector = VectorEnv(env, episodes)
    for seed, key in enumerate(keys):
        reset_key, step_key = jax.random.split(key)
        state, first = vector.reset(reset_key), np.full(episodes, np.nan)
        for at_step in jax.random.split(step_key, env.spec.episode_length):
            state, step = vector.step(at_step, state, algorithm.greedy(None, state.obs))
            fresh = np.asarray(step.finished) & np.isnan(first)
            first[fresh] = np.asarray(step.finished_return)[fresh]
        np.testing.assert_array_equal(played[seed], first)
    assert len(np.unique(played)) > 2


def test_every_point_has_its_own_starts() -> None:
    trainer = fakes.trainer()._replace(
        evaluate=lambda learners, keys: jax.vmap(lambda key: jax.random.uniform(key, (5,)))(keys)
    )
    state = trainer.init(jnp.arange(3))

    def books(**options: Any) -> list[Book]:
        config = fakes.config(evaluation_interval=1, **options)
        return [Book(config, None, Recorder(list(config.seed_ids), 2))]

    at = {point: _evaluate(trainer, state, books(), point) for point in (1, 2)}
    assert not np.allclose(at[1], at[2])
    np.testing.assert_array_equal(at[1], _evaluate(trainer, state, books(), 1))
    later = _evaluate(trainer._replace(seeds=(1, 2, 3)), state, books(seed=1), 1)
    np.testing.assert_array_equal(at[1][1:], later[:2])  # seeds 1 and 2, second and third before


def test_a_seeds_evaluation_does_not_depend_on_its_place() -> None:
    """Seed 5 among three, and alone: the same starts, so the same returns."""
    env = ToySurvival()
    play = make_stage(env, fakes.config()).evaluator(careless(env), 20)
    among, alone = (play(jnp.zeros(len(ids)), evaluation_keys(ids)) for ids in ((3, 5, 8), (5,)))
    np.testing.assert_array_equal(among[1], alone[0])
    assert (among[0] != among[1]).any()


def test_policies_that_are_not_finite_have_no_return() -> None:
    env = ToySurvival()

    def greedy(state: jax.Array, obs: jax.Array) -> jax.Array:
        return jnp.where(state > 0, -1, env.best_actions(obs))

    algorithm = fakes.algorithm()._replace(greedy=greedy)
    played = make_stage(env, fakes.config()).evaluator(algorithm, 3)(
        jnp.arange(2), evaluation_keys([0, 1])
    )
    np.testing.assert_array_equal(played, [[env.optimal_return] * 3, [np.nan] * 3])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"evaluation_episodes": 0}, "evaluation_episodes must be greater than 0"),
        ({"evaluation_episodes": 10**9}, "evaluation_episodes must be at most 100000"),
        ({"evaluation_interval": -1}, "evaluation_interval must be 0 or greater"),
        ({"env_options": [3]}, "env_options must be a dict"),
    ],
)
def test_settings_out_of_range(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make_config(**options)
