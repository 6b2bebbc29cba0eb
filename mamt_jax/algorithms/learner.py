"""What every actor-critic has: policies, optimisers, normalised inputs, and the way it acts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import distrax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mamt_jax.algorithms.optimisers import (
    AdamSettings,
    Optimised,
    adam_settings,
    agent_norms,
    clipped_adam,
    global_norm,
    per_agent,
    step,
)
from mamt_jax.networks import layers
from mamt_jax.networks.policies import Actor, mask_logits
from mamt_jax.ops import losses
from mamt_jax.ops.masking import masked, masked_mean
from mamt_jax.settings import Learning, Networks, Settings
from mamt_jax.types import Batch, Game, Metrics, Params, Transition


class Actors(NamedTuple):
    """The policies of all agents: a module and how it learns."""

    module: nn.Module
    """Normalised observations [n, B, O] -> logits [n, B, A], parameters stacked over agents."""
    game: Game
    optimiser: optax.GradientTransformation
    """Of each agent on its own."""
    adam: AdamSettings
    clip: float
    """Global-norm clip of each agent's gradient."""
    temperature: float | None = None
    """What the logits are divided by; None for nothing."""

    def init(self, key: jax.Array) -> Optimised:
        """Policies before any update."""
        params = self.module.init(key, jnp.zeros((self.game.num_agents, 1, self.game.obs_size)))
        return Optimised(params, self.optimiser.init(params))

    def logits(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Logits ``[n, B, A]``: with impossible actions masked, and raw."""
        raw = self.module.apply(params, x)
        raw = raw if self.temperature is None else raw / self.temperature
        return mask_logits(raw, self.game.action_counts), raw

    def log_policy(self, params: Params, x: jax.Array) -> jax.Array:
        """log π ``[n, B, A]``."""
        return jax.nn.log_softmax(self.logits(params, x)[0])


def build_actors(game: Game, settings: Settings, module: nn.Module | None = None) -> Actors:
    """Policies for a game: MAAC's, unless another module is given."""
    adam, clip = adam_settings(settings), settings[Learning].policy_clip
    return Actors(
        module or Actor(game.obs_sizes, game.num_actions, settings[Networks].hidden_size),
        game,
        per_agent(clipped_adam(adam, clip)),
        adam,
        clip,
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

    actors: Actors
    settings: Settings

    @property
    def game(self) -> Game:
        """Sizes of the environment."""
        return self.actors.game

    @property
    def critic_optimiser(self) -> optax.GradientTransformation:
        """One for the critics of all agents: its clip is as many times as large."""
        learning = self.settings[Learning]
        clip = learning.critic_clip_per_agent * self.game.num_agents
        return clipped_adam(self.actors.adam, clip, learning.critic_weight_decay)

    def new_critic(self, params: Params) -> Optimised:
        """A critic before any update."""
        return Optimised(params, self.critic_optimiser.init(params))

    def policy(self, state: Acts, obs: jax.Array) -> distrax.Categorical:
        """Policies of all agents at observations ``[E, n, O]``, batch shape ``[n, E]``."""
        x = layers.apply_norm(state.norm, jnp.swapaxes(obs, 0, 1))
        return distrax.Categorical(logits=self.actors.logits(state.actor.params, x)[0])

    def act(self, state: Acts, key: jax.Array, obs: jax.Array) -> jax.Array:
        """Sampled actions int32 ``[E, n]``; -1 where a policy is not finite."""
        policy = self.policy(state, obs)
        return _decided(policy, policy.sample(seed=key)).T

    def greedy(self, state: Acts, obs: jax.Array) -> jax.Array:
        """Most probable actions int32 ``[E, n]``; -1 where a policy is not finite."""
        policy = self.policy(state, obs)
        return _decided(policy, policy.mode()).T


def _decided(policy: distrax.Categorical, action: jax.Array) -> jax.Array:
    """The actions, but -1 where the policy's log-probabilities are not finite."""
    return jnp.where(jnp.isfinite(policy.logits).all(axis=-1), action, -1)


def agent_major(batch: Batch) -> Batch:
    """Transitions as ``[n, B, ...]``, with zeros in all that an absent agent is said to have done.

    What is left of such an agent's row cannot reach anything: not even as 0 · NaN.
    """

    def turn(transition: Transition) -> Transition:
        rows = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), transition)
        return jax.tree.map(lambda leaf: masked(leaf, rows.alive), rows)

    recent = None if batch.recent is None else turn(batch.recent)
    return batch._replace(sample=turn(batch.sample), recent=recent)


def rows_of_steps(
    obs: jax.Array, action: jax.Array, alive: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
    """Steps ``[E, n, ...]`` as ``[n, E, ...]``; zeros are what absent agents see and do."""
    there = None if alive is None else alive.T
    obs, action = (masked(jnp.swapaxes(leaf, 0, 1), there) for leaf in (obs, action))
    return obs, action, there


def appraisal(
    game: Game, q: jax.Array, log_policy: jax.Array, action: jax.Array
) -> dict[str, jax.Array]:
    """Entries of ``Algorithm.inspect``, agent-major, from values of every own action.

    Args:
      game: sizes of the environment.
      q: ``[n, B, A]``.
      log_policy: ``[n, B, A]``.
      action: int32 ``[n, B]``, taken.
    """
    has = np.arange(game.num_actions) < np.asarray(game.action_counts)[:, None, None]
    return {
        "probability": jnp.exp(log_policy),
        "q": jnp.where(has, q, jnp.nan),
        "value": jnp.sum(jnp.exp(log_policy) * q, axis=-1),
        "advantage": losses.counterfactual_advantage(q, log_policy, action),
    }


_PAIRS = ("attention", "coordination", "divergence")


def batch_major(found: dict[str, jax.Array], alive: jax.Array | None) -> dict[str, jax.Array]:
    """Entries of ``Algorithm.inspect``: ``[n, E, ...]``, or ``[n, n, E, ...]`` of pairs, turned.

    NaN is all that is said of an agent that has left, and of pairs with one.
    """
    pairs = None if alive is None else alive[:, None] & alive[None]
    return {
        name: jnp.moveaxis(masked(values, pairs, jnp.nan), 2, 0)
        if name in _PAIRS
        else jnp.swapaxes(masked(values, alive, jnp.nan), 0, 1)
        for name, values in found.items()
    }


def standardised_reward(batch: Batch) -> jax.Array:
    """Rewards ``[n, B]`` of an agent-major batch in standard deviations from their mean."""
    reward: jax.Array = (batch.sample.reward - batch.reward_mean[:, None]) / batch.reward_std[
        :, None
    ]
    return reward


def reward_moments(batch: Batch) -> Metrics:
    """The moments by which rewards are standardised, as metrics."""
    return {"reward_mean": batch.reward_mean, "reward_std": batch.reward_std}


def joint_critic_step(
    optimiser: optax.GradientTransformation,
    critic: Optimised,
    predict: Callable[[Params], jax.Array],
    next_value: jax.Array,
    batch: Batch,
    discount: float,
) -> tuple[Optimised, Metrics]:
    """One step of a critic on (Q_i − y_i)², y_i = r_i + γ(1 − terminated) next_value_i.

    Args:
      optimiser: of the critic.
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
    metrics |= reward_moments(batch) | {"critic_grad_norm": global_norm(gradient)}
    return step(optimiser, critic, gradient), metrics


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
