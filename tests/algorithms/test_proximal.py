"""The on-policy update against NumPy: advantages, targets, gradients, what δ does to the clip."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mamt_jax.algorithms.critics import attention_critic, values
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.parts import TrustRegion
from mamt_jax.algorithms.proximal import ProximalActorCritic, _last_steps
from mamt_jax.algorithms.registry import _attention_actor, make
from mamt_jax.algorithms.trust_region import no_trust_region
from mamt_jax.config import AlgorithmConfig
from mamt_jax.ops import proximal
from mamt_jax.types import Batch, Game
from tests.algorithms import gradients, tiny
from tests.networks import literal, quick

GAME, STEPS, ENVS, HEADS = Game((3, 2, 3), (3, 3, 2)), 4, 3, 2
TOTAL = STEPS * ENVS
ONCE = {"ppo_epochs": 1, "ppo_minibatches": 1, "policy_clip": 1e3, "ppo_entropy": 0.3}


@pytest.fixture(autouse=True)
def known_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.draw_the_most_probable(monkeypatch)


def rollout() -> Batch:
    """Episodes end in the middle, in places by termination; the last step cuts one off."""
    made = tiny.rollout(tiny.batch(*GAME[:2], TOTAL), STEPS)
    terminated = np.zeros((STEPS, ENVS, 3), bool)
    terminated[1, 0], terminated[2, 1] = True, True
    finished = terminated.any(-1)
    finished[1, 2] = finished[3, 1] = True
    sample = made.sample._replace(
        terminated=jnp.asarray(terminated), finished=jnp.asarray(finished)
    )
    return made._replace(sample=sample)


@cache
def learner(**options: Any) -> tuple[Any, Any]:
    algorithm = make("mappo", GAME, tiny.hyper("mappo", **ONCE | options))
    return tiny.grown(algorithm), quick.jit(algorithm.update)


def learner_of(settings: AlgorithmConfig, region: TrustRegion) -> ProximalActorCritic:
    actors = build_actors(GAME, settings, _attention_actor(GAME, settings))
    critic = attention_critic(GAME, settings, own_actions=False)
    return ProximalActorCritic(actors, settings, critic, region)


def updated(state: Any, update: Any, batch: Batch, count: int = 0) -> tuple[Any, Any]:
    after, metrics = update(state, jax.random.key(0), batch, jnp.int32(count))
    return after, metrics


def flat(leaf: Any) -> np.ndarray:
    """[T, E, n, ...] -> [n, T·E, ...]."""
    leaf = np.asarray(leaf, np.float64)
    return np.moveaxis(leaf.reshape(TOTAL, *leaf.shape[2:]), 1, 0)


def generalised_advantages(
    reward: np.ndarray,
    value: np.ndarray,
    bootstrap: np.ndarray,
    terminated: np.ndarray,
    finished: np.ndarray,
    decay: float = 0.95,
) -> np.ndarray:
    """Of one trajectory after another, by Schulman et al. 2016, Eq. 16: Σ_l (γλ)^l δ_{t+l}."""
    found = np.zeros(len(reward))
    first = 0
    for last in range(len(reward)):
        if not (terminated[last] or finished[last] or last == len(reward) - 1):
            continue
        part = slice(first, last + 1)
        after = np.append(value[first + 1 : last + 1], 0 if terminated[last] else bootstrap[last])
        errors = reward[part] + 0.99 * after - value[part]
        for t in range(len(errors)):
            found[first + t] = sum((0.99 * decay) ** k * e for k, e in enumerate(errors[t:]))
        first = last + 1
    return found


class Literal:
    """Everything of the first update, in NumPy."""

    def __init__(self, state: Any, batch: Batch) -> None:
        sample = batch.sample
        obs, self.action = flat(sample.obs), flat(sample.action).astype(int)
        self.x = literal.batch_norm(obs)
        mean, spread = obs.mean(1, keepdims=True), np.sqrt(obs.var(1, keepdims=True) + 1e-5)
        next_x = (flat(sample.next_obs) - mean) / spread
        one_hot = np.eye(3)[self.action]
        middle, width = (
            one_hot.mean(1, keepdims=True),
            np.sqrt(one_hot.var(1, keepdims=True) + 1e-5),
        )
        self.encoded = (one_hot - middle) / width
        self.actor, critic = (
            literal.as_numpy(state.actor.params),
            literal.as_numpy(state.critic.params),
        )
        best = np.eye(3)[self.log_policy(self.actor, next_x)[0].argmax(-1)]
        value = literal.critic(critic, self.x, self.encoded, HEADS)[0][..., 0]
        next_value = literal.critic(critic, next_x, (best - middle) / width, HEADS)[0][..., 0]
        self.advantage = np.zeros((3, TOTAL))
        for i in range(3):
            for e in range(ENVS):
                rows = np.arange(STEPS) * ENVS + e
                self.advantage[i, rows] = generalised_advantages(
                    np.asarray(sample.reward[:, e, i], np.float64),
                    value[i, rows],
                    next_value[i, rows],
                    np.asarray(sample.terminated[:, e, i]),
                    np.asarray(sample.finished[:, e]),  # type: ignore[index]
                )
        self.returns, self.value = self.advantage + value, value

    def log_policy(self, params: Any, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log π and its entropy."""
        logits = literal.attention_actor(params, x, GAME.obs_sizes, HEADS)
        logits[2, :, 2] = -1e9
        policy = literal.softmax(logits)
        log = np.log(np.maximum(policy, 1e-300))
        return log, -np.sum(policy * log, axis=-1)


def test_first_update_against_numpy() -> None:
    """The clip is idle at the old policies: a policy gradient with standardised advantages."""
    state, update = learner()
    batch = rollout()
    after, metrics = updated(state, update, batch)
    expected = Literal(state, batch)
    spread = 1 - (expected.returns - expected.value).var(1) / expected.returns.var(1)
    np.testing.assert_allclose(metrics["explained_variance"], spread, rtol=1e-3, atol=1e-3)
    mean, std = after.returns.mean_and_std()
    np.testing.assert_allclose(mean, expected.returns.mean(1), rtol=1e-4)
    np.testing.assert_allclose(std, expected.returns.std(1), rtol=1e-3)
    adv = expected.advantage - expected.advantage.mean(1, keepdims=True)
    adv /= expected.advantage.std(1, keepdims=True)
    start, chosen = expected.log_policy(expected.actor, expected.x)[0], expected.action[..., None]

    def loss(params: Any) -> float:
        log, entropy = expected.log_policy(params, expected.x)
        ratio = np.exp(np.take_along_axis(log - start, chosen, -1)[..., 0])
        return float(-(ratio * adv).mean(1).sum() - 0.3 * entropy.mean(1).sum())

    whole = gradients.differences(loss, expected.actor)
    got = gradients.seen(after.actor.opt_state, 0.9)
    for path, leaf in jax.tree_util.tree_leaves_with_path(whole):
        if np.abs(leaf).max() < 1e-8:  # a key's bias moves all scores alike
            continue
        mine = got
        for step in path:
            mine = mine[step.key]
        scale = np.abs(leaf).max()
        np.testing.assert_allclose(mine, leaf, atol=1e-3 * scale, err_msg=str(path))


def test_without_decay_targets_are_discounted_returns_whatever_the_critic() -> None:
    """λ = 1 and episodes that terminate: what was collected, and nothing of critic or policies."""
    batch = rollout()
    sample = batch.sample
    every = np.zeros((STEPS, ENVS, 3), bool)
    every[1], every[3] = True, True
    sample = sample._replace(terminated=jnp.asarray(every), finished=jnp.asarray(every[..., 0]))
    batch = batch._replace(sample=sample)
    state, _ = learner(gae_lambda=1.0)
    settings = tiny.hyper("mappo", **ONCE, gae_lambda=1.0)
    prepare = quick.jit(learner_of(settings, no_trust_region(GAME))._prepare)
    after, found, *_ = prepare(state, jax.random.key(0), batch, jnp.int32(0))
    mean, std = (np.asarray(m)[:, None] for m in after.returns.mean_and_std())
    reward = np.asarray(sample.reward, np.float64)
    collected = reward.copy()
    collected[[0, 2]] += 0.99 * reward[[1, 3]]
    np.testing.assert_allclose(found.target * std + mean, flat(collected), rtol=1e-4, atol=1e-4)


def test_the_critic_is_regressed_on_normalised_returns() -> None:
    """Huber loss of the rescaled critic, whose values in units of reward are the same as before."""
    state, update = learner(huber_delta=0.5)
    batch = rollout()
    after, metrics = updated(state, update, batch)
    expected = Literal(state, batch)
    mean, std = (np.asarray(m, np.float64)[:, None] for m in after.returns.mean_and_std())
    error = np.abs((expected.value - mean) / std - (expected.returns - mean) / std)
    loss = np.where(error <= 0.5, error**2 / 2, 0.5 * (error - 0.25)).mean(1)
    assert (error > 0.5).any() and (error < 0.5).any()
    np.testing.assert_allclose(metrics["critic_loss"], loss, rtol=1e-3)


def test_settings_that_are_given_are_the_settings_that_run() -> None:
    """Of those whose default is another than off-policy, each changes what it should."""
    defaults = tiny.hyper("mappo")
    assert (defaults.policy_clip, defaults.critic_weight_decay) == (10.0, 0.0)
    assert (defaults.critic_regularisation, defaults.logit_regularisation) == (0.0, 0.0)
    batch, (state, update) = rollout(), learner()
    plain, _ = updated(state, update, batch)

    def moved(**options: Any) -> tuple[float, float]:
        """Distance of the actors and of the critics from where they would be otherwise."""
        after, _ = updated(state, learner(**options)[1], batch)
        return tuple(
            float(optax.tree.norm(optax.tree.sub(one.params, two.params)))
            for one, two in ((after.actor, plain.actor), (after.critic, plain.critic))
        )  # type: ignore[return-value]

    actor, critic = moved(logit_regularisation=1.0, critic_weight_decay=1.0)
    assert actor > 1e-4 and critic > 1e-4
    assert moved(critic_regularisation=1e4)[1] > 1e-4
    after, _ = updated(state, learner(policy_clip=1e-3, critic_clip_per_agent=1e-3)[1], batch)
    actor_gradient = gradients.seen(after.actor.opt_state, 0.9)
    for agent in range(3):
        norm = optax.tree.norm(jax.tree.map(lambda leaf, i=agent: leaf[i], actor_gradient))
        np.testing.assert_allclose(norm, 1e-3, rtol=1e-3)
    critic_gradient = gradients.seen(after.critic.opt_state, 0.9)
    np.testing.assert_allclose(optax.tree.norm(critic_gradient), 3e-3, rtol=1e-3)


def test_popart_keeps_the_values() -> None:
    state, _ = learner()
    rng = np.random.default_rng(0)
    old = proximal.add_returns(state.returns, jnp.asarray(rng.normal(2, 3, (3, 9))), None)
    new = proximal.add_returns(old, jnp.asarray(rng.normal(-50, 40, (3, 9))), None)
    critic = attention_critic(GAME, tiny.hyper("mappo"), own_actions=False)
    x, action = (jnp.asarray(rng.normal(size=(3, 7, 3)), jnp.float32) for _ in range(2))

    def in_rewards(params: Any, moments: proximal.ReturnMoments) -> np.ndarray:
        mean, std = moments.mean_and_std()
        q = values(critic, params, x, action, None)
        return np.asarray(mean[:, None] + std[:, None] * q[..., 0])

    params = state.critic.params
    before = in_rewards(params, old)
    assert critic.rescale is not None
    rescaled = critic.rescale(params, old.mean_and_std(), new.mean_and_std())
    np.testing.assert_allclose(in_rewards(rescaled, new), before, rtol=1e-4, atol=1e-4)
    assert np.abs(in_rewards(params, new) - before).max() > 1  # the moments did change


@pytest.mark.parametrize("factor", [0.01, 100.0])
def test_the_scale_of_rewards_does_not_matter(factor: float) -> None:
    """Second rollout, of rewards and moments in another unit: the same networks to float32."""
    state, update = learner()
    state, _ = updated(state, update, rollout())
    scaled = state._replace(
        returns=state.returns._replace(
            first=state.returns.first * factor, second=state.returns.second * factor**2
        )
    )
    batch = rollout()
    other = batch._replace(sample=batch.sample._replace(reward=batch.sample.reward * factor))
    one, two = updated(state, update, batch, 1)[0], updated(scaled, update, other, 1)[0]
    for name in ("actor", "critic"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=2e-5),
            getattr(one, name).params,
            getattr(two, name).params,
        )


def test_every_transition_is_used_once_in_an_epoch() -> None:
    """Networks that hardly step: means over minibatches are those of the whole rollout."""
    batch = rollout()
    one, two = (
        updated(*learner(learning_rate=1e-9, ppo_minibatches=count, ppo_epochs=2), batch)[1]
        for count in (1, 4)
    )
    for name in ("policy_loss", "critic_loss", "entropy"):
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6, err_msg=name)


class Step:
    """One policy step of samples that are not of the rollout's policies, under a fixed δ."""

    def __init__(self) -> None:
        rng = np.random.default_rng(1)
        self.advantage = rng.normal(size=(3, 40)).astype(np.float32)
        settings = tiny.hyper("mappo", ppo_clip=0.2)
        parts = learner_of(settings, tiny.probe(3))
        self.actor = parts.actors.init(jax.random.key(0))
        x = jnp.asarray(rng.normal(size=(3, 40, 3)), jnp.float32)
        action = rng.integers(0, [[3], [3], [2]], (3, 40))
        log_policy = parts.actors.log_policy(self.actor.params, x)
        old = jax.nn.log_softmax(log_policy + jnp.asarray(0.5 * rng.normal(size=(3, 40, 3))))
        self.view = tiny.empty_view(
            x=x, action=jnp.asarray(action), log_policy=log_policy, log_old_policy=old
        )
        pick = lambda table: np.take_along_axis(np.asarray(table), action[..., None], -1)[..., 0]  # noqa: E731
        self.ratio = np.exp(pick(log_policy) - pick(old))

        self._run = quick.jit(lambda delta: self._outcome(parts, delta))

    def _outcome(self, parts: ProximalActorCritic, delta: jax.Array) -> tuple[Any, Any]:
        advantage = jnp.asarray(self.advantage)
        _, found, metrics = parts._policy_step(self.actor, delta, self.view, advantage)
        return (found.value_term(), found.surrogate_term), metrics

    def at(self, delta: float) -> tuple[Any, Any]:
        """Both terms of the region's value, and metrics, where all δ_i are this."""
        return self._run(jnp.full(3, delta, jnp.float32))


def test_delta_sets_the_clip_range_and_its_value_is_the_objectives_slope() -> None:
    step = Step()
    for delta in (0.25, 4.0):
        (value, surrogate), metrics = step.at(delta)
        clip = 0.2 * np.sqrt(delta)
        binds = np.where(step.advantage > 0, step.ratio > 1 + clip, step.ratio < 1 - clip)
        np.testing.assert_allclose(metrics["clip_fraction"], binds.mean(1), rtol=1e-5)
        wider, narrower = (step.at(delta * (1 + s * 1e-3))[1]["policy_loss"] for s in (1, -1))
        by_delta = -(np.asarray(wider, np.float64) - narrower) / (2e-3 * delta)
        np.testing.assert_allclose(value, delta**2 * by_delta, rtol=2e-2, atol=1e-4)
        np.testing.assert_array_equal(value, surrogate)
        assert (np.asarray(value) > 1e-3).all()


def test_an_agents_last_step_ends_its_advantages() -> None:
    """Two agents; agent 1 is gone after the first step, cut off, and back in the next episode."""
    finished = jnp.array([[False], [True], [False]])
    alive = jnp.array([[True, True], [True, False], [True, True]])[:, :, None]
    got = _last_steps(finished, alive, 2)[:, :, 0]
    np.testing.assert_array_equal(got, [[False, True], [True, True], [False, False]])
    everybody = _last_steps(finished, None, 2)[:, :, 0]
    np.testing.assert_array_equal(everybody, [[False, False], [True, True], [False, False]])
