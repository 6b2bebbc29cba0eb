"""The bridge to PettingZoo: what is read, what is refused, and worker processes at their worst."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs.hosted import HostEpisodes
from mamt_jax.envs.walkers.options import torques
from mamt_jax.envs.workers import HostVectorEnv, WorkerError
from tests.envs import parallel_games

GAMES = "tests.envs.parallel_games"


def dwindling(**options: Any) -> envs.HostEnvironment:
    return envs.make("pettingzoo", module=GAMES, **options)


def test_spec_is_read_from_the_spaces() -> None:
    spec = dwindling().spec
    assert (spec.num_agents, spec.obs_sizes, spec.action_counts) == (3, (3, 3, 4), (3, 3, 3))
    assert spec.episode_length == 10 and spec.obs_bounds == (0.0, 1000.0)
    assert spec.obs_dtype == "float32" and spec.agents_may_leave
    assert spec.agents == ("a", "b", "c")
    matching = envs.make("pettingzoo", module=GAMES, game="matching", agents_may_leave=False).spec
    assert matching.obs_dtype == "uint8" and not matching.agents_may_leave
    assert dwindling(episode_length=4).spec.episode_length == 4


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"module": ""}, "module must name a module with a function parallel_env"),
        ({"module": "no.such.thing"}, "cannot use module 'no.such.thing': No module named 'no'"),
        ({"module": "json"}, "cannot use module 'json': .*no attribute 'parallel_env'"),
        ({"colour": 1}, "cannot be opened: .*unexpected keyword argument 'colour'"),
        ({"space": "dict"}, "observations must be a Box, a has Dict"),
        ({"space": "continuous"}, "actions must be Discrete, a has Box"),
        ({"episode_length": 0}, "episode_length must be an integer of at least 1"),
        ({"agents_may_leave": 1}, "agents_may_leave must be True or False"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        envs.make("pettingzoo", **({"module": GAMES} | options))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"n_walkers": 1}, "n_walkers must be an integer of at least 2, got 1"),
        ({"position_noise": "abc"}, "position_noise must be a finite number, got 'abc'"),
        ({"angle_noise": -1.0}, "angle_noise must be 0 or greater"),
        ({"shared_reward": 1}, "shared_reward must be True or False, got 1"),
        ({"max_cycles": 0}, "max_cycles must be an integer of at least 1"),
    ],
)
def test_options_of_multiwalker_are_checked(options: dict[str, Any], sentence: str) -> None:
    for name in ("multiwalker", "multiwalker_host"):
        with pytest.raises(ValueError, match=f"{name}: {sentence}"):
            envs.make(name, **options)


def test_the_length_of_episodes_is_found() -> None:
    """Where environments keep it, at whatever depth; else one episode is counted to its end."""
    assert dwindling(max_cycles=None).spec.episode_length == 5
    counted = dwindling(max_cycles=None)
    assert counted.found == {"typical_length": 5} and counted.time_limit == 10_000
    known = dwindling(max_cycles=None, typical_length=7)
    assert known.spec.episode_length == 7 and known.found == {"typical_length": 7}
    for options in ({"max_cycles": 9}, {"max_cycles": None, "episode_length": 9}):
        env = dwindling(**options)
        assert env.spec.episode_length == env.time_limit == 9 and not env.found
    for module, options, length in (
        ("pettingzoo.sisl.pursuit_v5", {"max_cycles": 40}, 40),
        ("pettingzoo.sisl.pursuit_v5", {}, 500),
        ("pettingzoo.butterfly.cooperative_pong_v6", {}, 900),
        ("mpe2.simple_spread_v3", {}, 25),
    ):
        pytest.importorskip(module)
        found = envs.make("pettingzoo", module=module, **options).spec.episode_length
        assert found == length, module


def test_to_ask_for_the_length_may_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Properties of wrappers raise what they like."""
    for name in ("unwrapped", "spec", "aec_env"):
        monkeypatch.setattr(
            parallel_games.Dwindling, name, property(lambda self: 1 / 0), raising=False
        )
    assert dwindling(max_cycles=9).spec.episode_length == 9
    assert dwindling(max_cycles=None).spec.episode_length == 5


def test_an_episode_without_an_end_is_not_counted_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mamt_jax.envs.bridge._ENDLESS", 4)
    with pytest.raises(ValueError, match="not over after 4 steps; give the steps as episode_len"):
        dwindling(max_cycles=None)


def test_what_fails_while_it_is_read_is_one_sentence() -> None:
    for fail in ("raise", "quit"):
        with pytest.raises(ValueError, match="^pettingzoo: tests.envs.parallel_games cannot be re"):
            dwindling(max_cycles=None, fail=fail)


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (ImportError("no box"), r"multiwalker_host needs more packages: pip install .* \(no box\)"),
        (OSError("no display"), "multiwalker_host cannot be loaded: OSError: no display"),
    ],
)
def test_packages_that_cannot_be_loaded(
    error: Exception, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        def find_spec(self, name: str, *_: Any) -> None:
            if name.startswith("pettingzoo.sisl"):
                raise error

    for name in [name for name in sys.modules if name.startswith("pettingzoo.sisl")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
    with pytest.raises(ValueError, match=sentence):
        _ = envs.make("multiwalker_host").spec


def test_agents_that_leave_are_told_from_those_that_are_cut_off() -> None:
    episodes = HostEpisodes(dwindling())
    obs = episodes.reset(0)
    assert obs.shape == (3, 4) and obs.dtype == np.float32 and not obs[:2, 3].any()
    steps = [episodes.step(np.array([1, 2, 0])) for _ in range(5)]
    alive = [[1, 1, 1], [1, 1, 1], [1, 0, 1], [1, 0, 0], [1, 0, 0]]
    terminated = [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 0], [1, 0, 0]]
    np.testing.assert_array_equal([step.alive for step in steps], alive)
    np.testing.assert_array_equal([step.terminated for step in steps], terminated)
    assert [step.finished for step in steps] == [False] * 4 + [True]
    # The actions of "b" begin at 5; whoever is out is paid nothing and sees zeros.
    np.testing.assert_array_equal(
        [s.reward for s in steps][:3], [[11, 17, 10], [21, 27, 20], [31, 0, 30]]
    )
    assert steps[1].obs[1, 1] == 2 and steps[2].obs[2, 1] == 3  # last observations are true ones
    assert not steps[2].obs[1].any() and not steps[3].obs[2].any()


def test_time_limit_of_the_bridge_truncates() -> None:
    episodes = HostEpisodes(dwindling(episode_length=2))
    episodes.reset(0)
    first, second = (episodes.step(np.zeros(3, int)) for _ in range(2))
    assert not first.finished and second.finished
    np.testing.assert_array_equal(second.terminated, [False, True, False])


def test_agents_that_leave_unannounced_are_an_error() -> None:
    episodes = HostEpisodes(dwindling(agents_may_leave=False))
    episodes.reset(0)
    episodes.step(np.zeros(3, int))
    with pytest.raises(ValueError, match="agents_may_leave is False"):
        episodes.step(np.zeros(3, int))


def rollout(vector: HostVectorEnv, entropy: list[tuple[int, ...]], steps: int) -> list[Any]:
    vector.reset(entropy)
    random, seen = np.random.default_rng(3), []
    seen.append(vector.rows.obs.copy())
    for _ in range(steps):
        rows = vector.step(random.integers(0, 3, vector.rows.action.shape))
        seen.append([np.array(field) for field in rows[3:]])
    return seen


def test_workers_do_what_one_environment_does() -> None:
    """Any split into processes: the same numbers, those of episodes stepped right here."""
    env, entropy = dwindling(), [(5, row) for row in range(5)]
    results = {}
    for workers in (1, 3):
        vector = HostVectorEnv(env, 5, workers)
        results[workers] = rollout(vector, entropy, 12)
        again = rollout(vector, entropy, 12)
        vector.close()
        for one, other in zip(results[workers], again, strict=True):
            for x, y in zip(one, other, strict=True):
                np.testing.assert_array_equal(x, y)
    for one, other in zip(results[1], results[3], strict=True):
        for x, y in zip(one, other, strict=True):
            np.testing.assert_array_equal(x, y)
    random = np.random.default_rng(3)
    actions = [random.integers(0, 3, (5, 3)) for _ in range(12)]
    draws = set()
    for row in range(5):
        here, episode, total = HostEpisodes(env), 0, 0.0
        obs = None
        for t in range(12):
            if obs is None:
                seed = np.random.SeedSequence([5, row, episode]).generate_state(1)[0] >> 1
                obs, total = here.reset(int(seed)), 0.0
                draws.add(float(obs[0, 0]))
            before = results[1][0] if t == 0 else results[1][t][0]
            np.testing.assert_array_equal(before[row], obs)
            step = here.step(actions[t][row])
            _, next_obs, reward, alive, terminated, finished, *returns = results[1][t + 1]
            np.testing.assert_array_equal(next_obs[row], step.obs)
            np.testing.assert_array_equal(reward[row], step.reward)
            np.testing.assert_array_equal(alive[row], step.alive)
            np.testing.assert_array_equal(terminated[row], step.terminated)
            assert finished[row] == step.finished
            total += step.reward.mean()
            np.testing.assert_allclose(returns[0][row], total if step.finished else 0.0)
            np.testing.assert_allclose(returns[1][row], total, rtol=1e-6)
            obs = None if step.finished else np.where(step.present[:, None], step.obs, 0)
            episode += step.finished
    assert len(draws) > 10  # 15 episodes, each of its own seed


def test_idle_rows_stand_still() -> None:
    vector = HostVectorEnv(dwindling(), 2, 1)
    vector.reset([(0,), (1,)])
    vector.rows.idle[1] = True
    before = vector.rows.obs[1].copy()
    vector.step(np.zeros((2, 3), int))
    np.testing.assert_array_equal(vector.rows.obs[1], before)
    assert vector.rows.obs[0, 0, 1] == 1
    vector.close()


@pytest.mark.parametrize(
    ("fail", "sentences"),
    [
        ("raise", ["worker 1 failed", "RuntimeError: the lantern went out", "in _break"]),
        ("hang", ["worker 0 has not answered for 1 seconds", "in _break", "parallel_games"]),
        ("exit", ["worker 0 died \\(exit status 3\\)"]),
        ("abort", ["worker 0 died \\(SIGABRT\\)", "Fatal Python error", "in _break"]),
    ],
)
def test_a_failed_worker_says_where(fail: str, sentences: list[str]) -> None:
    timeout = 1.0 if fail == "hang" else 60.0
    vector = HostVectorEnv(dwindling(fail=fail), 3, 2, 60.0)
    vector.reset([(row,) for row in range(3)])
    vector.timeout = timeout
    if fail == "raise":
        vector.rows.idle[0] = True  # so that the second worker is the one that fails
    vector.step(np.zeros((3, 3), int))
    processes = [worker.process for worker in vector._workers]
    with pytest.raises(WorkerError) as failure:
        vector.step(np.zeros((3, 3), int))
    for sentence in sentences:
        failure.match(sentence)
    assert all(process.poll() is not None for process in processes)


def test_workers_end_with_the_object() -> None:
    vector = HostVectorEnv(dwindling(), 2, 2)
    vector.reset([(0,), (1,)])
    processes = [worker.process for worker in vector._workers]
    assert [process.poll() for process in processes] == [None, None]
    del vector
    assert all(process.poll() is not None for process in processes)


def test_ctrl_c_is_left_to_the_parent() -> None:
    vector = HostVectorEnv(dwindling(), 1, 1)
    vector.reset([(0,)])
    os.kill(vector._workers[0].process.pid, signal.SIGINT)
    time.sleep(0.2)
    vector.step(np.zeros((1, 3), int))
    vector.close()


def test_modules_in_the_working_directory_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what is called as a package of ours there is left alone."""
    (tmp_path / "game_of_mine.py").write_text(f"from {GAMES} import parallel_env")
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs" / "__init__.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    before = list(sys.path)
    env = envs.make("pettingzoo", module="game_of_mine")
    assert sys.path == before
    vector = HostVectorEnv(env, 1, 1)
    vector.reset([(0,)])
    vector.step(np.zeros((1, 3), int))
    vector.close()


def test_a_folder_with_the_name_of_a_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "mine.py").write_text(f"from {GAMES} import parallel_env")
    (tmp_path / "json.py").write_text(f"from {GAMES} import parallel_env")
    monkeypatch.chdir(tmp_path)
    for module, says in (
        (
            "numpy.mine",
            "No module .*; 'numpy' is the name of an installed package, too: rename .*/numpy[.]$",
        ),
        ("json", "no attribute 'parallel_env'; 'json' is the name .* rename .*/json.py[.]$"),
        ("jsno", "No module named 'jsno'[.]$"),
    ):
        with pytest.raises(ValueError, match=says):
            envs.make("pettingzoo", module=module)


def test_host_environments_survive_pickling() -> None:
    env = pickle.loads(pickle.dumps(dwindling(max_cycles=7)))
    assert env.spec.episode_length == 7


def test_signals_to_the_group_are_left_to_the_parent() -> None:
    """As `timeout` and batch systems send them: to every process of the group, or each alone."""
    vector = HostVectorEnv(dwindling(), 1, 1)
    vector.reset([(0,)])
    process = vector._workers[0].process
    assert os.getpgid(process.pid) != os.getpgid(0)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.2)
    vector.step(np.zeros((1, 3), int))
    vector.close()
    assert process.poll() == 0


def test_a_worker_that_hangs_ends_with_its_parent() -> None:
    vector = HostVectorEnv(dwindling(fail="hang", fail_step=1), 1, 1)
    vector.reset([(0,)])
    worker = vector._workers[0]
    vector.rows.action[...] = 0
    worker.send(None)
    time.sleep(0.3)
    worker.connection.close()  # all that a killed parent does
    worker.process.wait(5)


@pytest.mark.parametrize("terminate", [False, True])
@pytest.mark.parametrize("remove", [False, True])
def test_walkers_that_fall_may_leave(terminate: bool, remove: bool) -> None:
    env = envs.make(
        "multiwalker_host", max_cycles=80, terminate_on_fall=terminate, remove_on_fall=remove
    )
    episodes, random, left = HostEpisodes(env), np.random.default_rng(0), False
    for seed in range(4):
        episodes.reset(seed)
        while True:
            step = episodes.step(random.integers(0, 16, 3))
            if step.finished:
                break
            left |= not step.present.all()
    assert left == env.spec.agents_may_leave == (not terminate)


def test_torques_move_by_a_fifth_and_stay_in_range() -> None:
    """SPEC 1.5: four bits, one a joint, from the previous torque."""
    np.testing.assert_allclose(torques(np.array(0b0101), np.zeros(4)), [0.2, -0.2, 0.2, -0.2])
    high = torques(np.array([15, 0]), np.array([[0.9] * 4, [-0.9] * 4]))
    np.testing.assert_allclose(high, [[1.0] * 4, [-1.0] * 4])
    assert len(np.unique(torques(np.arange(16), np.zeros((16, 4))), axis=0)) == 16


def test_multiwalker_steps_as_pettingzoo_with_those_torques() -> None:
    """Three episodes, previous torques reset at each; falls terminate, the time limit truncates."""
    multiwalker_v9 = pytest.importorskip("pettingzoo.sisl.multiwalker_v9")
    env = envs.make("multiwalker_host", max_cycles=20)
    assert env.spec.obs_sizes == (31,) * 3 and env.spec.action_counts == (16,) * 3
    ours, theirs = HostEpisodes(env), multiwalker_v9.parallel_env(max_cycles=1000)
    random, ends = np.random.default_rng(0), []
    for seed in range(3):
        obs, (expected, _) = ours.reset(seed), theirs.reset(seed=seed)
        np.testing.assert_array_equal(obs, [expected[f"walker_{i}"] for i in range(3)])
        previous = np.zeros((3, 4))
        for _ in range(20):
            actions = random.integers(0, 16, 3)
            bits = (actions[:, None] >> np.arange(4)) & 1
            previous = np.clip(previous + np.where(bits, 0.2, -0.2), -1, 1).astype(np.float32)
            sent = {f"walker_{i}": previous[i] for i in range(3)}
            expected, rewards, over, _, _ = theirs.step(sent)
            step = ours.step(actions)
            np.testing.assert_array_equal(step.obs, [expected[f"walker_{i}"] for i in range(3)])
            np.testing.assert_allclose(step.reward, list(rewards.values()), rtol=1e-6)
            np.testing.assert_array_equal(step.terminated, list(over.values()))
            if step.finished:
                break
        ends.append((ours.steps, bool(step.terminated.all())))
    assert (20, False) in ends  # PettingZoo itself would have called this a termination


@pytest.mark.parametrize(
    ("module", "options"),
    [
        ("mpe2.simple_reference_v3", {"max_cycles": 8}),
        ("mpe2.simple_speaker_listener_v4", {"max_cycles": 8}),
        (
            "pettingzoo.butterfly.knights_archers_zombies_v11",
            {"max_cycles": 150, "max_zombies": 30},
        ),
    ],
)
def test_published_environments_step_as_they_are(module: str, options: dict[str, Any]) -> None:
    """Whatever they are: the numbers of PettingZoo, agents by their index."""
    pytest.importorskip(module)
    env = envs.make("pettingzoo", module=module, **options)
    ours, theirs, random = HostEpisodes(env), env.parallel_env(), np.random.default_rng(0)
    obs, (expected, _) = ours.reset(4), theirs.reset(seed=4)
    agents, spec = list(theirs.possible_agents), env.spec
    for _ in range(options["max_cycles"]):
        for agent, value in expected.items():
            i = agents.index(agent)
            np.testing.assert_array_equal(obs[i, : spec.obs_sizes[i]], np.float32(value).ravel())
        actions = random.integers(0, spec.action_counts)
        acting = list(theirs.agents)
        chosen = {agent: int(actions[agents.index(agent)]) for agent in acting}
        expected, rewards, over, _, _ = theirs.step(chosen)
        step = ours.step(actions)
        obs = step.obs
        assert [agents[i] for i in np.flatnonzero(step.alive)] == acting
        np.testing.assert_allclose(step.reward[step.alive], [rewards[a] for a in acting], rtol=1e-6)
        np.testing.assert_array_equal(step.terminated[step.alive], [over[a] for a in acting])
        if step.finished:
            break
    assert step.finished and np.isfinite(obs).all()


def test_games_of_the_tests_are_pettingzoo() -> None:
    from pettingzoo.test import parallel_api_test

    parallel_api_test(parallel_games.Dwindling(), num_cycles=20)
    parallel_api_test(parallel_games.Matching(), num_cycles=20)
