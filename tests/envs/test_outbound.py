"""Our environments as PettingZoo's: its own tests, parity with ours, and what it refuses."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pettingzoo import ParallelEnv
from pettingzoo.test import api_test, parallel_api_test, parallel_seed_test
from pettingzoo.utils.conversions import parallel_to_aec

from mamt_jax import envs
from mamt_jax.envs import wrappers
from tests.envs.native import NATIVE

LENGTH = 6
over_all = pytest.mark.parametrize("name", NATIVE)


def short(name: str, length: int = LENGTH) -> envs.Environment:
    """A registered environment with short episodes."""
    option = "max_cycles" if "max_cycles" in envs.options(name) else "episode_length"
    return envs.make(name, **{option: length})


def sampled(env: ParallelEnv) -> dict[str, int]:
    return {agent: env.action_space(agent).sample() for agent in env.agents}


@over_all
def test_passes_pettingzoos_own_tests(name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # Two properties that the tests find unusual and that are meant to be so.
        for usual in ("Agents have diff", "Observations are diff", "Agent's m.* is -?infinity"):
            warnings.filterwarnings("ignore", usual)
        parallel_api_test(envs.to_pettingzoo(short(name)), num_cycles=3 * LENGTH)
        parallel_seed_test(lambda: envs.to_pettingzoo(short(name)), num_cycles=LENGTH)
        api_test(parallel_to_aec(envs.to_pettingzoo(short(name))), num_cycles=3 * LENGTH)


@over_all
def test_steps_as_ours_with_the_same_keys(name: str) -> None:
    ours, theirs = short(name), envs.to_pettingzoo(short(name))
    sizes, names = ours.spec.obs_sizes, [f"agent_{i}" for i in range(ours.spec.num_agents)]
    assert theirs.possible_agents == names
    key, reset_key = jax.random.split(jax.random.key(11))
    state, obs = jax.jit(ours.reset)(reset_key)
    observations, infos = theirs.reset(seed=11)
    assert infos == {agent: {} for agent in names}
    stepping, rng = jax.jit(ours.step), np.random.default_rng(0)
    for _ in range(LENGTH):
        for i, agent in enumerate(names):
            np.testing.assert_array_equal(observations[agent], obs[i, : sizes[i]])
            assert observations[agent].dtype == np.float32
            assert theirs.observation_space(agent).contains(observations[agent])
        np.testing.assert_array_equal(theirs.state(), np.concatenate([*observations.values()]))
        actions = rng.integers(ours.spec.action_counts)
        key, step_key = jax.random.split(key)
        expected = stepping(step_key, state, jnp.asarray(actions, jnp.int32))
        result = theirs.step(dict(zip(names, actions, strict=True)))
        observations, rewards, terminations, truncations, infos = result
        np.testing.assert_allclose([rewards[agent] for agent in names], expected.reward, rtol=1e-6)
        ended = np.broadcast_to(expected.terminated, len(names))
        assert [terminations[agent] for agent in names] == ended.tolist()
        assert set(truncations.values()) == {bool(expected.truncated)}
        state, obs = expected.state, expected.obs
        if expected.finished or ended.any():  # who leaves alone is another test's
            break
    assert set(observations) == set(names)
    assert not expected.finished or theirs.agents == []
    for i, agent in enumerate(names):
        np.testing.assert_array_equal(observations[agent], obs[i, : sizes[i]])


def test_agents_leave_one_by_one() -> None:
    """Agent 0 misses in its second step, agent 1 plays to the end of the time."""
    game = short("toy_elimination")
    env = envs.to_pettingzoo(game)
    observations, _ = env.reset(seed=1)
    left = []
    for time in range(1, LENGTH + 1):
        acting = list(env.agents)
        context = int(np.argmax(observations["agent_1"]))
        best = {"agent_0": context, "agent_1": (context + 1) % game.num_actions}
        best["agent_0"] = (best["agent_0"] + (time == 2)) % game.num_actions
        result = env.step({agent: best[agent] for agent in acting})
        observations, rewards, terminations, truncations, infos = result
        assert all(set(part) == set(acting) for part in result)
        assert rewards == {agent: float(agent == "agent_1" or time < 2) for agent in acting}
        left += [agent for agent in acting if terminations[agent]]
        assert set(truncations.values()) == {time == LENGTH}
        assert env.agents == ([] if time == LENGTH else [a for a in acting if a not in left])
    assert left == ["agent_0"] and acting == ["agent_1"]


def test_terminations_are_not_truncations() -> None:
    game = short("toy_survival")
    env = envs.to_pettingzoo(game)
    ends = []
    for hit in (False, True):
        observations, _ = env.reset(seed=1)
        while env.agents:
            best = np.asarray(game.best_actions(np.stack(list(observations.values()))))
            actions = (best + (not hit)) % game.num_actions
            observations, _, terminations, truncations, _ = env.step(
                dict(zip(env.agents, actions, strict=True))
            )
        ends.append((terminations["agent_0"], truncations["agent_0"]))
    assert ends == [(True, False), (False, True)]


@over_all
def test_pictures(name: str) -> None:
    env = envs.to_pettingzoo(short(name), render_mode="rgb_array")
    with pytest.raises(ValueError, match="call reset first"):
        env.render()
    env.reset(seed=3)
    first = env.render()
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    np.testing.assert_array_equal(first, env.render())
    env.step(dict.fromkeys(env.agents, 1))
    after = env.render()
    assert after.shape == first.shape and (after != first).any()
    np.testing.assert_array_equal(after, env.env.render(env._env_state))


def test_seeds_and_the_stream_without_them() -> None:
    env = envs.to_pettingzoo(short("spread"))

    def start(seed: int | None = None) -> tuple[float, ...]:
        return tuple(env.reset(seed=seed)[0]["agent_0"])

    unseeded = start()
    assert unseeded != tuple(envs.to_pettingzoo(short("spread")).reset()[0]["agent_0"])
    stream = [start(5), start(), start()]
    assert stream == [start(5), start(), start()] and len(set(stream)) == 3
    assert start(2**32 - 1) != start(0) == start(np.int64(0))
    for bad in (-1, 2**32, 1.5, "seed"):
        with pytest.raises(ValueError, match=r"seed must be an integer in 0 to 2\*\*32 - 1"):
            env.reset(seed=bad)


def test_observations_are_copies() -> None:
    env = envs.to_pettingzoo(short("rover_tower"))
    observations, _ = env.reset(seed=0)
    before = env.state()
    observations["agent_0"][:] = 7.0
    np.testing.assert_array_equal(env.state(), before)


def test_equal_environments_compile_once() -> None:
    def sizes_after(length: int) -> tuple[int, int]:
        env = envs.to_pettingzoo(short("spread", length))
        env.reset(seed=0)
        env.step(sampled(env))
        return wrappers.start._cache_size(), wrappers.advance._cache_size()

    before = sizes_after(17)
    assert sizes_after(17) == before
    assert sizes_after(18) == (before[0] + 1, before[1] + 1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"agent_1": None}, r"Action of agent_1 must be an integer in 0 to 4, got None\."),
        ({"agent_1": 5}, r"Action of agent_1 must be an integer in 0 to 4, got 5\."),
        ({"agent_1": -1}, "got -1"),
        ({"agent_1": 1.0}, r"got 1\.0"),
        ({"agent_1": np.zeros(2, int)}, "must be an integer"),
        ({"rover": 1}, "No agent is called rover; spread steps agent_0, agent_1 at once"),
        ("missing", "No action of agent_0; spread steps agent_0, agent_1 at once"),
        ("list", "must be a dict by agent"),
    ],
)
def test_bad_actions_say_what_is_wrong(change: Any, says: str) -> None:
    env = envs.to_pettingzoo(short("spread"))
    env.reset(seed=0)
    good: Any = {"agent_0": 0, "agent_1": np.int64(4)}
    bad = {"missing": {"agent_1": 0}, "list": [0, 1]}
    with pytest.raises(ValueError, match=says):
        env.step({**good, **change} if isinstance(change, dict) else bad[change])
    env.step(good)  # the episode goes on


def test_refusals() -> None:
    env = envs.to_pettingzoo(short("spread", 1))
    for call in (lambda: env.step({"agent_0": 0}), env.state):
        with pytest.raises(ValueError, match="call reset first"):
            call()
    env.reset()
    env.step(sampled(env))
    with pytest.raises(ValueError, match="No episode of spread is running"):
        env.step({})
    with pytest.warns(UserWarning, match="without a render_mode"):
        assert env.render() is None
    with pytest.raises(ValueError, match="render_mode must be 'rgb_array' or None, got 'human'"):
        envs.to_pettingzoo(short("spread"), "human")

    class Blind:
        spec = envs.EnvSpec("blind", 2, (1, 1), (2, 2), 5)

    blind = envs.to_pettingzoo(Blind())  # type: ignore[arg-type]
    assert blind.metadata["render_modes"] == []
    assert blind.possible_agents == list(Blind.spec.agents) == ["agent_0", "agent_1"]
    with pytest.raises(ValueError, match="blind has no render method"):
        envs.to_pettingzoo(Blind(), "rgb_array")  # type: ignore[arg-type]


def test_without_pettingzoo_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    with pytest.raises(ImportError, match=r'pip install "mamt-jax\[pettingzoo\]"'):
        envs.to_pettingzoo(envs.make("spread"))
