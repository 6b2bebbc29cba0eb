"""Training in host environments: what is stored, learned, reported and kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mamt_jax
from mamt_jax import envs
from mamt_jax.config import make_config
from mamt_jax.errors import EnvironmentFailed
from mamt_jax.training import checkpoint
from mamt_jax.training.prepare import make_env, prepare
from mamt_jax.training.run import run_trainer
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.trainer import Trainer, make_stage, make_trainer
from mamt_jax.types import Algorithm, Batch
from tests.envs import parallel_games
from tests.processes import living, mark
from tests.training import fakes

__all__ = ["mark"]  # a fixture

GAMES = "tests.envs.parallel_games"
SMALL = {"hidden_size": 16, "attention_heads": 2, "env_workers": 2, "seeds": 2, "num_envs": 4}


def counting() -> Algorithm:
    """Acts at random; an update counts."""

    def update(state: Any, key: jax.Array, batch: Batch, count: jax.Array) -> tuple[Any, Any]:
        return {"w": state["w"] + 1}, {"reward_mean": batch.reward_mean, "count": count}

    def act(state: Any, key: jax.Array, obs: jax.Array) -> jax.Array:
        return jax.random.randint(key, obs.shape[:2], 0, 3)

    init = lambda key: {"w": jnp.zeros(1)}  # noqa: E731
    return fakes.algorithm()._replace(init=init, act=act, update=update)


def dwindling_trainer(**options: Any) -> Trainer:
    sizes = {"steps_per_update": 6, "updates_per_event": 2, "batch_size": 12, "log_interval": 4}
    config = make_config(
        env="pettingzoo", env_options={"module": GAMES}, **SMALL | sizes, episodes=40, **options
    )
    return make_trainer(config, envs.make("pettingzoo", module=GAMES), fakes.recipe(counting()))


def test_stored_transitions_are_true_also_of_agents_that_left() -> None:
    trainer = dwindling_trainer()
    state = trainer.init(jnp.arange(2))
    outputs = []
    for _ in range(3):
        state, output = trainer.epoch(state)
        outputs.append(output)
    stored = int(state.transitions)
    assert stored == 3 * trainer.plan.steps_per_point * 4 <= trainer.plan.capacity
    rows = jax.tree.map(
        lambda leaf: np.asarray(leaf)[:, :stored].reshape(2, -1, 4, *leaf.shape[2:]),
        state.seeds.store.storage,
    )
    now, after, alive = rows.obs, rows.next_obs, rows.alive
    time = now[..., 0, 1]  # "a" stays to the end
    np.testing.assert_array_equal(alive[..., 1], time < 2)
    np.testing.assert_array_equal(alive[..., 2], time < 3)
    assert alive[..., 0].all()
    assert not now[~alive].any() and not rows.reward[~alive].any()
    np.testing.assert_array_equal(rows.terminated[..., 0], time == 4)
    np.testing.assert_array_equal(rows.terminated[..., 1], time == 1)
    assert not rows.terminated[..., 2].any()  # it was cut off
    # True successors with the action that led to them, also where an agent or the episode ends.
    np.testing.assert_array_equal(after[alive][:, 0], now[alive][:, 0])
    np.testing.assert_array_equal(after[alive][:, 1], now[alive][:, 1] + 1)
    offset = np.array([0, 5, 0])
    np.testing.assert_array_equal(after[alive][:, 2], (rows.action + offset)[alive])
    # Five steps an episode, then a new one, each of its own draw.
    steps = np.arange(time.shape[1])[:, None] % 5
    np.testing.assert_array_equal(time, np.broadcast_to(steps, time.shape))
    draws = now[:, ::5, :, 0, 0]
    assert len(np.unique(draws)) > 0.9 * draws.size
    # Returns are averaged over agents, counted in the event in which their episode ended.
    ended = time.shape[1] // 5
    paid = rows.reward.mean(axis=-1)[:, : 5 * ended].sum(axis=(1, 2))
    np.testing.assert_allclose(sum(o.return_sum.sum(axis=1) for o in outputs), paid, rtol=1e-5)
    assert sum(o.episodes.sum(axis=1) for o in outputs).tolist() == [4 * ended] * 2
    counts = np.concatenate([o.metrics["count"][:, o.updated] for o in outputs], axis=1)
    np.testing.assert_array_equal(counts.reshape(2, -1), [np.arange(counts[0].size)] * 2)
    # Rewards of those who were there alone.
    expected = [rows.reward[1][..., i][rows.alive[1][..., i]].mean() for i in range(3)]
    reported = trainer.store.sample(
        jax.tree.map(lambda leaf: leaf[1], state.seeds.store), jax.random.key(0), stored
    ).reward_mean
    np.testing.assert_allclose(reported, expected, rtol=1e-5)


def test_more_environments_than_transitions_between_updates() -> None:
    """Four environments, an event after every three transitions: some events collect nothing."""
    sizes = {"steps_per_update": 3, "updates_per_event": 1, "batch_size": 4, "log_interval": 4}
    config = make_config(
        env="pettingzoo", env_options={"module": GAMES}, **SMALL | sizes, episodes=8
    )
    trainer = make_trainer(config, envs.make("pettingzoo", module=GAMES), fakes.recipe(counting()))
    assert 0 in trainer.plan.collect and sum(trainer.plan.collect) == trainer.plan.steps_per_point
    state, output = trainer.epoch(trainer.init(jnp.arange(2)))
    assert int(state.transitions) == 4 * trainer.plan.steps_per_point
    assert int(state.updates) == output.updated.sum() == len(trainer.plan.collect)
    assert output.episodes.sum(axis=1).tolist() == [4 * (trainer.plan.steps_per_point // 5)] * 2


def test_seeds_decide_and_a_resumed_run_plays_new_episodes() -> None:
    first, second = ((t := dwindling_trainer()).epoch(t.init(jnp.arange(2))) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first[1], second[1])
    obs = [s.seeds.store.storage.obs for s in (first[0], second[0])]
    np.testing.assert_array_equal(*obs)
    assert not np.array_equal(obs[0][0], obs[0][1])
    begun = int(first[0].transitions)
    resumed, _ = dwindling_trainer().epoch(first[0])
    draws = np.asarray(resumed.seeds.store.storage.obs)[..., 0, 0]
    assert not np.isin(draws[:, begun : 2 * begun], draws[:, :begun]).mean() > 0.2


@pytest.mark.parametrize("algorithm", [pytest.param("maac", marks=pytest.mark.slow), "mamt"])
def test_learns_the_matching_game_in_worker_processes(algorithm: str, tmp_path: Path) -> None:
    """As the native one: from 0.56 by chance to the optimum of 5; and the run can be opened."""
    run = mamt_jax.train(
        algorithm, "pettingzoo", out=tmp_path / "run", episodes=400, log_interval=80,
        env_options={"module": GAMES, "game": "matching", "agents_may_leave": algorithm == "mamt"},
        steps_per_update=40, updates_per_event=8, batch_size=64, learning_rate=1e-2, discount=0.5,
        target_tau=0.02, old_policy_period=20, buffer_size=2000, evaluation_interval=2,
        **SMALL,
    )  # fmt: skip
    assert (run.metrics.return_mean.values[:, -1] > 4.5).all(), run.metrics.return_mean.values
    assert (run.metrics.greedy_return.values[:, -1] == 5).all()
    opened = mamt_jax.load(tmp_path / "run")
    np.testing.assert_array_equal(opened.evaluate(3), np.full((2, 3), 5.0))


def test_evaluation_in_waves_starts_every_episode_anew() -> None:
    """Ten episodes, four at a time: the first four as if alone, the others with draws of their own.

    Actions follow the draw that an agent sees, so that returns tell one draw from another.
    """

    def greedy(state: Any, obs: jax.Array) -> jax.Array:
        return obs[..., 0].astype(jnp.int32) % 3

    config = make_config(env="pettingzoo", env_options={"module": GAMES}, **SMALL)
    env = envs.make("pettingzoo", module=GAMES)
    algorithm = counting()._replace(greedy=greedy)
    few, many = (make_stage(env, config).evaluator(algorithm, n) for n in (4, 10))
    keys, learners = evaluation_keys([3, 5]), {"w": jnp.zeros((2, 1))}
    returns = many(learners, keys)
    assert returns.shape == (2, 10)
    np.testing.assert_array_equal(returns[:, :4], few(learners, keys))
    np.testing.assert_array_equal(few({"w": jnp.zeros((1, 1))}, keys[1:]), returns[1:, :4])
    for repeated in (returns[:, 4:8], returns[:, 8:]):
        assert not np.array_equal(repeated, returns[:, : repeated.shape[1]])
    assert not np.array_equal(returns[0], returns[1])


def test_workers_end_with_the_trainer_and_after_a_failure() -> None:
    trainer = dwindling_trainer()
    state, _ = trainer.epoch(trainer.init(jnp.arange(2)))
    loop = trainer.epoch.func.__self__  # type: ignore[attr-defined]
    first = [worker.process for worker in loop._workers._workers]
    first[1].kill()
    with pytest.raises(EnvironmentFailed, match="SIGKILL"):
        trainer.epoch(state)
    assert all(process.poll() is not None for process in first)
    state, _ = trainer.epoch(trainer.init(jnp.arange(2)))  # starts new ones
    second = [worker.process for worker in loop._workers._workers]
    assert [process.poll() for process in second] == [None, None]
    del trainer, loop
    assert all(process.poll() is not None for process in second)


@pytest.mark.parametrize("fails", [False, True])
def test_no_process_is_left_after_training(fails: bool, mark: str) -> None:
    """Though a notebook holds on to the error, and so to the trainer."""
    options = {"module": GAMES, "game": "simulated"} | ({"step": "raise"} if fails else {})
    config = make_config(
        env="pettingzoo", env_options=options, episodes=40, log_interval=20, batch_size=8,
        evaluation_interval=1, **SMALL | {"seeds": 1},
    )  # fmt: skip
    algorithm = counting()._replace(
        update=lambda state, key, batch, count: (state, {"reward_mean": batch.reward_mean}),
        greedy=lambda state, obs: jnp.zeros(obs.shape[:2], jnp.int32),
    )
    trainer, failure = (
        make_trainer(config, envs.make("pettingzoo", **options), fakes.recipe(algorithm)),
        None,
    )
    try:
        run_trainer(trainer, algorithm, config, None)
    except EnvironmentFailed as error:
        failure = error
    assert (failure is not None) == fails and not living(mark)


def test_the_length_that_was_counted_is_recorded() -> None:
    options = {"module": GAMES, "max_cycles": None}
    config = prepare(make_config(env="pettingzoo", env_options=options))[2]
    assert config.env_options == options | {"typical_length": 5}


def test_options_are_the_same_when_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """JSON has no tuples, and no keys but texts; options may be called as ours."""
    opened: list[Any] = []

    def parallel_env(**options: Any) -> Any:
        opened.append(options)
        return parallel_games.Dwindling()

    monkeypatch.setattr(parallel_games, "parallel_env", parallel_env)
    options = {"sizes": (3, 4), "start": {1: 2}, "self": 1, "name": "x", "env": 0.5}
    config = make_config(env="pettingzoo", env_options={"module": GAMES, **options})
    make_env(config)
    assert opened[-1] == options | {"sizes": [3, 4], "start": {"1": 2}}
    make_env(make_config(env="pettingzoo", env_options=json.loads(json.dumps(config.env_options))))
    assert opened[-1] == opened[0]


def test_a_failed_worker_stops_the_run_and_keeps_what_was_recorded(tmp_path: Path) -> None:
    options = {"module": GAMES, "game": "matching", "fail": "the lamp broke", "fail_step": 90}
    with pytest.raises(EnvironmentFailed) as failure:
        mamt_jax.train(
            "maac", "pettingzoo", out=tmp_path / "run", episodes=100, log_interval=20,
            env_options=options, batch_size=8, checkpoint_interval=1,
            evaluation_interval=0, **SMALL,
        )  # fmt: skip
    sentence, _, trace = str(failure.value).partition("\n")
    assert sentence == (
        "Stopped after 3 of 5 logging points; metrics and the last checkpoint are kept. "
        f"To go on: mamt train --resume --out {tmp_path / 'run'}"
    )
    assert "RuntimeError: the lamp broke" in trace and "parallel_games" in trace
    directory = RunDir(tmp_path / "run")
    assert directory.read_metrics().sizes["update"] == 3
    assert [int(step.name) for step in checkpoint.steps(directory.checkpoints)] == [1, 2, 3]
