"""What every actor-critic has: networks, optimizers, normalised inputs, and the way it acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

from mamt_jax.algorithms.optimisers import (
    AdamSettings,
    Optimised,
    agent_norms,
    clipped_adam,
    per_agent,
    step,
)
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks import layers
from mamt_jax.networks.critic import SHARED_OVER_AGENTS, AttentionCritic, CriticTrace
from mamt_jax.networks.policies import Actor, mask_logits
from mamt_jax.ops import losses
from mamt_jax.ops.chunking import chunk_count, in_chunks
from mamt_jax.ops.masking import masked, masked_mean
from mamt_jax.types import Batch, Game, Metrics, Params, Transition


class Networks(NamedTuple):
    """The modules and optimizers of an actor-critic, with the sizes they were built for."""

    actor: nn.Module
    critic: nn.Module
    actor_optimiser: optax.GradientTransformation
    critic_optimiser: optax.GradientTransformation
    adam: AdamSettings
    game: Game
    hidden_size: int

    def no_obs(self) -> jax.Array:
        """Zeros in the shape of one observation of every agent ``[n, 1, O]``: to initialise."""
        return jnp.zeros((self.game.num_agents, 1, max(self.game.obs_sizes)))

    def init_actor(self, key: jax.Array) -> Optimised:
        """Policies before any update."""
        params = self.actor.init(key, self.no_obs())
        return Optimised(params, self.actor_optimiser.init(params))

    def init_critic(self, key: jax.Array, *inputs: jax.Array) -> Optimised:
        """The critic before any update, for inputs like these."""
        params = self.critic.init(key, *inputs)
        return Optimised(params, self.critic_optimiser.init(params))

    def logits(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The actors' logits ``[n, B, A]``: with impossible actions masked, and raw."""
        raw = self.actor.apply(params, x)
        return mask_logits(raw, self.game.action_counts), raw

    def log_policy(self, params: Params, x: jax.Array) -> jax.Array:
        """log π ``[n, B, A]``."""
        return jax.nn.log_softmax(self.logits(params, x)[0])

    def encode(
        self, action: jax.Array, alive: jax.Array | None
    ) -> tuple[jax.Array, layers.NormState]:
        """Batch-normalised one-hot actions ``[n, B, A]`` and their statistics."""
        return layers.batch_norm(jax.nn.one_hot(action, self.game.num_actions), alive)

    def chunks(self, x: jax.Array, alive: jax.Array | None) -> int:
        """Chunks in which to go through observations ``[n, B, O]``."""
        return chunk_count(x.shape[1], self.game.num_agents * self.hidden_size, alive)

    def values(
        self, params: Params, x: jax.Array, action: jax.Array, alive: jax.Array | None
    ) -> jax.Array:
        """The attention critic's output ``[n, B, ·]`` at normalised observations and actions."""

        def apply(x: jax.Array, action: jax.Array) -> tuple[jax.Array]:
            return (self.critic.apply(params, x, action, alive).q,)

        return in_chunks(apply, self.chunks(x, alive), (-2, -2), (-2,))(x, action)[0]


def build_networks(
    game: Game,
    hyper: AlgorithmConfig,
    actor: nn.Module | None = None,
    critic: nn.Module | None = None,
) -> Networks:
    """Modules and optimizers for a game: MAAC's, unless other modules are given."""
    num_actions, hidden = game.num_actions, hyper.hidden_size
    adam = AdamSettings(hyper.learning_rate, hyper.adam_b1, hyper.adam_eps)
    critic_clip = hyper.critic_clip_per_agent * game.num_agents
    return Networks(
        actor or Actor(game.obs_sizes, num_actions, hidden),
        critic or AttentionCritic(game.obs_sizes, num_actions, hidden, hyper.attention_heads),
        per_agent(clipped_adam(adam, hyper.policy_clip)),
        clipped_adam(adam, critic_clip, hyper.critic_weight_decay),
        adam,
        game,
        hidden,
    )


class Acts(Protocol):
    """The part of a learner's state that acts."""

    @property
    def actor(self) -> Optimised:
        """Policies."""
        ...

    @property
    def norm(self) -> layers.NormState:
        """Running statistics of the observations."""
        ...


@dataclass(frozen=True)
class Learner:
    """How trained policies act, whatever they learn from."""

    networks: Networks
    hyper: AlgorithmConfig

    def policy(self, state: Acts, obs: jax.Array) -> distrax.Categorical:
        """Policies of all agents at observations ``[E, n, O]``, batch shape ``[n, E]``."""
        x = layers.apply_norm(state.norm, jnp.swapaxes(obs, 0, 1))
        return distrax.Categorical(logits=self.networks.logits(state.actor.params, x)[0])

    def act(self, state: Acts, key: jax.Array, obs: jax.Array) -> jax.Array:
        """Sampled actions int32 ``[E, n]``; -1 where a policy is not finite."""
        policy = self.policy(state, obs)
        return _decided(policy, policy.sample(seed=key)).T

    def greedy(self, state: Acts, obs: jax.Array) -> jax.Array:
        """Most probable actions int32 ``[E, n]``; -1 where a policy is not finite."""
        policy = self.policy(state, obs)
        return _decided(policy, policy.mode()).T


def _decided(policy: distrax.Categorical, action: jax.Array) -> jax.Array:
    """The actions, but -1 where the policy's probabilities are not finite."""
    return jnp.where(jnp.isfinite(policy.probs).all(axis=-1), action, -1)


def agent_major(batch: Batch) -> Batch:
    """Transitions as ``[n, B, ...]``, with zeros in all that an absent agent is said to have done.

    What is left of such an agent's row cannot reach anything: not even as 0 · NaN.
    """

    def turn(transition: Transition) -> Transition:
        rows = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), transition)
        return jax.tree.map(lambda leaf: masked(leaf, rows.alive), rows)

    recent = None if batch.recent is None else turn(batch.recent)
    return batch._replace(sample=turn(batch.sample), recent=recent)


def standardised_reward(batch: Batch) -> jax.Array:
    """Rewards ``[n, B]`` of an agent-major batch in standard deviations from their mean."""
    reward: jax.Array = (batch.sample.reward - batch.reward_mean[:, None]) / batch.reward_std[
        :, None
    ]
    return reward


def reward_moments(batch: Batch) -> Metrics:
    """The moments by which rewards are standardised, as metrics."""
    return {"reward_mean": batch.reward_mean, "reward_std": batch.reward_std}


def critic_regression(
    networks: Networks,
    params: Params,
    x: jax.Array,
    encoded: jax.Array,
    action: jax.Array,
    target: jax.Array,
    alive: jax.Array | None,
    error: losses.ErrorFunction,
    penalty: float,
) -> tuple[Params, CriticTrace, Metrics]:
    """Gradient of the attention critic's regression and, from the same pass, its trace.

    Args:
      networks: with an attention critic.
      params: of the critic.
      x: ``[n, B, O]`` normalised observations.
      encoded: ``[n, B, A]`` normalised one-hot actions.
      action: int32 ``[n, B]``.
      target: ``[n, B]``, a constant.
      alive: bool ``[n, B]``; None if all are.
      error: of predictions and targets.
      penalty: factor on the attention logits' penalty.
    """

    def loss(params: Params, x: jax.Array, *sample: jax.Array) -> tuple[jax.Array, Any]:
        encoded, action, target = sample
        trace = networks.critic.apply(params, x, encoded, alive)
        q = losses.select_output(trace.q, action)
        deviation = masked_mean(error(q, target), alive, axis=-1)
        metrics = {
            "critic_loss": deviation,
            "q_mean": masked_mean(q, alive, axis=-1),
            "attention_entropy": attention_entropy(trace.weights, alive),
        }
        if penalty:  # 0 times it would be computed, and its gradient
            deviation += penalty * losses.attention_penalty(trace.logits, alive)
        return jnp.sum(deviation), (trace, metrics)

    def learn(*sample: jax.Array) -> tuple[Params, CriticTrace, Metrics]:
        grad = jax.value_and_grad(loss, has_aux=True)
        (_, (trace, metrics)), gradient = grad(params, *sample)
        return gradient, trace, metrics

    chunked = in_chunks(
        learn, networks.chunks(x, alive), in_axes=(-2, -2, -1, -1), out_axes=(None, -2, None)
    )
    gradient, trace, metrics = chunked(x, encoded, action, target)
    gradient = scale_shared(gradient, networks.game.num_agents)
    return gradient, trace, metrics | {"critic_grad_norm": optax.tree.norm(gradient)}


def joint_critic_step(
    networks: Networks,
    critic: Optimised,
    predict: Callable[[Params], jax.Array],
    next_value: jax.Array,
    batch: Batch,
    discount: float,
) -> tuple[Optimised, Metrics]:
    """One step of a critic on (Q_i − y_i)², y_i = r_i + γ(1 − terminated) next_value_i.

    Args:
      networks: whose critic it is.
      critic: before the step.
      predict: critic's parameters -> Q_i ``[n, B]`` at the batch's actions.
      next_value: ``[n, B]`` of the batch's successors.
      batch: agent-major.
      discount: γ.
    """
    sample, alive = batch.sample, batch.sample.alive
    reward, nothing = standardised_reward(batch), jnp.zeros_like(next_value)
    target = losses.td_target(reward, discount, sample.terminated, next_value, nothing, alpha=0.0)

    def loss(params: Params) -> tuple[jax.Array, Metrics]:
        q = predict(params)
        error = masked_mean(losses.squared_error(q, target), alive, axis=-1)
        metrics = {"critic_loss": error, "q_mean": masked_mean(q, alive, axis=-1)}
        return jnp.sum(error), metrics

    gradient, metrics = jax.grad(loss, has_aux=True)(critic.params)
    metrics |= reward_moments(batch) | {"critic_grad_norm": optax.tree.norm(gradient)}
    return step(networks.critic_optimiser, critic, gradient), metrics


def policy_metrics(
    objective: jax.Array, gradient: Params, log_policy: jax.Array, alive: jax.Array | None
) -> Metrics:
    """What every policy update reports: objective ``[n]``, gradient, log π ``[n, B, A]``."""
    entropy = distrax.Categorical(logits=log_policy).entropy()
    return {
        "policy_loss": objective,
        "policy_grad_norm": agent_norms(gradient),
        "entropy": masked_mean(entropy, alive, axis=-1),
    }


def scale_shared(gradient: Params, num_agents: int) -> Params:
    """Divides by n the gradient of what all agents' losses reach (as the released code does)."""
    scaled = {
        module: jax.tree.map(lambda leaf: leaf / num_agents, leaves)
        if module in SHARED_OVER_AGENTS
        else leaves
        for module, leaves in gradient["params"].items()
    }
    return {"params": scaled}


def attention_entropy(weights: jax.Array, alive: jax.Array | None) -> jax.Array:
    """Mean entropy of each agent's attention, per head: ``[n, n, B, K] -> [n, K]``, nats."""
    return masked_mean(jnp.sum(jax.scipy.special.entr(weights), axis=1), alive, axis=1)
