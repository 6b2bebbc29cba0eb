"""MAPPO in PyTorch learns what mamt_jax's learns, from the same weights, rollouts and draws."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.torch_reference import states
from mamt_jax.algorithms.registry import make
from mamt_jax.config import default_settings
from mamt_jax.types import Batch, Game, Transition
from tests.algorithms import tiny
from tests.networks import quick

torch = pytest.importorskip("torch")

from benchmarks.torch_reference import convert  # noqa: E402
from benchmarks.torch_reference.maths import Rollout  # noqa: E402
from benchmarks.torch_reference.proximal import ProximalLearner  # noqa: E402
from benchmarks.torch_reference.rollouts import Training  # noqa: E402

STEPS, ENVS, ACTIONS = 7, 4, 5
# What is rare with the defaults happens here: clipped gradients, ratios and errors, a last row that
# no minibatch takes.
HYPER = default_settings(
    "mappo",
    hidden_size=4,
    attention_heads=2,
    learning_rate=1e-2,
    ppo_clip=0.02,
    ppo_epochs=2,
    ppo_minibatches=3,
    policy_clip=0.1,
    critic_clip_per_agent=0.1,
    huber_delta=0.7,
)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Threads that wait for one another gain nothing at these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def rollout(obs_sizes: tuple[int, ...], seed: int) -> dict[str, np.ndarray]:
    """Fields of a rollout with a cut-off episode, and agents whose return ends on its own."""
    rng, n = np.random.default_rng(seed), len(obs_sizes)
    rows = STEPS, ENVS, n
    obs = rng.normal(1.0, 2.0, (2, *rows, max(obs_sizes))).astype(np.float32)
    for i, size in enumerate(obs_sizes):
        obs[..., i, size:] = 0.0
    return {
        "obs": obs[0],
        "action": rng.integers(ACTIONS, size=rows),
        "reward": rng.normal(-3.0, 2.0, rows).astype(np.float32),
        "next_obs": obs[1],
        "terminated": rng.random(rows) < 0.2,
        "finished": rng.random(rows[:2]) < 0.2,
    }


def for_jax(rows: dict[str, np.ndarray]) -> Batch:
    arrays = {name: jnp.asarray(values) for name, values in rows.items()}
    sample = Transition(**arrays)._replace(action=arrays["action"].astype(jnp.int32))
    rewards = rows["reward"].reshape(-1, rows["reward"].shape[-1])
    return Batch(sample, jnp.asarray(rewards.mean(0)), jnp.asarray(rewards.std(0)), None)


def orders(key: jax.Array) -> list[Any]:
    """The order of transitions in each epoch of mamt_jax's update."""
    _, learn_key = jax.random.split(key)
    keys = [jax.random.split(epoch)[0] for epoch in jax.random.split(learn_key, HYPER.ppo_epochs)]
    return [torch.as_tensor(np.array(jax.random.permutation(k, STEPS * ENVS))) for k in keys]


@pytest.mark.parametrize("obs_sizes", [(12, 12), (13, 13, 8)])
def test_updates(obs_sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.know_the_draws(monkeypatch)
    rule = make("mappo", Game(obs_sizes, (ACTIONS,) * len(obs_sizes)), HYPER)
    state = jax.tree.map(lambda leaf: leaf * 2, quick.jit(rule.init)(jax.random.key(0)))
    learner = ProximalLearner(obs_sizes, ACTIONS, HYPER)
    convert.load(learner, states.flatten(state))
    drawn = torch.as_tensor(tiny.drawn(len(obs_sizes), STEPS * ENVS, ACTIONS))
    update, before = quick.jit(rule.update), states.flatten(state)
    clipped = 0.0
    for count in range(3):
        rows, key = rollout(obs_sizes, seed=count), jax.random.key(count)
        state, wanted = update(state, key, for_jax(rows), jnp.int32(count))
        batch = Rollout(**{name: torch.as_tensor(values) for name, values in rows.items()})
        metrics = learner.update(batch, drawn, orders(key))
        for name, values in metrics.items():
            np.testing.assert_allclose(values, wanted[name], rtol=1e-3, atol=1e-5, err_msg=name)
        clipped += float(wanted["clip_fraction"].mean())
        assert (wanted["policy_grad_norm"] > HYPER.policy_clip).any()
    assert clipped > 0.1
    expected, found = states.flatten(state), convert.export(learner)
    assert found.keys() == expected.keys()
    moved = [name for name, values in expected.items() if np.abs(values - before[name]).max() > 0]
    for name, values in expected.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found[name] / scale, values / scale, atol=3e-5, err_msg=name)
    still = {name for name in expected if name not in moved}
    unread = {"critic/query/kernel", "critic/key/kernel"}  # one opponent has all the attention
    assert still == (unread if len(obs_sizes) == 2 else set())


def test_training_goes_on_across_rollouts() -> None:
    training = Training(num_envs=4, rollout_size=70, hyper=HYPER)
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
