"""One precision, whoever asks: programs are read, because a CPU computes alike either way."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import envs
from mamt_jax.config import make_config
from mamt_jax.training.evaluate import evaluation_keys, make_evaluator
from mamt_jax.training.policies import Policies
from mamt_jax.training.programs import Program
from mamt_jax.training.run import make_algorithm
from mamt_jax.training.trainer import make_trainer

SMALL: dict[str, Any] = {
    "algorithm": "maac", "seeds": 2, "episodes": 20, "num_envs": 4, "batch_size": 16,
    "hidden_size": 8, "attention_heads": 2,
}  # fmt: skip
GAMES = {"module": "tests.envs.parallel_games", "game": "matching"}


def assert_exact(program: Program, *arguments: Any) -> None:
    text = program.lower(*arguments).as_text()
    products = re.findall(r"stablehlo\.dot_general.*", text)
    assert products
    for product in products:
        assert "precision = [HIGHEST, HIGHEST]" in product


def test_native_training_evaluation_and_policies() -> None:
    config = make_config(env="toy_matching", **SMALL)
    algorithm, env = make_algorithm(config)
    trainer = make_trainer(config, env, algorithm)
    state = jax.eval_shape(trainer.init, jnp.arange(2))
    assert_exact(trainer.epoch, state)  # type: ignore[arg-type]
    keys = evaluation_keys([0, 1])
    assert_exact(trainer.evaluate, state.learner, keys)  # type: ignore[arg-type]
    assert_exact(make_evaluator(algorithm, env, config, 3), state.learner, keys)  # type: ignore[arg-type]
    policies, obs = Policies(algorithm, None, (0,)), np.zeros((1, 2, 3), np.float32)
    assert_exact(policies._greedy, state.learner, 0, obs)
    assert_exact(policies._sample, state.learner, 0, jax.random.key(0), obs)


def test_hosted_training() -> None:
    config = make_config(env="pettingzoo", env_options=GAMES, **SMALL)
    algorithm, _ = make_algorithm(config)
    trainer = make_trainer(config, envs.make("pettingzoo", **GAMES), algorithm)
    state = jax.eval_shape(trainer.init, jnp.arange(2))
    loop, seeds = trainer.epoch.__self__, state.seeds  # type: ignore[attr-defined]
    obs = np.zeros((2, 4, 2, 3), np.float32)
    assert_exact(loop._act, seeds.learner, seeds.key, obs)
    assert_exact(
        loop._learn, seeds.learner, seeds.key, seeds.replay, state.transitions, state.updates
    )


def test_what_is_compiled_ahead_is_what_runs() -> None:
    traced = []

    def double(x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return 2 * x

    program = Program(double)
    compiled = program.compile_ahead(jax.ShapeDtypeStruct((3,), jnp.float32))
    assert compiled.memory_analysis() is not None
    np.testing.assert_array_equal(program(jnp.arange(3.0)), [0, 2, 4])
    assert traced == [(3,)] and program.compile_ahead(jnp.zeros(3)) is compiled
