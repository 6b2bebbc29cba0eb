"""MADDPG: deterministic policy gradients through joint critics (Lowe et al. 2017)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mamt_jax.algorithms.learner import (
    Actors,
    Learner,
    agent_major,
    joint_critic_step,
    policy_metrics,
)
from mamt_jax.algorithms.optimisers import Optimised, blend, step
from mamt_jax.networks import layers
from mamt_jax.networks.joint import joint_input
from mamt_jax.ops import losses
from mamt_jax.ops.gumbel import straight_through_gumbel_softmax
from mamt_jax.ops.masking import masked, masked_mean
from mamt_jax.settings import Deterministic, Learning, Settings
from mamt_jax.types import Algorithm, Batch, Metrics, Params


class LearnerState(NamedTuple):
    """Everything that learns, for one seed."""

    actor: Optimised
    target_actor: Params
    critic: Optimised
    target_critic: Params
    norm: layers.NormState


def deterministic_actor_critic(
    name: str, actors: Actors, critic: nn.Module, settings: Settings
) -> Algorithm:
    """Joint critics of one output, and actors that climb them, as pure functions."""
    parts = DeterministicActorCritic(actors, settings, critic)
    return Algorithm(name, parts.init, parts.act, parts.greedy, parts.update)


@dataclass(frozen=True)
class DeterministicActorCritic(Learner):
    """The update, step by step."""

    critic: nn.Module
    """[n, B, all observations and actions] -> [n, B, 1]."""

    def init(self, key: jax.Array) -> LearnerState:
        """State before any update."""
        game = self.game
        actor_key, critic_key = jax.random.split(key)
        actor = self.actors.init(actor_key)
        size = sum(game.obs_sizes) + game.num_agents * game.num_actions
        critic = self.new_critic(
            self.critic.init(critic_key, jnp.zeros((game.num_agents, 1, size)))
        )
        norm = layers.init_norm(game.num_agents, game.obs_size)
        return LearnerState(actor, actor.params, critic, critic.params, norm)

    def update(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """One update of everything that learns."""
        tau, batch = self.settings[Deterministic].maddpg_tau, agent_major(batch)
        alive = batch.sample.alive
        x, stats = layers.batch_norm(batch.sample.obs, alive)
        critic, metrics = self._critic_step(state, x, batch)
        actor, more = self._policy_step(state.actor, critic.params, key, x, alive)
        state = LearnerState(
            actor=actor,
            target_actor=blend(state.target_actor, actor.params, tau),
            critic=critic,
            target_critic=blend(state.target_critic, critic.params, tau),
            norm=layers.update_norm(state.norm, stats, alive),
        )
        return state, metrics | more

    def values(self, params: Params, x: jax.Array, actions: jax.Array) -> jax.Array:
        """Q_i ``[n, B]`` of observations ``[n, B, O]`` and one-hot actions ``[n, B, n, A]``.

        The actions' first axis says whose critic sees them.
        """
        agents, batch = x.shape[:2]
        obs = joint_input(x, self.game.obs_sizes)
        obs = jnp.broadcast_to(obs, (agents, *obs.shape))
        joint = jnp.concatenate((obs, actions.reshape(agents, batch, -1)), axis=-1)
        return self.critic.apply(params, joint)[..., 0]

    def for_every_critic(self, action: jax.Array, alive: jax.Array | None) -> jax.Array:
        """One-hot actions ``[n, B, A]`` as all critics see them, ``[n, B, n, A]``."""
        seen = jnp.swapaxes(masked(action, alive), 0, 1)
        return jnp.broadcast_to(seen, (len(action), *seen.shape))

    def _critic_step(
        self, state: LearnerState, x: jax.Array, batch: Batch
    ) -> tuple[Optimised, Metrics]:
        """One step on (Q_i(o, a) − y_i)², y_i = r_i + γ(1 − terminated) Q̄_i(o', π̄(o'))."""
        sample, alive, size = batch.sample, batch.sample.alive, self.game.num_actions
        next_x, _ = layers.batch_norm(sample.next_obs, alive)
        best = jnp.argmax(self.actors.logits(state.target_actor, next_x)[0], axis=-1)
        staying = None if alive is None else alive & ~sample.terminated
        next_actions = self.for_every_critic(jax.nn.one_hot(best, size), staying)
        actions = self.for_every_critic(jax.nn.one_hot(sample.action, size), alive)
        return joint_critic_step(
            self.critic_optimiser,
            state.critic,
            lambda params: self.values(params, x, actions),
            self.values(state.target_critic, next_x, next_actions),
            batch,
            self.settings[Learning].discount,
        )

    def _policy_step(
        self,
        actor: Optimised,
        critic_params: Params,
        key: jax.Array,
        x: jax.Array,
        alive: jax.Array | None,
    ) -> tuple[Optimised, Metrics]:
        """One step up Q_i in a_i, all actions drawn from the policies as they are.

        An agent's own action passes its gradient through a Gumbel-softmax, the others' do not.
        """
        actors, regularisation = self.actors, self.settings[Learning].logit_regularisation
        temperature = self.settings[Deterministic].gumbel_temperature
        own_entry = jnp.eye(self.game.num_agents, dtype=bool)[:, None, :, None]

        def loss(params: Params) -> tuple[jax.Array, Any]:
            logits, raw = actors.logits(params, x)
            drawn = straight_through_gumbel_softmax(
                key, logits, settings[Deterministic].gumbel_temperature
            )
            others = self.for_every_critic(jax.lax.stop_gradient(drawn), alive)
            actions = jnp.where(own_entry, masked(drawn, alive)[:, :, None], others)
            q = self.values(critic_params, x, actions)
            objective = -masked_mean(q, alive, axis=-1)
            square = losses.mean_square_logit(raw, self.game.action_counts, alive)
            total = jnp.sum(objective + regularisation * square)
            return total, (objective, jax.nn.log_softmax(logits))

        gradient, (objective, log_policy) = jax.grad(loss, has_aux=True)(actor.params)
        metrics = policy_metrics(objective, gradient, log_policy, alive)
        return step(actors.optimiser, actor, gradient), metrics
