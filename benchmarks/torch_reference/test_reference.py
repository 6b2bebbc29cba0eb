"""The PyTorch reference agrees with itself, with its golden files, and with our Spread.

These need PyTorch, which is not among the locked dependencies: ``make torch`` installs and runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from benchmarks.torch_reference import convert, golden, maths, numbers, states
from benchmarks.torch_reference.cases import CASES, PROXIMAL, PROXIMAL_CASES, settings
from benchmarks.torch_reference.learner import ALGORITHMS, IDIOMS, Learner
from benchmarks.torch_reference.loop import Replay, train
from benchmarks.torch_reference.rollouts import Training
from benchmarks.torch_reference.spread import EPISODE_LENGTH, Spread
from mamt_jax import envs
from mamt_jax.algorithms.registry import get, make
from mamt_jax.algorithms.width import Evidence, width_rule
from mamt_jax.envs.particles import State

jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
FILES = Path(__file__).resolve().parents[2] / "tests/golden"
RUNS = [(name, *run) for name, case in CASES.items() for run in case.runs]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for one another gain nothing at these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("idiom", IDIOMS)
@pytest.mark.parametrize(("case", "algorithm", "precision"), RUNS)
def test_both_idioms_compute_what_the_files_hold(
    case: str, algorithm: str, precision: str, idiom: str
) -> None:
    made = golden.outputs(CASES[case], algorithm, golden.PRECISIONS[precision], idiom)
    start, near = f"{algorithm}/{precision}/", 1e-10 if precision == "float64" else 1e-4
    stored = states.read(FILES / f"{case}.npz")
    expected = {k[len(start) :]: v for k, v in stored.items() if k.startswith(start)}
    assert len(expected) > 50
    for name, values in expected.items():
        cancels = name.endswith(("local_kl", "switching_cost", "switching_cost_mean"))
        scale = max(np.abs(values).max(), 0.1 if cancels else 1e-30)
        np.testing.assert_allclose(made[name] / scale, values / scale, rtol=0, atol=near)


@pytest.mark.parametrize("name", PROXIMAL_CASES)
def test_mappo_computes_what_the_files_hold(name: str) -> None:
    case = PROXIMAL_CASES[name]
    stored, near = states.read(FILES / f"{name}.npz"), 1e-10 if "two" in name else 1e-4
    for output, values in golden.proximal_outputs(case).items():
        scale = max(np.abs(values).max(), 1e-30)
        np.testing.assert_allclose(stored[output] / scale, values / scale, rtol=0, atol=near)


@pytest.mark.parametrize("idiom", IDIOMS)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_weights_go_both_ways(algorithm: str, idiom: str) -> None:
    case = CASES["three_unequal"]
    rule = make(algorithm, case.game, settings(algorithm))
    state = jit(rule.init)(jax.random.key(1))
    names = states.flatten(state)
    weights = {k: v for k, v in golden.initial_weights(case).items() if k in names}
    assert weights.keys() == names.keys()
    learner = Learner(algorithm, case.obs_sizes, case.num_actions, settings(algorithm), idiom)
    convert.load(learner, weights)
    again = states.flatten(states.unflatten(convert.export(learner), state))
    for name, values in weights.items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


@pytest.mark.parametrize("idiom", IDIOMS)
def test_training(idiom: str) -> None:
    result = train("mamt", idiom, episodes=30, batch_size=64, settings=settings("mamt"))
    assert result.returns.shape == (36,)
    assert (result.returns > -250).all() and (result.returns < -20).all()
    assert result.updates == 4 * 9  # 3 rounds of 3 events
    assert result.steps_per_second > 0


def test_on_policy_training_goes_on_across_rollouts() -> None:
    training = Training(num_envs=4, rollout_size=70, settings=PROXIMAL)
    assert training.steps == 72
    for _ in range(3):
        metrics = training.advance()
    assert all(torch.isfinite(values).all() for values in metrics.values())
    assert training.learner.updates == 3
    assert [len(returns) for returns in training.world.returns] == [4, 4]  # 54 steps
    store = training.store
    ends = store.finished.any(1)
    assert ends.tolist() == [step == 50 for step in range(37, 55)]
    follows = store.next_obs[:-1] == store.obs[1:]
    assert follows[~ends[:-1]].all() and not follows[ends[:-1]].all()


def test_rewards_moments_are_those_of_the_contents() -> None:
    replay, rng = Replay(12, 2, 3), np.random.default_rng(0)
    for _ in range(7):
        reward = torch.as_tensor(rng.normal(-5, 2, (4, 2)), dtype=torch.float32)
        obs = torch.zeros(4, 2, 3)
        replay.insert(obs, torch.zeros(4, 2, dtype=torch.int64), reward, obs)
    batch = replay.sample(5)
    np.testing.assert_allclose(batch.reward_mean, replay.reward.mean(0), rtol=1e-5)
    np.testing.assert_allclose(batch.reward_std, replay.reward.std(0, correction=0), rtol=1e-5)


@pytest.mark.parametrize("num_agents", [2, 3])
def test_spread_is_ours(num_agents: int) -> None:
    ours = envs.make("spread", num_agents=num_agents)
    theirs, rng = Spread(6, num_agents, seed=1), np.random.default_rng(0)
    obs = theirs.reset()
    theirs.position *= 0.3  # near each other, so that they collide
    state = State(
        jnp.asarray(theirs.position),
        jnp.asarray(theirs.velocity),
        jnp.asarray(theirs.landmark),
        jnp.zeros(6, jnp.int32),
    )
    step = jit(jax.vmap(ours.step, in_axes=(None, 0, 0)))
    bumps = 0
    for _ in range(EPISODE_LENGTH):
        action = rng.integers(5, size=(6, num_agents))
        obs, reward = theirs.step(action)
        expected = step(jax.random.key(0), state, jnp.asarray(action))
        np.testing.assert_allclose(obs, expected.obs, atol=2e-4)
        np.testing.assert_allclose(reward, expected.reward, atol=2e-3)
        bumps += int((theirs._apart()[1] < 0.3).sum() > 6 * num_agents)
        state = expected.state
    assert bumps


def evidence(kl: np.ndarray, value: np.ndarray, slope: np.ndarray) -> Evidence:
    return Evidence(jnp.asarray(kl), lambda: (jnp.asarray(value), jnp.asarray(slope)), jnp.ones(4))


def test_budgets_of_kl_move_delta_alike() -> None:
    """PyTorch's step within a budget, against the rule, from where δ is and at the clip's ends."""
    rng = np.random.default_rng(0)
    chosen = {"delta_shares": "trd_net", "share_rate": 0.5, "kl_budget": 0.1}
    own = get("mamt").settings.replace(chosen)
    hyper, rule = numbers.flat(own, "mamt"), width_rule(own)
    for level in (-4.5, 0.0, 1.5, 4.6):
        log_delta, value, slope = level + 0.3 * rng.normal(size=4), *rng.normal(size=(2, 4))
        kl, share = rng.uniform(0.0, 0.3, 4), rng.normal(size=4)
        moved = rule.step(jnp.asarray(share), jnp.asarray(log_delta), evidence(kl, value, slope))
        ours = [torch.tensor(values) for values in (log_delta, share, kl, value, slope)]
        target = maths.relative(ours[3]) - maths.relative(ours[4])
        shares = ours[1] + 0.5 * (target - ours[1])
        theirs = maths.budgeted(ours[0], shares, ours[2], hyper)
        np.testing.assert_allclose(moved.log_delta, theirs.numpy(), rtol=2e-5, atol=2e-6)
        np.testing.assert_allclose(moved.state, shares.numpy(), rtol=2e-5, atol=2e-6)
