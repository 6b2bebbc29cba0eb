"""Tiny learners, batches and views, and policies whose draws are known."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import distrax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.actor_critic import actor_critic
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.parts import Critic, PolicyGradients, TrustRegion, View
from mamt_jax.algorithms.registry import ALGORITHMS, all_settings
from mamt_jax.settings import (
    PPO,
    AttentionNetworks,
    Coordination,
    Deterministic,
    FixedRegion,
    LearnedRegion,
    Learning,
    MirrorDescent,
    OpponentShaping,
    Replay,
    ReplayModelling,
    Settings,
    SoftActorCritic,
    TargetNetworks,
)
from mamt_jax.settings.tree import compose
from mamt_jax.types import Algorithm, Batch, Game, Transition
from tests.networks import quick

EVERY_PART = compose(
    AttentionNetworks(),
    Learning(),
    TargetNetworks(),
    SoftActorCritic(),
    MirrorDescent(),
    FixedRegion(),
    LearnedRegion(),
    Coordination(),
    ReplayModelling(),
    PPO(),
    Deterministic(),
    OpponentShaping(),
)


def settings(algorithm: str | None = None, **options: Any) -> Settings:
    """Of a tiny algorithm, with what it has of these options; without a name, of every part."""
    own = EVERY_PART if algorithm is None else ALGORITHMS[algorithm].settings
    assert set(options) <= all_settings()
    options = {"hidden_size": 4, "attention_heads": 2, **options}
    return own.replace({name: value for name, value in options.items() if name in own.flat()})


def values(of: Settings) -> SimpleNamespace:
    """Every setting as an attribute."""
    return SimpleNamespace(**of.settled().flat())


def batch(
    obs_sizes: tuple[int, ...],
    action_counts: tuple[int, ...],
    size: int = 6,
    seed: int = 0,
    recent: bool = False,
) -> Batch:
    """Random transitions, padded like those of an environment."""
    rng = np.random.default_rng(seed)
    num_agents = len(obs_sizes)

    def transitions() -> Transition:
        obs = rng.normal(1.0, 2.0, (2, size, num_agents, max(obs_sizes))).astype(np.float32)
        for i, width in enumerate(obs_sizes):
            obs[:, :, i, width:] = 0
        return Transition(
            jnp.asarray(obs[0]),
            jnp.asarray(rng.integers(0, action_counts, (size, num_agents)), jnp.int32),
            jnp.asarray(rng.normal(-3.0, 2.0, (size, num_agents)), jnp.float32),
            jnp.asarray(obs[1]),
            jnp.asarray(np.tile(np.arange(size)[:, None] % 3 == 0, num_agents)),
        )

    mean = jnp.linspace(-3.5, -2.5, num_agents)
    std = jnp.linspace(1.5, 2.5, num_agents)
    return Batch(transitions(), mean, std, transitions() if recent else None)


def rollout(of: Batch, steps: int) -> Batch:
    """The same transitions as ``steps`` steps of B/steps environments; the last end episodes."""
    sample = jax.tree.map(lambda leaf: leaf.reshape(steps, -1, *leaf.shape[1:]), of.sample)
    ends = np.zeros(sample.reward.shape[:2], bool)
    ends[-1] = True
    return of._replace(sample=sample._replace(finished=jnp.asarray(ends)))


def batch_for(algorithm: Algorithm, *sizes: Any, size: int, recent: bool = False) -> Batch:
    """``size`` transitions for a registered algorithm: a batch, or a rollout of 3 steps."""
    made = batch(*sizes, size, recent=recent)
    return rollout(made, 3) if Replay not in ALGORITHMS[algorithm.name].settings else made


def leaving(of: Batch, alive: np.ndarray) -> Batch:
    """The same transitions with agents that left ``[B, n]``, and others that leave on their own."""
    alone = np.random.default_rng(1).random(alive.shape) < 0.2

    def masked(rows: Transition) -> Transition:
        return rows._replace(alive=jnp.asarray(alive), terminated=rows.terminated | alone)

    return of._replace(
        sample=masked(of.sample), recent=None if of.recent is None else masked(of.recent)
    )


def grown(algorithm: Algorithm, scale: float = 2.0) -> Any:
    """A learner whose online, target and old networks all differ, with larger weights."""
    online, target, old = (
        quick.jit(algorithm.init)(key) for key in jax.random.split(jax.random.key(0), 3)
    )
    enlarge = lambda tree: jax.tree.map(lambda leaf: leaf * scale, tree)  # noqa: E731
    others = {
        "target_actor": target.actor.params,
        "old_actor": old.actor.params,
        "target_critic": target.critic.params,
    }
    return online._replace(
        actor=online.actor._replace(params=enlarge(online.actor.params)),
        critic=online.critic._replace(params=enlarge(online.critic.params)),
        **{name: enlarge(tree) for name, tree in others.items() if hasattr(online, name)},
    )


def probe(num_agents: int) -> TrustRegion:
    """A trust region whose state is δ itself, and that reports all it is shown as metrics."""

    def adapt(delta: Any, view: View, gradients: PolicyGradients, count: Any) -> tuple[Any, Any]:
        terms = {"value": gradients.value_term(), "surrogate": gradients.surrogate_term}
        return delta, {"terms": terms}

    return TrustRegion(
        constrained=(True,) * num_agents,
        init=lambda key: jnp.ones(num_agents),
        observe=lambda delta, view: (delta, view, {"view": view}),
        delta=lambda delta: delta,
        adapt=adapt,
    )


def view(
    obs_sizes: tuple[int, ...], action_counts: tuple[int, ...], of: Batch, **options: Any
) -> tuple[Critic, View]:
    """What an update's trust region sees of a batch, and the critic it comes from."""
    chosen, game = settings(**options), Game(obs_sizes, action_counts)
    critic, region = attention_critic(game, chosen), probe(len(obs_sizes))
    algorithm = actor_critic("probe", build_actors(game, chosen), critic, region, chosen)
    state = grown(algorithm)._replace(region=jnp.ones(len(obs_sizes)))
    _, metrics = quick.jit(algorithm.update)(state, jax.random.key(0), of, jnp.int32(0))
    return critic, metrics["view"]


def empty_view(**fields: Any) -> View:
    """A view of nothing but these fields."""
    return View(**dict.fromkeys(View._fields) | fields)  # type: ignore[arg-type]


def drawn(num_agents: int, size: int, num_actions: int) -> np.ndarray:
    """The actions of :func:`know_the_draws`, [n, B]."""
    return (np.arange(num_agents)[:, None] * 2 + np.arange(size) ** 2) % num_actions


def draw_the_most_probable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every distrax.Categorical draw its mode: what is drawn for one leaves others alone."""

    def sample(self: distrax.Categorical, **_: Any) -> jax.Array:
        return self.mode()

    def sample_and_log_prob(self: distrax.Categorical, **_: Any) -> tuple[jax.Array, jax.Array]:
        return self.mode(), self.log_prob(self.mode())

    monkeypatch.setattr(distrax.Categorical, "sample", sample)
    monkeypatch.setattr(distrax.Categorical, "sample_and_log_prob", sample_and_log_prob)


def know_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes every distrax.Categorical of shape [n, B, A] draw :func:`drawn`, whatever the key."""

    def sample(self: distrax.Categorical, **_: Any) -> jax.Array:
        return jnp.asarray(drawn(*self.logits.shape), jnp.int32)

    def sample_and_log_prob(self: distrax.Categorical, **_: Any) -> tuple[jax.Array, jax.Array]:
        action = sample(self)
        return action, self.log_prob(action)

    monkeypatch.setattr(distrax.Categorical, "sample", sample)
    monkeypatch.setattr(distrax.Categorical, "sample_and_log_prob", sample_and_log_prob)
