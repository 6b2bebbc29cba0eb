"""The training loop, with an environment whose every observation says what it is."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.config import make_config
from mamt_jax.envs.base import EnvSpec, TimeStep
from mamt_jax.errors import ConfigError
from mamt_jax.settings import Learning, Settings
from mamt_jax.settings.numbers import stacked
from mamt_jax.settings.tree import compose
from mamt_jax.training.learning import Carry, EpochOutput, RunState, UpdateEvent
from mamt_jax.training.memory import memory_of
from mamt_jax.training.plan import collection_period, plan_run
from mamt_jax.training.prepare import prepare
from mamt_jax.training.seeds import map_seeds, seed_batch
from mamt_jax.training.trainer import Trainer, make_trainer
from mamt_jax.types import Algorithm, Batch
from tests.training import fakes

LENGTH, ENVS, SEEDS = 5, 4, 4


class Clock:
    """Observation (episode id, time); action 1 of agent 0 terminates; agent 0 is paid the time."""

    spec = EnvSpec("clock", 2, (2, 2), (2, 2), LENGTH)

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        state = jnp.stack([jax.random.uniform(key, minval=1.0, maxval=9.0), 0.0])
        return state, jnp.tile(state, (2, 1))

    def step(self, key: jax.Array, state: jax.Array, actions: jax.Array) -> TimeStep:
        new = state.at[1].add(1.0)
        return TimeStep(
            state=new,
            obs=jnp.tile(new, (2, 1)),
            reward=jnp.stack([state[1], 0.0]),
            terminated=actions[0] == 1,
            truncated=new[1] >= LENGTH,
        )


def counting() -> Algorithm:
    """Acts at random, ends an episode with probability 0.1, and reports what updates are given."""

    def act(state: Any, key: jax.Array, obs: jax.Array) -> jax.Array:
        return jax.random.bernoulli(key, 0.1, obs.shape[:2]).astype(jnp.int32)

    def update(state: Any, key: jax.Array, batch: Batch, count: jax.Array) -> tuple[Any, Any]:
        noise = jax.random.uniform(key)
        metrics = {
            "count": count,
            "reward_mean": batch.reward_mean,
            "noise": noise,
        }
        return {"w": state["w"] + noise}, metrics

    init = lambda key: {"w": jax.random.normal(key)}  # noqa: E731
    return Algorithm("counting", init, act, lambda state, obs: None, update)


def config(**options: Any) -> Any:
    sizes = {"num_envs": ENVS, "steps_per_update": 6, "updates_per_event": 2, "batch_size": 12}
    limits = {"buffer_size": 122, "episodes": 60, "log_interval": 10, "seeds": 4}
    return make_config(**sizes | limits | options)


class Played(NamedTuple):
    trainer: Trainer
    states: list[RunState]
    outputs: list[EpochOutput]


@cache
def played(seed_batch: int = 1) -> Played:
    """Three epochs: 180 transitions a seed, through a buffer of 120."""
    trainer = make_trainer(config(seed_batch=seed_batch), Clock(), fakes.recipe(counting()))
    state, states, outputs = trainer.init(jnp.arange(SEEDS)), [], []
    for _ in range(3):
        state, output = trainer.epoch(state)
        plain = state.seeds._replace(key=jax.random.key_data(state.seeds.key))
        states.append(jax.tree.map(np.array, state._replace(seeds=plain)))
        outputs.append(jax.device_get(output))
    return Played(trainer, states, outputs)


@pytest.mark.parametrize(
    ("num_envs", "transitions", "expected"),
    [
        (12, 100, (9, 8, 8)),  # SPEC: after steps 9, 17 and 25
        (7, 100, tuple(np.diff([-(-100 * k // 7) for k in range(8)]))),
        (4096, 100, tuple(np.diff([-(-100 * k // 4096) for k in range(1025)]))),
        (100, 100, (1,)),
        (1, 1, (1,)),
        (1, 4, (4,)),
        (4, 6, (2, 1)),
    ],
)
def test_collection_period(num_envs: int, transitions: int, expected: tuple[int, ...]) -> None:
    """Event k comes at the first step after which k · transitions are stored, and periodically."""
    period = collection_period(num_envs, transitions)
    assert period == expected
    stored = num_envs * np.cumsum(period)
    wanted = transitions * np.arange(1, len(period) + 1)
    assert (stored >= wanted).all() and (stored - num_envs < wanted).all()
    assert stored[-1] == wanted[-1]  # so that the next period is like this one


def test_plan_of_the_defaults_is_the_papers_cadence() -> None:
    """Spread: 12 environments, 25 steps, 4 updates after steps 9, 17 and 25 of each episode."""
    plan = plan_run(make_config(), EnvSpec("spread", 2, (12, 12), (5, 5), 25))
    assert plan.collect[:3] == (9, 8, 8) and plan.updates_per_point == 5 * 12
    assert plan.episodes_per_point == 60 and plan.steps_per_point == 125
    assert plan.points * plan.episodes_per_point >= 10_000
    assert plan.capacity % 12 == 0 and plan.capacity == plan.points * 125 * 12
    per_transition = 2 * (2 * 12 * 4) + 2 * 1 + 2 * 4 + 2 * 1
    moments = 6 * 2 * 4  # of two agents' rewards: a count, a shift, two sums and their errors
    held = memory_of(prepare(make_config()).trainer)
    assert held.replay == 8 * (plan.capacity * per_transition + moments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"episodes": 2, "batch_size": 122}, "batch_size must be at most the transitions"),
        ({"buffer_size": 15, "batch_size": 13}, "buffer_size must hold a batch after rounding"),
    ],
)
def test_plans_that_cannot_update_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan_run(config(**options), Clock.spec)


def test_seed_batch_is_at_most_all_seeds() -> None:
    assert [seed_batch(chosen, 4) for chosen in (0, 2, 3, 9)] == [1, 2, 3, 4]


def test_updates_begin_with_the_first_batch_and_count_without_gaps() -> None:
    run = played()
    plan = run.trainer.plan
    collect = np.tile(plan.collect, 3)
    transitions = np.cumsum(collect) * ENVS
    updated = np.concatenate([output.updated for output in run.outputs])
    np.testing.assert_array_equal(updated, transitions >= 12)
    assert transitions[:2].tolist() == [8, 12] and updated[:2].tolist() == [False, True]
    counts = np.concatenate([output.metrics["count"] for output in run.outputs], axis=1)
    assert counts.shape == (SEEDS, len(collect), 2)
    for seed in range(SEEDS):
        flat = counts[seed][updated].ravel()
        np.testing.assert_array_equal(flat, np.arange(len(flat)))
    np.testing.assert_array_equal(counts[:, ~updated], 0)
    assert run.states[-1].transitions == transitions[-1]
    assert run.states[-1].updates == 2 * updated.sum()


def replayed(run: Played) -> list[Any]:
    """Each seed's storage in order of time, [T, E, ...], oldest first."""
    state = run.states[-1]
    storage, capacity = state.seeds.store.storage, run.trainer.plan.capacity
    shift = -(int(state.transitions) % capacity)
    return [
        jax.tree.map(
            lambda leaf, s=seed: np.roll(leaf[s], shift, axis=0).reshape(-1, ENVS, *leaf.shape[2:]),
            storage,
        )
        for seed in range(SEEDS)
    ]


def test_stored_transitions_are_true_and_in_order_after_the_buffer_wrapped() -> None:
    run = played()
    assert run.states[-1].transitions > run.trainer.plan.capacity
    ends = {"terminated": 0, "truncated": 0}
    for rows in replayed(run):
        now, after = rows.obs[:, :, 0], rows.next_obs[:, :, 0]
        # The true successor, also where the episode ended and the environment was reset.
        np.testing.assert_array_equal(after[..., 0], now[..., 0])
        np.testing.assert_array_equal(after[..., 1], now[..., 1] + 1)
        np.testing.assert_array_equal(rows.obs[:, :, 1], now)
        np.testing.assert_array_equal(rows.reward[..., 0], now[..., 1])
        np.testing.assert_array_equal(rows.reward[..., 1], 0)
        # Terminated is what the environment says; running out of time is not it.
        terminated = rows.terminated[..., 0]
        np.testing.assert_array_equal(rows.terminated[..., 1], terminated)
        np.testing.assert_array_equal(terminated, rows.action[..., 0] == 1)
        finished = terminated | (after[..., 1] >= LENGTH)
        following = rows.obs[1:, :, 0]
        np.testing.assert_array_equal(following[~finished[:-1]], after[:-1][~finished[:-1]])
        assert (following[finished[:-1]][:, 1] == 0).all()
        assert (following[finished[:-1]][:, 0] != after[:-1][finished[:-1]][:, 0]).all()
        ends["terminated"] += terminated.sum()
        ends["truncated"] += (finished & ~terminated).sum()
    assert min(ends.values()) > 10


def test_reward_moments_follow_the_wrapped_contents() -> None:
    run = played()
    for seed, rows in enumerate(replayed(run)):
        reported = run.outputs[-1].metrics["reward_mean"][seed, -1, -1]
        np.testing.assert_allclose(reported, rows.reward.reshape(-1, 2).mean(axis=0), rtol=1e-5)


def test_returns_and_episodes_are_those_that_finished() -> None:
    """An episode of T steps pays 0 + 1 + … + (T − 1) to agent 0 and nothing to agent 1."""
    run = played()
    kept = run.trainer.plan.capacity // ENVS
    per_event = np.repeat(
        np.arange(3 * run.trainer.plan.events_per_point), np.tile(run.trainer.plan.collect, 3)
    )[-kept:]
    for seed, rows in enumerate(replayed(run)):
        length = rows.next_obs[:, :, 0, 1]
        finished = rows.terminated[..., 0] | (length >= LENGTH)
        earned = np.where(finished, length * (length - 1) / 4, 0.0).sum(axis=1)
        for name, each in (("return_sum", earned), ("episodes", finished.sum(axis=1))):
            reported = np.concatenate([getattr(output, name)[seed] for output in run.outputs])
            for event in np.unique(per_event)[1:]:
                np.testing.assert_allclose(
                    reported[event], each[per_event == event].sum(), err_msg=name
                )


def test_epochs_are_deterministic_and_seeds_differ() -> None:
    trainer = played().trainer
    first, second = (trainer.epoch(trainer.init(jnp.arange(SEEDS)))[1] for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    noise = first.metrics["noise"][:, -1]
    assert len(np.unique(noise)) == noise.size  # no two updates or seeds share a key


def test_no_key_is_used_twice() -> None:
    """JAX's own checker, over collection, an update event, and collection again."""
    epoch: Any = played().trainer.epoch
    loop, (settings,) = epoch.func.__wrapped__.__self__, epoch.args
    event = UpdateEvent(loop.plan, loop.store, loop.rule.algorithm(settings))
    collect = partial(loop._collect, event)
    with jax.debug_key_reuse(True):
        begun = loop.init(settings, jnp.arange(1)).seeds
        carry = Carry(jax.tree.map(lambda leaf: leaf[0], begun), jnp.int32(0), jnp.int32(0))
        for collected in (0, ENVS, 2 * ENVS):
            seed, _ = collect(carry.seed, jnp.int32(collected))
            carry = Carry(seed, jnp.int32(collected + ENVS), carry.updates)
        carry, _ = event._updates(carry)
        collect(carry.seed, carry.transitions)
        with pytest.raises(jax.errors.KeyReuseError):
            collect(carry.seed, carry.transitions)


@pytest.mark.parametrize("batch", [2, 4])
def test_seeds_side_by_side_are_seeds_one_after_another(batch: int) -> None:
    """Bit for bit, where no matrix product's order of summation can differ."""
    one, several = played(), played(batch)
    for states in zip(one.states, several.states, strict=True):
        jax.tree.map(np.testing.assert_array_equal, *states)
    for outputs in zip(one.outputs, several.outputs, strict=True):
        jax.tree.map(np.testing.assert_array_equal, *outputs)


@pytest.mark.parametrize("batch", [1, 2, 3, 4])
def test_map_seeds_is_a_map_over_the_first_axis(batch: int) -> None:
    seeds = {"a": jnp.arange(12.0).reshape(4, 3), "b": jnp.arange(4)}

    same = compose(Learning())
    settings = stacked([same, same.replace({"discount": 0.5})], repeats=2)

    def function(settings: Settings, seed: Any) -> tuple[Any, Any]:
        factor = settings[Learning].discount + settings[Learning].adam_b1
        moved = {"a": seed["a"] * factor + seed["b"], "b": seed["b"] + 1}
        return moved, (seed["a"].sum(), seed["b"])

    mapped = jax.jit(lambda settings, seeds: map_seeds(function, settings, seeds, batch))
    moved, (sums, kept) = mapped(settings, seeds)
    factors = np.array([1.89, 1.89, 1.4, 1.4])
    expected = seeds["a"] * factors[:, None] + seeds["b"][:, None]
    np.testing.assert_allclose(moved["a"], expected, 1e-6)
    np.testing.assert_array_equal(moved["b"], [1, 2, 3, 4])
    np.testing.assert_array_equal(sums, seeds["a"].sum(axis=1))
    np.testing.assert_array_equal(kept, [0, 1, 2, 3])
