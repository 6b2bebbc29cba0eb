"""Returns that are known: of random play, of a hand-written controller, of the toy optimum."""

from __future__ import annotations

from collections.abc import Callable

import jax
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs.toy import ToyMatching, ToySurvival
from tests.envs import greedy

Policy = Callable[[jax.Array, jax.Array], jax.Array]  # (key, obs [E, n, O]) -> actions [E, n]


def finished_returns(
    env: envs.Environment, policy: Policy, num_envs: int, steps: int
) -> np.ndarray:
    """Returns of the episodes finished within `steps` steps of `num_envs` environments."""
    vector_env = envs.VectorEnv(env, num_envs)

    def body(state: envs.VectorState, key: jax.Array) -> tuple[envs.VectorState, envs.VectorStep]:
        act_key, env_key = jax.random.split(key)
        return vector_env.step(env_key, state, policy(act_key, state.obs))

    @jax.jit
    def play(key: jax.Array) -> envs.VectorStep:
        reset_key, key = jax.random.split(key)
        return jax.lax.scan(body, vector_env.reset(reset_key), jax.random.split(key, steps))[1]

    result = play(jax.random.key(0))
    return np.asarray(result.finished_return)[np.asarray(result.finished)]


def uniform(num_actions: int) -> Policy:
    return lambda key, obs: jax.random.randint(key, obs.shape[:2], 0, num_actions)


def assigning(key: jax.Array, obs: jax.Array) -> jax.Array:
    del key
    return jax.vmap(greedy.assign_and_go)(obs)


@pytest.mark.parametrize(
    ("policy", "expected", "margin"), [(uniform(5), -67.0, 0.5), (assigning, -35.8, 0.2)]
)
def test_spread_returns(policy: Policy, expected: float, margin: float) -> None:
    """The scale of Li et al., ICLR 2022, Table 10; standard errors are 0.17 and 0.06."""
    returns = finished_returns(envs.make("spread"), policy, num_envs=4000, steps=50)
    assert returns.size == 8000
    assert abs(returns.mean() - expected) < margin


@pytest.mark.parametrize("toy", [ToyMatching(), ToySurvival(), ToySurvival(num_actions=2)])
def test_toy_returns(toy: ToyMatching | ToySurvival) -> None:
    def best(key: jax.Array, obs: jax.Array) -> jax.Array:
        del key
        return toy.best_actions(obs)

    best_returns = finished_returns(toy, best, num_envs=16, steps=20)
    assert set(best_returns) == {toy.optimal_return}
    returns = finished_returns(toy, uniform(toy.num_actions), num_envs=500, steps=100)
    assert returns.mean() == pytest.approx(toy.random_return, abs=0.02)
