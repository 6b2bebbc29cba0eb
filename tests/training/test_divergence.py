"""Seeds whose policies are no longer finite: lost for good, and nobody else is disturbed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mamt_jax
from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError, DivergedError
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.policies import Policies
from mamt_jax.training.prepare import make_algorithm
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.trainer import make_stage, make_trainer
from mamt_jax.types import Algorithm, Batch
from tests.networks import quick
from tests.training import fakes

GAMES = "tests.envs.parallel_games"
SMALL: dict[str, Any] = {"hidden_size": 8, "attention_heads": 2, "num_envs": 4, "batch_size": 16}
HOSTED: dict[str, Any] = {"env": "pettingzoo", "env_options": {"module": GAMES}, "env_workers": 1}


def second_seed(tree: Any) -> Any:
    """The same with NaN in the second seed's numbers."""

    def spoil(leaf: jax.Array) -> jax.Array:
        floating = jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.at[1].set(jnp.nan) if floating else leaf

    return jax.tree.map(spoil, tree)


def spoiled(state: Any) -> Any:
    learner = state.learner._replace(actor=second_seed(state.learner.actor))
    return state._replace(seeds=state.seeds._replace(learner=learner))


def test_other_seeds_do_not_notice() -> None:
    """A native run, its second seed's policies NaN from the start on."""
    config = make_config(
        algorithm="maac", env="toy_matching", seeds=3, episodes=40, log_interval=20,
        steps_per_update=20, **SMALL,
    )  # fmt: skip
    algorithm, env = make_algorithm(config)
    trainer = quick.trainer(make_trainer(config, env, registry.get(config.algorithm)))
    sick, well = (
        jax.device_get(trainer.epoch(change(trainer.init(jnp.arange(3))))[1])
        for change in (spoiled, lambda state: state)
    )
    assert sick.undecided.all(axis=1).tolist() == [False, True, False]
    assert not well.undecided.any()
    for one, two in zip(jax.tree.leaves(sick.metrics), jax.tree.leaves(well.metrics), strict=True):
        np.testing.assert_array_equal(one[[0, 2]], two[[0, 2]])
    np.testing.assert_array_equal(sick.return_sum[[0, 2]], well.return_sum[[0, 2]])
    recorder = Recorder([5, 6, 7], 4)
    recorder.append(sick)
    assert list(recorder.diverged) == [6] and recorder.diverged[6].endswith("at update 1")
    assert "(1 of 3 seeds lost)" in recorder.summary()
    assert np.isfinite(recorder.last_return())


def test_a_policy_without_metrics_is_noticed_when_it_acts() -> None:
    recorder = Recorder([5, 6], 1)
    said = SimpleNamespace(
        metrics={}, updated=np.array([True]), return_sum=np.zeros((2, 1)),
        episodes=np.ones((2, 1)), undecided=np.array([[False], [True]]),
    )  # fmt: skip
    recorder.append(said)
    assert recorder.diverged == {6: "The policy of seed 6 is NaN or infinite before update 2"}


def test_a_policy_that_breaks_in_the_last_update_is_noticed_when_it_is_evaluated() -> None:
    recorder = Recorder([5, 6], 1)
    said = SimpleNamespace(
        metrics={}, updated=np.array([True]), return_sum=np.zeros((2, 1)),
        episodes=np.ones((2, 1)), undecided=np.zeros((2, 1), bool),
    )  # fmt: skip
    recorder.append(said, np.array([-3.0, np.nan]))
    assert list(recorder.diverged) == [6]
    assert np.isnan(recorder.to_dataset().diverged_at_update.values).tolist() == [True, False]


def walking() -> Algorithm:
    """Acts at random while its number is finite."""

    def act(state: Any, key: jax.Array, obs: jax.Array) -> jax.Array:
        return jnp.where(jnp.isfinite(state["w"]), jax.random.randint(key, obs.shape[:2], 0, 3), -1)

    def greedy(state: Any, obs: jax.Array) -> jax.Array:
        return jnp.where(jnp.isfinite(state["w"]), jnp.ones(obs.shape[:2], jnp.int32), -1)

    def update(state: Any, key: jax.Array, batch: Batch, count: jax.Array) -> tuple[Any, Any]:
        return state, {"q_mean": batch.reward_mean}

    init = lambda key: {"w": jnp.zeros(())}  # noqa: E731
    return Algorithm("walking", init, act, greedy, update)


def test_environments_are_not_asked_to_do_what_a_lost_policy_says() -> None:
    """The game asserts that actions are its own; the lost seed's copies stand still."""
    config = make_config(
        **HOSTED, seeds=2, episodes=40, log_interval=4, steps_per_update=8, **SMALL
    )
    env = envs.make("pettingzoo", module=GAMES)
    outputs = []
    for change in (lambda state: state, second_seed):
        trainer = make_trainer(config, env, fakes.recipe(walking()))
        state = trainer.init(jnp.arange(2))
        state = state._replace(seeds=state.seeds._replace(learner=change(state.learner)))
        state, output = trainer.epoch(state)
        outputs.append(output)
    well, sick = outputs
    assert sick.undecided.all(axis=1).tolist() == [False, True]
    np.testing.assert_array_equal(sick.return_sum[0], well.return_sum[0])
    assert well.episodes[1].sum() > 0 and sick.episodes[1].sum() == 0
    assert not sick.return_sum[1].any()
    play = make_stage(env, config).evaluator(walking(), 3)
    returns = play({"w": jnp.array([0.0, jnp.nan])}, evaluation_keys([0, 1]))
    assert np.isfinite(returns[0]).all() and np.isnan(returns[1]).all()


@pytest.mark.parametrize("env", ["toy_matching", "pettingzoo"])
def test_a_step_too_long_is_blamed_not_the_environment(env: str, tmp_path: Path) -> None:
    where = HOSTED if env == "pettingzoo" else {"env": env}
    with pytest.raises(DivergedError, match=r"of seed 0 is NaN or infinite at update \d+; "):
        mamt_jax.train(
            "maac", **where, seeds=1, episodes=60, learning_rate=1e30, out=tmp_path / "run",
            steps_per_update=20, **SMALL,
        )  # fmt: skip


def test_lost_policies_do_not_answer() -> None:
    learner = {"w": jnp.array([0.0, jnp.nan])}
    policies = Policies(walking(), learner, (3, 4))
    obs = np.zeros((2, 5))
    np.testing.assert_array_equal(policies.act(obs, 3), [1, 1])
    for greedy in (True, False):
        with pytest.raises(DivergedError, match="policies of seed 4 are NaN or infinite"):
            policies.act(obs, 4, greedy=greedy, key=jax.random.key(0))
    with pytest.raises(ConfigError, match="obs must hold finite numbers"):
        policies.act(obs + np.nan, 3)


def test_actors_say_where_they_are_not_finite() -> None:
    config = make_config(algorithm="maac", env="spread", **SMALL)
    algorithm, _ = make_algorithm(config)
    state = algorithm.init(jax.random.key(0))
    obs = jnp.zeros((4, 2, 12)).at[2, 1, 5].set(jnp.nan)
    for action in (algorithm.greedy(state, obs), algorithm.act(state, jax.random.key(1), obs)):
        assert action[2, 1] == -1
        assert jnp.sum(action < 0) == 1
