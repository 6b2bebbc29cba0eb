"""The replay: contents through wrap-around, uniform and recent sampling, reward moments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs.base import EnvSpec
from mamt_jax.training.replay import Replay
from mamt_jax.types import Batch, Transition

ENVS, CAPACITY, AGENTS, OBS, BATCH = 3, 12, 2, 4, 2048


def spec(actions: int = 200, **options: Any) -> EnvSpec:
    return EnvSpec("numbers", AGENTS, (OBS, OBS - 1), (actions, 2), 25, **options)


def block(first: int) -> Transition:
    """Transitions first, first + 1, …: every field tells which one it is."""
    number = np.arange(first, first + ENVS)
    agents = number[:, None] + 0.25 * np.arange(AGENTS)
    obs = agents[..., None] + 0.01 * np.arange(OBS)
    return Transition(
        jnp.asarray(obs, jnp.float32),
        jnp.asarray(number[:, None] + np.arange(AGENTS), jnp.int32),
        jnp.asarray(agents, jnp.float32),
        jnp.asarray(obs + 0.5, jnp.float32),
        jnp.asarray(number[:, None] % 2 == np.arange(AGENTS)),
    )


def filled(transitions: int, recent: int = 0) -> tuple[Any, Any]:
    replay = Replay(CAPACITY, BATCH, recent, spec(400))
    state, insert = replay.init(), jax.jit(replay.insert)
    for first in range(0, transitions, ENVS):
        state = insert(state, block(first), jnp.int32(first))
    return replay, state


def sample(transitions: int, recent: int = 0) -> Batch:
    replay, state = filled(transitions, recent)
    return replay.sample(state, jax.random.key(0), jnp.int32(transitions))


def numbers(sample: Transition) -> np.ndarray:
    """Which transitions were drawn; checks that no two were mixed up."""
    number = np.asarray(sample.action)[:, 0]
    np.testing.assert_array_equal(sample.action[:, 1], number + 1)
    np.testing.assert_allclose(sample.reward[:, 0], number)
    np.testing.assert_allclose(sample.obs[:, 1, 2], number + 0.27, atol=1e-5)
    np.testing.assert_allclose(sample.next_obs[:, 1, 2], number + 0.77, atol=1e-5)
    np.testing.assert_array_equal(sample.terminated, number[:, None] % 2 == np.arange(AGENTS))
    return number


@pytest.mark.parametrize("transitions", [3, 9, 12, 15, 33])
def test_sampling_is_uniform_over_the_newest_contents(transitions: int) -> None:
    drawn = numbers(sample(transitions).sample)
    kept = np.arange(max(0, transitions - CAPACITY), transitions)
    values, counts = np.unique(drawn, return_counts=True)
    np.testing.assert_array_equal(values, kept)
    expected = BATCH / len(kept)
    assert ((counts - expected) ** 2 / expected).sum() < 40  # chi², at most 11 degrees of freedom


@pytest.mark.parametrize(("transitions", "recent"), [(3, 5), (9, 5), (15, 5), (33, 7), (33, 99)])
def test_recent_transitions_are_the_newest(transitions: int, recent: int) -> None:
    batch = sample(transitions, recent)
    assert batch.recent is not None
    drawn = numbers(batch.recent)
    newest = min(recent, transitions, CAPACITY)
    np.testing.assert_array_equal(np.unique(drawn), np.arange(transitions - newest, transitions))
    assert len(np.unique(numbers(batch.sample))) == min(transitions, CAPACITY)


def test_without_the_option_there_is_no_recent_batch() -> None:
    assert sample(9).recent is None


@pytest.mark.parametrize("transitions", [3, 12, 18, 300])
def test_reward_moments_are_those_of_the_contents(transitions: int) -> None:
    batch = sample(transitions)
    kept = np.arange(max(0, transitions - CAPACITY), transitions, dtype=np.float64)
    np.testing.assert_allclose(batch.reward_mean, kept.mean() + [0, 0.25], rtol=1e-6)
    # Sums are kept relative to the first reward ever, here up to 85 deviations away.
    np.testing.assert_allclose(batch.reward_std, [kept.std()] * 2, rtol=1e-3)


@pytest.mark.parametrize("transitions", [3, 12, 18, 33])
def test_reward_moments_are_of_the_steps_in_which_an_agent_was_there(transitions: int) -> None:
    """Agent 0 in two of three transitions, agent 1 in none of the first eighteen."""
    replay = Replay(CAPACITY, BATCH, 0, spec(400, agents_may_leave=True))
    state, insert = replay.init(), jax.jit(replay.insert)
    there = np.array([[k % 3 != 1, k >= 18 and k % 2 == 0] for k in range(transitions)])
    for first in range(0, transitions, ENVS):
        alive = there[first : first + ENVS]
        new = block(first)
        reward = jnp.where(alive, new.reward, jnp.nan)
        state = insert(state, new._replace(alive=alive, reward=reward), jnp.int32(first))
    batch = replay.sample(state, jax.random.key(0), jnp.int32(transitions))
    drawn = np.asarray(batch.sample.action)[:, 0]
    np.testing.assert_array_equal(batch.sample.alive, there[drawn])
    kept = np.arange(max(0, transitions - CAPACITY), transitions)
    for agent in range(AGENTS):
        values = kept[there[kept, agent]] + 0.25 * agent
        mean, std = (values.mean(), values.std()) if len(values) else (0.0, 1.0)
        np.testing.assert_allclose(batch.reward_mean[agent], mean, rtol=1e-6)
        np.testing.assert_allclose(batch.reward_std[agent], std, rtol=1e-4)


def test_other_keys_draw_other_batches_and_the_same_key_the_same() -> None:
    replay, state = filled(12)
    one, again, other = (
        replay.sample(state, jax.random.key(k), jnp.int32(12)).sample.action for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_transition_takes_the_bytes_that_it_says() -> None:
    """Of each agent two observations, action, reward, its end and whether it was there."""
    for described, obs, action in (
        (spec(256), 4, 1),
        (spec(257), 4, 4),
        (spec(256, obs_dtype="uint8"), 1, 1),
        (spec(257, obs_dtype="uint8"), 1, 4),
    ):
        expected = AGENTS * (2 * OBS * obs + action + 4 + 1)
        for may_leave in (False, True):
            kind = replace(described, agents_may_leave=may_leave)
            state = Replay(CAPACITY, 1, 0, kind).init()
            held = sum(leaf.nbytes for leaf in jax.tree.leaves(state.storage))
            assert held == CAPACITY * (expected + AGENTS * may_leave)


@pytest.mark.parametrize("actions", [256, 257])
def test_the_last_action_survives_storage(actions: int) -> None:
    replay = Replay(ENVS, 64, 2, spec(actions))
    action = jnp.full((ENVS, AGENTS), actions - 1, jnp.int32)
    state = replay.insert(replay.init(), block(0)._replace(action=action), jnp.int32(0))
    batch = replay.sample(state, jax.random.key(0), jnp.int32(ENVS))
    for rows in (batch.sample, batch.recent):
        assert rows is not None and rows.action.dtype == jnp.int32
        np.testing.assert_array_equal(rows.action, actions - 1)


def test_pursuits_observations_come_back_exactly() -> None:
    """Stored as uint8; on a board so small that cells hold several agents."""
    steps = 40
    env = envs.make("pursuit", x_size=8, y_size=8, n_pursuers=12, n_evaders=6)
    assert env.spec.obs_dtype == "uint8"
    replay = Replay(steps, 8 * steps, 0, env.spec)

    def play(carry: Any, key: jax.Array) -> tuple[Any, Transition]:
        state, obs = carry
        action = jax.random.randint(key, (env.spec.num_agents,), 0, env.spec.num_actions)
        step = env.step(key, state, action)
        terminated = jnp.broadcast_to(step.terminated, action.shape)
        new = Transition(obs, action, step.reward, step.obs, terminated)
        return (step.state, step.obs), new

    keys = jax.random.split(jax.random.key(0), steps)
    played = jax.jit(lambda start: jax.lax.scan(play, start, keys)[1])(env.reset(keys[0]))
    # Which transition is which is told by its reward.
    played = played._replace(reward=jnp.arange(steps)[:, None] + jnp.zeros_like(played.reward))
    state = replay.insert(replay.init(), played, jnp.int32(0))
    assert state.storage.obs.dtype == state.storage.next_obs.dtype == jnp.uint8
    rows = replay.sample(state, jax.random.key(1), jnp.int32(steps)).sample
    index = np.asarray(rows.reward[:, 0], int)
    jax.tree.map(np.testing.assert_array_equal, rows, jax.tree.map(lambda x: x[index], played))
    assert rows.obs.dtype == rows.next_obs.dtype == jnp.float32
    assert played.obs.max() >= 3 and len(np.unique(index)) == steps
