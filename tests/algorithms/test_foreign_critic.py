"""A critic that is not ours, in compositions of ours: what a critic has to be, and no more."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.actor_critic import actor_critic
from mamt_jax.algorithms.coordination import critic_coordination
from mamt_jax.algorithms.critics import counterfactual_effect
from mamt_jax.algorithms.learned_region import learned_trust_region
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.nonstationarity import modelled_nonstationarity
from mamt_jax.algorithms.parts import Critic
from mamt_jax.algorithms.proximal import proximal_actor_critic
from mamt_jax.algorithms.trust_region import no_trust_region
from mamt_jax.errors import ConfigError
from mamt_jax.types import Algorithm, Game
from tests.algorithms import tiny
from tests.networks import quick
from tests.ops import chunks

GAME, BATCH, HIDDEN = Game((3, 2, 3), (3, 2, 3)), 6, 5


class Values(NamedTuple):
    q: jax.Array


def joint_critic(game: Game, outputs: int) -> Critic:
    """One layer per agent on everybody's observations and the others' actions."""
    n, inputs = game.num_agents, game.num_agents * (game.obs_size + game.num_actions)

    def init(key: jax.Array) -> Any:
        first, last = jax.random.split(key)
        return {
            "first": jax.random.normal(first, (n, inputs, HIDDEN)),
            "last": jax.random.normal(last, (n, HIDDEN, outputs)),
            "bias": jnp.zeros((n, outputs)),
        }

    def apply(params: Any, x: jax.Array, encoded: jax.Array, alive: Any) -> Values:
        batch = x.shape[1]
        others = jnp.where(jnp.eye(n, dtype=bool)[:, :, None, None], 0.0, encoded[None])
        everybody = jnp.broadcast_to(x[None], (n, *x.shape))
        joint = jnp.concatenate((everybody, others), axis=-1)
        joint = jnp.swapaxes(joint, 1, 2).reshape(n, batch, -1)
        hidden = jnp.tanh(jnp.einsum("nbi,nih->nbh", joint, params["first"]))
        q = jnp.einsum("nbh,nho->nbo", hidden, params["last"])
        return Values(q + params["bias"][:, None])

    def rescale(params: Any, old: Any, new: Any) -> Any:
        (old_mean, old_std), (mean, std) = old, new
        scale, shift = (old_std / std)[:, None], ((old_mean - mean) / std)[:, None]
        last, bias = params["last"] * scale[..., None], params["bias"] * scale + shift
        return params | {"last": last, "bias": bias}

    return Critic(init, apply, width=n * n * HIDDEN, rescale=rescale)


def mamt_like() -> Algorithm:
    """MAMT with this critic."""
    settings = tiny.settings(delta_period=1)
    critic = joint_critic(GAME, GAME.num_actions)
    coordination = critic_coordination(critic, settings)
    nonstationarity = modelled_nonstationarity(GAME, settings)
    region = learned_trust_region(GAME, settings, coordination, nonstationarity)
    return actor_critic("theirs", build_actors(GAME, settings), critic, region, settings)


def mappo_like() -> Algorithm:
    """MAPPO with this critic and a plain policy."""
    settings = tiny.settings("mappo", ppo_epochs=1, ppo_minibatches=2)
    critic, region = joint_critic(GAME, 1), no_trust_region(GAME)
    return proximal_actor_critic("theirs", build_actors(GAME, settings), critic, region, settings)


@cache
def updated(like: Any) -> tuple[Algorithm, Any, Any, Any, Any]:
    algorithm = like()
    batch = tiny.batch(*GAME[:2], BATCH)
    batch = tiny.rollout(batch, 3) if like is mappo_like else batch
    before = quick.jit(algorithm.init)(jax.random.key(0))
    after, metrics = quick.jit(algorithm.update)(before, jax.random.key(1), batch, jnp.int32(0))
    return algorithm, before, after, metrics, batch


@pytest.mark.parametrize("like", [mamt_like, mappo_like])
def test_everything_learns(like: Any) -> None:
    algorithm, before, after, metrics, batch = updated(like)
    for name in ("actor", "critic"):
        moved = jax.tree.map(
            lambda a, b: float(jnp.abs(a - b).max()),
            getattr(before, name).params,
            getattr(after, name).params,
        )
        assert all(step > 1e-5 for step in jax.tree.leaves(moved)), moved
    assert all(np.isfinite(value).all() for value in jax.tree.leaves(metrics))
    assert "attention_entropy" not in metrics
    assert algorithm.inspect is not None
    obs, action = (leaf.reshape(BATCH, 3, -1) for leaf in (batch.sample.obs, batch.sample.action))
    found = quick.jit(algorithm.inspect)(after, obs, action[..., 0], None)
    assert "attention" not in found and np.isfinite(found["value"]).all()


def literal_values(params: Any, x: np.ndarray, encoded: np.ndarray) -> np.ndarray:
    """Q [n, B, A], an agent and a sample at a time."""
    out = np.zeros((3, x.shape[1], params["bias"].shape[-1]))
    for i in range(3):
        for b in range(x.shape[1]):
            rows = [np.append(x[j, b], encoded[j, b] * (j != i)) for j in range(3)]
            hidden = np.tanh(np.concatenate(rows) @ params["first"][i])
            out[i, b] = hidden @ params["last"][i] + params["bias"][i]
    return out


@pytest.mark.parametrize("leaving", [False, True])
def test_its_counterfactuals_are_enumerated(leaving: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has no faster way is asked at every action of every agent; in chunks, too."""
    critic = joint_critic(GAME, GAME.num_actions)
    settings = tiny.settings()
    actors, region = build_actors(GAME, settings), tiny.probe(3)
    algorithm = actor_critic("probe", actors, critic, region, settings)
    batch = tiny.batch(*GAME[:2], BATCH)
    alive = np.ones((BATCH, 3), bool)
    if leaving:
        alive[0, 1], alive[3, :2] = False, False
        batch = tiny.leaving(batch, alive)
    state = quick.jit(algorithm.init)(jax.random.key(0))
    _, metrics = quick.jit(algorithm.update)(state, jax.random.key(0), batch, jnp.int32(0))
    view = metrics["view"]
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), view.critic_params)
    x, encoded = np.asarray(view.x, np.float64), np.asarray(view.encoded, np.float64)
    policy, action = np.exp(np.asarray(view.log_policy, np.float64)), np.asarray(view.action)
    rows, actual = np.arange(BATCH), literal_values(params, x, encoded)
    expected = np.zeros((3, 3, BATCH))
    for j in range(3):
        mean = np.zeros((3, BATCH))
        for u in range(3):
            changed = encoded.copy()
            changed[j] = np.where(alive[:, [j]], np.asarray(view.action_encoding)[j, u], 0.0)
            other = literal_values(params, x, changed)
            for i in range(3):
                mean[i] += policy[j, :, u] * other[i, rows, action[i]]
        for i in set(range(3)) - {j}:
            effect = np.abs(mean[i] - actual[i, rows, action[i]])
            expected[i, j] = effect * alive[:, i] * alive[:, j]
    assert expected.max() > 0.1
    found = quick.jit(lambda view: counterfactual_effect(critic, view))(view)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)
    if leaving:
        return
    chunks.cut(monkeypatch, 2 * critic.width * 3, least=2)
    chunked = quick.jit(lambda view: counterfactual_effect(critic, view))(view)
    np.testing.assert_allclose(chunked, found, rtol=1e-5, atol=1e-6)


def test_ppo_says_what_its_critic_lacks() -> None:
    settings, critic = tiny.settings("mappo"), joint_critic(GAME, 1)._replace(rescale=None)
    with pytest.raises(ConfigError, match="theirs needs a critic with a rescale function"):
        proximal_actor_critic(
            "theirs", build_actors(GAME, settings), critic, no_trust_region(GAME), settings
        )
