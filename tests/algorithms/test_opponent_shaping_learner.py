"""LOLA's learner against NumPy: joint-action values, targets, and naive gradients at η = 0."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.registry import make
from mamt_jax.errors import ConfigError
from mamt_jax.types import Game
from tests.algorithms import gradients, tiny
from tests.networks import literal, quick

GAME, BATCH = Game((3, 2), (3, 2)), 6
TEMPERATURE = 0.5


@cache
def outcome(step: float = 0.0) -> tuple[Any, Any, Any, Any]:
    settings = tiny.hyper(
        lola_step=step, lola_temperature=TEMPERATURE, critic_weight_decay=0.0,
        critic_clip_per_agent=0.05, policy_clip=0.02,
    )  # fmt: skip
    algorithm = make("lola_dqn", GAME, settings)
    before, batch = tiny.grown(algorithm), tiny.batch(*GAME[:2], BATCH)
    after, metrics = quick.jit(algorithm.update)(before, jax.random.key(0), batch, jnp.int32(0))
    return before, batch, after, metrics


def rows(name: str) -> np.ndarray:
    return np.swapaxes(np.asarray(getattr(outcome()[1].sample, name), np.float64), 0, 1)


def policies(params: Any, x: np.ndarray) -> np.ndarray:
    logits = literal.actor(params, x) / TEMPERATURE
    logits[1, :, 2] = -1e9  # agent 1 has two actions
    return literal.softmax(logits)


def q_values(params: Any, x: np.ndarray) -> np.ndarray:
    """[2, B, A, A]."""
    joint = np.concatenate([x[0], x[1, :, :2]], axis=1)
    return literal.joint_critic(params, np.stack([joint] * 2)).reshape(2, BATCH, 3, 3)


def expected(policy: np.ndarray, q: np.ndarray) -> np.ndarray:
    """V_i: a loop over all joint actions."""
    out = np.zeros((2, BATCH))
    for u in range(3):
        for v in range(3):
            out += policy[0, :, u] * policy[1, :, v] * q[:, :, u, v]
    return out


def test_critic_gradient() -> None:
    """Targets are of the target critic under the policies as they are."""
    before, batch, after, metrics = outcome()
    next_x, x = (literal.batch_norm(rows(name)) for name in ("next_obs", "obs"))
    policy = policies(literal.as_numpy(before.actor.params), next_x)
    future = expected(policy, q_values(literal.as_numpy(before.target_critic), next_x))
    mean, std = np.asarray(batch.reward_mean)[:, None], np.asarray(batch.reward_std)[:, None]
    target = (rows("reward") - mean) / std + 0.99 * (1 - rows("terminated")) * future
    first, second = rows("action").astype(int)

    def errors(params: Any) -> np.ndarray:
        q = q_values(params, x)[:, np.arange(BATCH), first, second]
        return ((q - target) ** 2).mean(1)

    params = literal.as_numpy(before.critic.params)
    np.testing.assert_allclose(metrics["critic_loss"], errors(params), rtol=1e-4)
    whole = gradients.differences(lambda params: float(errors(params).sum()), params)
    got = gradients.seen(after.critic.opt_state, 0.9)
    gradients.assert_equal(got, gradients.clipped(whole, 0.1))
    moved = jax.tree.map(lambda a, b: b + 1e-3 * (a - b), after.critic.params, before.target_critic)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7),
        after.target_critic,
        moved,
    )


def test_naive_policy_gradient_climbs_the_own_value() -> None:
    before, _, after, metrics = outcome(0.0)
    x = literal.batch_norm(rows("obs"))
    q, start = q_values(literal.as_numpy(after.critic.params), x), before.actor.params
    fixed = policies(literal.as_numpy(start), x)
    each = []
    for i in range(2):

        def loss(params: Any, i: int = i) -> float:
            policy = fixed.copy()
            policy[i] = policies(params, x)[i]
            own = (literal.actor(params, x) / TEMPERATURE)[i, :, : GAME.action_counts[i]]
            square = (own**2).mean()
            return float(1e-3 * square - expected(policy, q)[i].mean())

        whole = gradients.differences(loss, literal.as_numpy(start))
        each.append(gradients.clipped(jax.tree.map(lambda g, i=i: g[i], whole), 0.02))
    both = jax.tree.map(lambda *g: np.stack(g), *each)
    gradients.assert_equal(gradients.seen(after.actor.opt_state, 0.9), both)
    value = expected(fixed, q).mean(1)
    np.testing.assert_allclose(metrics["policy_loss"], -value, rtol=1e-4, atol=1e-6)


def test_looking_ahead_changes_the_gradient() -> None:
    naive, ahead = (
        gradients.seen(outcome(step)[2].actor.opt_state, 0.9)["out"]["kernel"]
        for step in (0.0, 50.0)
    )
    assert np.abs(naive - ahead).max() > 0.01 * np.abs(naive).max()


def test_two_agents_only() -> None:
    with pytest.raises(ConfigError, match=r"^lola_dqn is for two agents, .* has 3\.$"):
        make("lola_dqn", Game((2,) * 3, (2,) * 3))


def test_what_an_absent_agent_is_said_to_do_changes_nothing() -> None:
    """Bit for bit; NaN in all that it saw and got."""
    algorithm = make("lola_dqn", GAME, tiny.hyper())
    state, update = tiny.grown(algorithm), quick.jit(algorithm.update)
    alive = np.ones((BATCH, 2), bool)
    alive[::2, 1], alive[3, 0] = False, False
    clean = tiny.leaving(tiny.batch(*GAME[:2], BATCH), alive)
    rows, gone = clean.sample, jnp.asarray(~alive)
    spoiled = rows._replace(
        obs=jnp.where(gone[..., None], jnp.nan, rows.obs),
        next_obs=jnp.where(gone[..., None], jnp.nan, rows.next_obs),
        reward=jnp.where(gone, jnp.nan, rows.reward),
        action=jnp.where(gone, 1 - rows.action % 2, rows.action),
    )
    one, two = (
        quick.plain(update(state, jax.random.key(0), clean._replace(sample=s), jnp.int32(0)))
        for s in (rows, spoiled)
    )
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(one))


def test_samples_without_anybody_do_not_count() -> None:
    """Half a batch and nobody's other half average as that half twice."""
    algorithm = make("lola_dqn", GAME, tiny.hyper())
    state, update = tiny.grown(algorithm), quick.jit(algorithm.update)
    alive = np.ones((BATCH, 2), bool)
    alive[1, 0] = alive[4, 0] = False
    full = tiny.leaving(tiny.batch(*GAME[:2], BATCH), alive).sample
    half = BATCH // 2
    once = full._replace(alive=full.alive & (jnp.arange(BATCH) < half)[:, None])
    twice = jax.tree.map(lambda leaf: leaf[jnp.arange(BATCH) % half], full)
    given = tiny.batch(*GAME[:2], BATCH)
    one, two = (
        update(state, jax.random.key(0), given._replace(sample=sample), jnp.int32(0))[1]
        for sample in (once, twice)
    )
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6, err_msg=name)
