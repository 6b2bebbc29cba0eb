"""LOLA with joint-action Q: two agents that shape what the other learns (Foerster et al. 2018a)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mamt_jax.algorithms.learner import (
    Actors,
    Learner,
    agent_major,
    appraisal,
    batch_major,
    joint_critic_step,
    policy_metrics,
    rows_of_steps,
)
from mamt_jax.algorithms.optimisers import Optimised, blend, step
from mamt_jax.errors import ConfigError
from mamt_jax.networks import layers
from mamt_jax.networks.joint import joint_input
from mamt_jax.ops import losses
from mamt_jax.ops.masking import masked_mean
from mamt_jax.ops.opponent_shaping import shaping_gradients
from mamt_jax.settings import Learning, OpponentShaping, Settings, TargetNetworks
from mamt_jax.types import Algorithm, Batch, Metrics, Params


class LearnerState(NamedTuple):
    """Everything that learns, for one seed."""

    actor: Optimised
    critic: Optimised
    target_critic: Params
    norm: layers.NormState


def shaping_actor_critic(
    name: str, actors: Actors, critic: nn.Module, settings: Settings
) -> Algorithm:
    """Joint-action critics on all observations, and policies that shape their opponent.

    Raises:
      ConfigError: if there are not two agents.
    """
    if actors.game.num_agents != 2:
        raise ConfigError(
            f"{name} is for two agents, and this environment has {actors.game.num_agents}."
        )
    parts = ShapingActorCritic(actors, settings, critic)
    functions = parts.init, parts.act, parts.greedy, parts.update
    return Algorithm(name, *functions, inspect=parts.inspect)


@dataclass(frozen=True)
class ShapingActorCritic(Learner):
    """The update, step by step."""

    critic: nn.Module
    """[2, B, all observations] -> [2, B, A²]."""

    def init(self, key: jax.Array) -> LearnerState:
        """State before any update."""
        actor_key, critic_key = jax.random.split(key)
        actor = self.actors.init(actor_key)
        joint = jnp.zeros((2, 1, sum(self.game.obs_sizes)))
        critic = self.new_critic(self.critic.init(critic_key, joint))
        norm = layers.init_norm(2, self.game.obs_size)
        return LearnerState(actor, critic, critic.params, norm)

    def update(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """One update of everything that learns; draws nothing."""
        batch = agent_major(batch)
        alive = batch.sample.alive
        x, stats = layers.batch_norm(batch.sample.obs, alive)
        critic, metrics = self._critic_step(state, x, batch)
        actor, more = self._policy_step(state.actor, critic.params, x, alive)
        tau = self.settings[TargetNetworks].target_tau
        state = LearnerState(
            actor=actor,
            critic=critic,
            target_critic=blend(state.target_critic, critic.params, tau),
            norm=layers.update_norm(state.norm, stats, alive),
        )
        return state, metrics | more

    def inspect(
        self, state: LearnerState, obs: jax.Array, action: jax.Array, alive: jax.Array | None
    ) -> dict[str, jax.Array]:
        """See ``Algorithm.inspect``; values in standard deviations of the reward.

        As for other algorithms, they are at the opponent's action. Training's V is the mean over
        the opponent's policy, too.
        """
        obs, action, there = rows_of_steps(obs, action, alive)
        x = layers.normalise(state.norm, obs, there)
        joint = self.values(state.critic.params, x)
        q = jnp.stack(
            (
                losses.select(joint[0], action[1, :, None]),
                losses.select(jnp.swapaxes(joint[1], -1, -2), action[0, :, None]),
            )
        )
        log_policy = self.actors.log_policy(state.actor.params, x)
        return batch_major(appraisal(self.game, q, log_policy, action), there)

    def values(self, params: Params, x: jax.Array) -> jax.Array:
        """Q_i(o, a_0, a_1) of both agents ``[2, B, A, A]``, the axes of actions in their order."""
        joint = joint_input(x, self.game.obs_sizes)
        q = self.critic.apply(params, jnp.broadcast_to(joint, (2, *joint.shape)))
        return q.reshape(*q.shape[:2], *(self.game.num_actions,) * 2)

    def expected(self, actor_params: Params, x: jax.Array, q: jax.Array) -> jax.Array:
        """V_i ``[2, B]``: the mean of joint-action values ``[2, B, A, A]`` under both policies."""
        policy = jnp.exp(self.actors.log_policy(actor_params, x))
        return jnp.einsum("nbuv,bu,bv->nb", q, policy[0], policy[1])

    def _critic_step(
        self, state: LearnerState, x: jax.Array, batch: Batch
    ) -> tuple[Optimised, Metrics]:
        """One step on (Q_i(o, a) − y_i)², y_i = r_i + γ(1 − terminated) V̄_i(o').

        V̄ is the target network's, under the policies as they are: gradients through the opponent's
        step need the values of these policies, not of the best response to them.
        """
        sample = batch.sample
        next_x, _ = layers.batch_norm(sample.next_obs, sample.alive)
        next_q = self.values(state.target_critic, next_x)

        def predict(params: Params) -> jax.Array:
            by_second = jnp.swapaxes(self.values(params, x), -1, -2)
            q = losses.select(by_second, sample.action[0, :, None])
            return losses.select(q, sample.action[1])

        return joint_critic_step(
            self.critic_optimiser,
            state.critic,
            predict,
            self.expected(state.actor.params, next_x, next_q),
            batch,
            self.settings[Learning].discount,
        )

    def _policy_step(
        self, actor: Optimised, critic_params: Params, x: jax.Array, alive: jax.Array | None
    ) -> tuple[Optimised, Metrics]:
        """One step of both policies up V_i(θ_i, θ_j + η ∇V_j), exact over all joint actions."""
        settings, actors = self.settings, self.actors
        q = self.values(critic_params, x)

        def values(params: Params) -> jax.Array:
            return masked_mean(self.expected(params, x, q), alive, axis=-1)

        def squares(params: Params) -> jax.Array:
            raw = actors.logits(params, x)[1]
            return jnp.sum(losses.mean_square_logit(raw, actors.game.action_counts, alive))

        ascent = shaping_gradients(values, actor.params, settings[OpponentShaping].lola_step)
        shrink = jax.grad(squares)(actor.params)
        gradient = jax.tree.map(
            lambda up, down: settings[Learning].logit_regularisation * down - up, ascent, shrink
        )
        log_policy = actors.log_policy(actor.params, x)
        metrics = policy_metrics(-values(actor.params), gradient, log_policy, alive)
        return step(actors.optimiser, actor, gradient), metrics
