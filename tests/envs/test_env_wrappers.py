"""Episodes that end at different times, and stepping under an outer vmap."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs.toy import ToyElimination, ToySurvival


def test_each_environment_restarts_when_its_own_episode_ends() -> None:
    """Environment e misses at step e + 1; the others are not disturbed."""
    env = ToySurvival(episode_length=10)
    vector_env = envs.VectorEnv(env, 4)
    state = jax.jit(vector_env.reset)(jax.random.key(0))
    step = jax.jit(vector_env.step)
    for time in range(1, 5):
        right = env.best_actions(state.obs)
        missing = np.arange(4) == time - 1
        actions = jnp.where(missing[:, None], (right + 1) % env.num_actions, right)
        before = state
        state, result = step(jax.random.key(time), before, actions)
        np.testing.assert_array_equal(result.terminated, missing)
        np.testing.assert_array_equal(result.finished, missing)
        assert not result.truncated.any()
        np.testing.assert_array_equal(result.finished_return, np.where(missing, time - 1, 0.0))
        clock = np.where(missing, 0, np.asarray(before.env_state.time) + 1)
        np.testing.assert_array_equal(state.env_state.time, clock)
        kept = ~missing
        np.testing.assert_array_equal(state.obs[kept], result.next_obs[kept])
        assert not state.episode_return[time - 1].any()


def test_agents_leave_their_episode_one_by_one() -> None:
    """Agent 0 of environment e misses at step e + 1, agent 1 at step 3."""
    env = ToyElimination(episode_length=4)
    vector_env = envs.VectorEnv(env, 4)
    state, step = jax.jit(vector_env.reset)(jax.random.key(0)), jax.jit(vector_env.step)
    assert state.alive.all()
    for time in range(1, 4):
        missing = np.stack((np.arange(4) == time - 1, np.full(4, time == 3)), axis=1)
        contexts = jnp.broadcast_to(state.env_state.context[:, None], (4, 2))
        right = (contexts + jnp.arange(2)) % env.num_actions
        before = np.asarray(state.alive)
        state, result = step(jax.random.key(time), state, (right + missing) % env.num_actions)
        np.testing.assert_array_equal(result.alive, before)
        np.testing.assert_array_equal(result.terminated, before & missing)
        np.testing.assert_array_equal(result.reward, before & ~missing)
        over = ~(before & ~missing).any(axis=1)
        np.testing.assert_array_equal(result.finished, over)
        np.testing.assert_array_equal(state.alive, (before & ~missing) | over[:, None])
        assert not np.any(np.asarray(state.obs)[~np.asarray(state.alive)])
        assert np.all(np.asarray(result.next_obs)[before].any(axis=-1))
    np.testing.assert_array_equal(over, [True, True, True, False])
    np.testing.assert_allclose(result.finished_return, [1.0, 1.5, 2.0, 0.0])


class Vague(ToyElimination):
    """Does not say who is there."""

    def step(self, *arguments: Any) -> envs.TimeStep:
        return super().step(*arguments)._replace(alive=None)


class One(ToyElimination):
    """Says of all at once who is there."""

    def step(self, *arguments: Any) -> envs.TimeStep:
        return super().step(*arguments)._replace(alive=jnp.bool_(True))


class Together(ToyElimination):
    """Who misses is cut off; a second miss would end the episode for all."""

    def step(self, *arguments: Any) -> envs.TimeStep:
        step = super().step(*arguments)
        return step._replace(terminated=step.terminated.all())


def test_an_end_may_be_everybodys() -> None:
    vector_env = envs.VectorEnv(Together(), 2)
    state = vector_env.reset(jax.random.key(0))
    right = vector_env.env.best_actions(state.obs)
    actions = jnp.stack((right[0] + jnp.array([0, 1]), right[1] + 1)) % 3
    state, result = vector_env.step(jax.random.key(1), state, actions)
    np.testing.assert_array_equal(result.terminated, [[False, False], [True, True]])
    np.testing.assert_array_equal(result.finished, [False, True])
    np.testing.assert_array_equal(state.alive, [[True, False], [True, True]])


@pytest.mark.parametrize(
    ("env", "says"),
    [
        (Vague(), "agents_may_leave is True in its spec, but its steps have no alive"),
        (One(), r"alive of a TimeStep must be of shape \(2,\), one for each agent, got \(\)"),
    ],
)
def test_steps_that_do_not_say_who_left_are_refused(env: Any, says: str) -> None:
    vector_env = envs.VectorEnv(env, 3)
    state = vector_env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match=says):
        vector_env.step(jax.random.key(1), state, jnp.zeros((3, 2), jnp.int32))


def test_restarts_differ_between_environments_and_between_episodes() -> None:
    vector_env = envs.VectorEnv(envs.make("spread", episode_length=1), 8)
    step = jax.jit(vector_env.step)
    state = jax.jit(vector_env.reset)(jax.random.key(0))
    seen = [state.obs]
    for key in jax.random.split(jax.random.key(1), 3):
        state, _ = step(key, state, jnp.zeros((8, 2), jnp.int32))
        seen.append(state.obs)
    starts = np.concatenate(seen).reshape(32, -1)
    assert len(np.unique(starts, axis=0)) == 32


@pytest.mark.parametrize("name", ["spread", "toy_survival", "toy_elimination"])
def test_seeds_under_vmap_are_what_they_are_alone(name: str) -> None:
    vector_env = envs.VectorEnv(envs.make(name, episode_length=3), 4)

    def play(key: jax.Array) -> tuple[envs.VectorState, envs.VectorStep]:
        def body(
            state: envs.VectorState, step_key: jax.Array
        ) -> tuple[envs.VectorState, envs.VectorStep]:
            act_key, env_key = jax.random.split(step_key)
            actions = jax.random.randint(act_key, (4, 2), 0, 3)
            return vector_env.step(env_key, state, actions)

        return jax.lax.scan(body, vector_env.reset(key), jax.random.split(key, 8))

    keys = jax.random.split(jax.random.key(0), 3)
    together = jax.jit(jax.vmap(play))(keys)
    alone = jax.lax.map(play, keys)  # a loop: there `cond` stays a branch
    chex.assert_trees_all_close(alone, together, atol=1e-4)


def test_num_envs_must_be_positive() -> None:
    with pytest.raises(ValueError, match="num_envs must be an integer of at least 1, got 0"):
        envs.VectorEnv(envs.make("spread"), 0)
