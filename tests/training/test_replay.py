"""The replay: contents through wrap-around, uniform and recent sampling, reward moments."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.training.replay import make_replay, transition_bytes
from mamt_jax.types import Batch, Transition

ENVS, CAPACITY, AGENTS, OBS, BATCH = 3, 12, 2, 4, 2048


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
        jnp.asarray(number % 2 == 0),
    )


def filled(transitions: int, recent: int = 0) -> tuple[Any, Any]:
    replay = make_replay(CAPACITY, BATCH, recent, AGENTS, OBS)
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
    np.testing.assert_array_equal(sample.terminated, number % 2 == 0)
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


def test_other_keys_draw_other_batches_and_the_same_key_the_same() -> None:
    replay, state = filled(12)
    one, again, other = (
        replay.sample(state, jax.random.key(k), jnp.int32(12)).sample.action for k in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_transition_takes_the_bytes_that_it_says() -> None:
    state = make_replay(CAPACITY, 1, 0, AGENTS, OBS).init()
    held = sum(leaf.nbytes for leaf in jax.tree.leaves(state.storage))
    assert transition_bytes(AGENTS, OBS) * CAPACITY == held
    assert transition_bytes(AGENTS, OBS) == 2 * (AGENTS * OBS * 4) + AGENTS * 8 + 1
