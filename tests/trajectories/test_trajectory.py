"""Trajectories: what happened in episodes, on both stages, and nothing of what lies behind them."""

from __future__ import annotations

from functools import cache
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs.toy import ToyElimination, ToySurvival
from mamt_jax.envs.wrappers import VectorEnv, advance, start
from mamt_jax.errors import ConfigError, DivergedError
from mamt_jax.training.game import game_of
from mamt_jax.training.playing import Playing
from mamt_jax.training.policies import Policies
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.stage.base import Stage
from mamt_jax.training.stage.hosted_play import EVALUATION
from mamt_jax.training.trainer import make_stage
from mamt_jax.trajectories.trajectory import Trajectory
from mamt_jax.types import Algorithm
from tests.training import fakes

EPISODES = 6
EXPORTED = {"module": "tests.envs.parallel_games", "game": "exported"}
(KEY,) = evaluation_keys([4])  # episodes of many lengths


def talking(greedy: Any) -> Algorithm:
    """Acts by `greedy`, and says what it was asked about."""

    def inspect(state: Any, obs: Any, action: Any, alive: Any) -> dict[str, jax.Array]:
        said = {"value": obs[..., 0] + 10.0 * action, "seen": obs}
        return said | ({} if alive is None else {"there": alive.astype(jnp.int32)})

    return fakes.algorithm()._replace(greedy=greedy, inspect=inspect)


def careless(obs: jax.Array) -> jax.Array:
    """In the toys: agent 0 misses context 0, agent 1 context 1."""
    context = jnp.argmax(obs, axis=-1)
    right = (context + jnp.arange(2)) % 3
    return jnp.where(context == jnp.arange(2), (right + 1) % 3, right).astype(jnp.int32)


def stage_of(name: str, hosted: bool, length: int) -> Stage:
    env: Any = envs.make(name, episode_length=length)
    if hosted:
        env = envs.make("pettingzoo", **EXPORTED, env=name, cycles=length)
    return make_stage(env, fakes.config(num_envs=4, env_workers=1))


@cache
def played(name: str, hosted: bool) -> tuple[Stage, Trajectory, np.ndarray]:
    """Episodes of a toy, and what an evaluation says of them."""
    stage, rule = stage_of(name, hosted, 4), talking(lambda _, obs: careless(obs))
    state = {"w": jnp.zeros(4)}
    trajectory = stage.player(rule, EPISODES)(state, KEY)
    states = jax.tree.map(lambda leaf: leaf[None], state)
    return stage, trajectory, np.asarray(stage.evaluator(rule, EPISODES)(states, KEY[None]))[0]


over_both = pytest.mark.parametrize("hosted", [False, True], ids=["native", "hosted"])
over_toys = pytest.mark.parametrize("name", ["toy_matching", "toy_survival", "toy_elimination"])


@over_both
@over_toys
def test_returns_are_the_evaluations_and_sums_of_rewards(name: str, hosted: bool) -> None:
    stage, trajectory, returns = played(name, hosted)
    np.testing.assert_array_equal(trajectory.returns, returns)
    assert len(np.unique(returns)) > 1
    taken = np.where(trajectory.alive, trajectory.reward, 0.0)
    so_far = np.cumsum(taken, axis=0).mean(axis=-1)
    within = np.arange(len(so_far))[:, None] < trajectory.length
    np.testing.assert_allclose(trajectory.return_so_far[within], so_far[within], rtol=1e-6)
    assert trajectory.spec == stage.spec and not trajectory.undecided


@over_both
@over_toys
def test_nothing_is_told_of_what_lies_behind_the_end(name: str, hosted: bool) -> None:
    _, t, _ = played(name, hosted)
    steps, moments = np.arange(len(t.action))[:, None], np.arange(len(t.obs))[:, None]
    behind, beyond = steps >= t.length, moments > t.length
    assert len(t.action) == t.length.max() == len(t.obs) - 1
    assert behind.any() == (name != "toy_matching") and t.alive[~behind].any(axis=-1).all()
    for array in (t.reward, t.return_so_far, t.inspected["value"], t.inspected["seen"]):
        assert np.isnan(array[behind]).all()
    assert (t.action[behind] == -1).all() and np.isnan(t.obs[beyond]).all()
    for flags in (t.alive, t.terminated, t.truncated):
        assert not flags[behind].any()
    assert np.isfinite(t.obs[~beyond]).all() and np.isfinite(t.reward[~behind]).all()
    # Every episode ends once, by a truncation or with its last agent.
    last = steps == t.length - 1
    ends = t.truncated[last.nonzero()] | t.terminated.any(axis=0).all(axis=-1)[last.nonzero()[1]]
    assert ends.all() and not t.truncated[~last].any()
    if not hosted:
        assert (t.view["context"][beyond] == -1).all() and not t.view["playing"][beyond].any()


@over_both
@over_toys
def test_the_algorithm_is_asked_about_what_it_saw_and_did(name: str, hosted: bool) -> None:
    stage, t, _ = played(name, hosted)
    seen = np.where(t.alive[..., None], t.obs[:-1], np.nan)
    np.testing.assert_array_equal(t.inspected["seen"], seen)
    np.testing.assert_array_equal(t.inspected["value"], seen[..., 0] + 10.0 * t.action)
    expected = np.asarray(careless(jnp.nan_to_num(t.obs[:-1])))
    np.testing.assert_array_equal(t.action, np.where(t.alive, expected, -1))
    leaving = stage.spec.agents_may_leave
    assert ("there" in t.inspected) == leaving
    if leaving:
        np.testing.assert_array_equal(t.inspected["there"], np.where(t.alive, 1, -1))


@over_both
def test_agents_that_left_take_no_part(hosted: bool) -> None:
    _, t, _ = played("toy_elimination", hosted)
    gone = ~t.alive & (np.arange(len(t.action))[:, None, None] < t.length[:, None])
    assert gone.any()
    assert (t.reward[gone] == 0.0).all() and (t.obs[:-1][gone] == 0.0).all()
    out = np.cumsum(t.terminated, axis=0)[:-1] > 0
    assert not t.alive[1:][out].any() and t.terminated.sum(axis=0).max() == 1


@pytest.mark.parametrize("name", ["toy_survival", "toy_elimination"])
def test_native_trajectories_are_those_of_a_plain_loop(name: str) -> None:
    stage, t, _ = played(name, False)
    vector = VectorEnv(stage.env, EPISODES)  # type: ignore[attr-defined]
    reset_key, step_key = jax.random.split(KEY)
    state, step = vector.reset(reset_key), jax.jit(vector.step)
    done = np.zeros(EPISODES, bool)
    for at, key in enumerate(jax.random.split(step_key, 4)[: len(t.action)]):
        kept = ~done
        np.testing.assert_array_equal(t.obs[at][kept], np.asarray(state.obs)[kept])
        context, playing = state.env_state.context, state.env_state.alive
        np.testing.assert_array_equal(t.view["context"][at][kept], np.asarray(context)[kept])
        np.testing.assert_array_equal(t.view["playing"][at][kept], np.asarray(playing)[kept])
        state, result = step(key, state, careless(state.obs))
        np.testing.assert_array_equal(t.reward[at][kept], np.asarray(result.reward)[kept])
        over = kept & np.asarray(result.finished)
        np.testing.assert_array_equal(t.obs[at + 1][over], np.asarray(result.next_obs)[over])
        np.testing.assert_array_equal(t.length[over], at + 1)
        done |= over
    assert done.all()


@pytest.mark.parametrize("name", ["toy_matching", "toy_elimination"])
def test_hosted_trajectories_are_those_of_the_environment_exported(name: str) -> None:
    """The same environment, played natively from the seed that each copy was given."""
    _, t, _ = played(name, True)
    env, drawn = envs.make(name, episode_length=4), jax.random.bits(KEY, (2,), jnp.uint32)
    for episode in range(EPISODES):
        entropy = [EVALUATION, *np.asarray(drawn).tolist(), episode, 0]
        seed = int(np.random.SeedSequence(entropy).generate_state(1)[0]) >> 1
        key, state, obs = start(env, jax.random.key(seed))
        alive = np.ones(2, bool)
        for at in range(t.length[episode]):
            seen = np.where(alive[:, None], obs, 0.0)
            np.testing.assert_array_equal(t.obs[at, episode], seen)
            np.testing.assert_array_equal(t.alive[at, episode], alive)
            key, result = advance(env, key, state, np.asarray(careless(obs)))
            reward = np.where(alive, result.reward, 0.0)
            np.testing.assert_array_equal(t.reward[at, episode], reward)
            ended = alive & np.asarray(result.terminated)
            np.testing.assert_array_equal(t.terminated[at, episode], ended)
            state, obs = result.state, np.asarray(result.obs)
            alive = alive & ~ended
        assert bool(result.finished)


def test_what_an_environment_wants_seen_follows_its_steps() -> None:
    """Spread: places are those that agents see of themselves, at every moment."""
    stage = stage_of("spread", False, 3)
    rule = talking(lambda _, obs: jnp.tile(jnp.array([1, 3]), (obs.shape[0], 1)))
    t = stage.player(rule, 2)({"w": jnp.zeros(4)}, KEY)
    np.testing.assert_array_equal(t.view["position"], t.obs[..., 2:4])
    np.testing.assert_array_equal(t.view["velocity"], t.obs[..., :2])
    assert (np.diff(t.view["position"][..., 0, 0], axis=0) > 0).all()  # agent 0 pushes right
    sizes: dict[str, int] = {}
    arrays = {name: getattr(t, name) for name in ("obs", "action", "reward", "length")}
    arrays |= t.view | t.inspected | {"radius": t.fields["radius"].still}
    for name, array in arrays.items():
        field = t.fields[name]
        assert len(field.dims) == array.ndim, name
        for dim, size in zip(field.dims, array.shape, strict=True):
            assert sizes.setdefault(dim, size) == size, (name, dim)
        assert name == "seen" or (field.unit and field.description)
    assert (sizes["step"], sizes["moment"], sizes["episode"], sizes["agent"]) == (3, 4, 2, 2)


def test_sampled_episodes_start_alike_and_follow_the_key() -> None:
    calls = []

    def act(state: Any, key: jax.Array, obs: jax.Array) -> jax.Array:
        calls.append(obs.shape)
        return jax.random.randint(key, obs.shape[:2], 0, 3)

    stage = stage_of("toy_matching", False, 5)
    rule = talking(lambda _, obs: careless(obs))._replace(act=act)
    play = stage.player(rule, EPISODES, False)
    first, again = (play({"w": jnp.zeros(4)}, KEY) for _ in range(2))
    greedy = stage.player(rule, EPISODES)({"w": jnp.zeros(4)}, KEY)
    np.testing.assert_array_equal(first.action, again.action)
    np.testing.assert_array_equal(first.obs[0], greedy.obs[0])
    assert len(np.unique(first.action)) == 3 and (first.action != greedy.action).any()
    assert calls == [(EPISODES, 2, 3)]  # nothing is traced again


def playing(greedy: Any, env: Any) -> Playing:
    policies = Policies(
        talking(greedy), {"w": jnp.array([0.0, jnp.nan])}, (4, 7), game_of(env.spec)
    )
    return Playing(make_stage(env, fakes.config(num_envs=4, env_workers=1)), policies)


def test_a_runs_play_is_its_evaluation_and_traced_once() -> None:
    env = ToySurvival()

    @chex.assert_max_traces(n=3)  # each of two numbers of episodes once, and an evaluation
    def greedy(state: Any, obs: jax.Array) -> jax.Array:
        return careless(obs)

    chex.clear_trace_counter()
    run = playing(greedy, env)
    returns = run.evaluate(5, 3)
    for row, seed in enumerate((4, 7, 4)):
        played = run.play(5, seed, True, 3).returns
        np.testing.assert_array_equal(played, returns[row % 2])
    assert run.play(1, None, True, 0).length.shape == (1,)


@over_both
def test_policies_that_are_not_finite_play_no_episode(hosted: bool) -> None:
    def greedy(state: Any, obs: jax.Array) -> jax.Array:
        return jnp.where(jnp.isnan(state["w"]), -1, jnp.zeros(obs.shape[:2], jnp.int32))

    env: Any = envs.make("pettingzoo", module=EXPORTED["module"]) if hosted else ToyElimination()
    run = playing(greedy, env)
    assert run.play(2, 4, True, 0).length.shape == (2,)
    with pytest.raises(DivergedError, match="policies of seed 7 are NaN or infinite"):
        run.play(2, 7, True, 0)


def test_what_cannot_be_played() -> None:
    run = playing(lambda state, obs: careless(obs), ToySurvival())
    for wrong, said in (
        ((0, 4, True, 0), "episodes must be an integer in 1 to 100,000, got 0"),
        (("2", 4, True, 0), "episodes must be an integer in"),
        ((1, 5, True, 0), "No seed 5; the run has 4, 7"),
        ((1, 4, 1, 0), "greedy must be True or False, got 1"),
        ((1, 4, True, -1), r"key must be an integer in 0 to 2\*\*31 - 1, got -1"),
    ):
        with pytest.raises(ConfigError, match=said) as caught:
            run.play(*wrong)  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)
