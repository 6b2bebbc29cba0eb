"""The off-policy actor-critic of MAAC, MAMD and MAMT; a trust region makes the difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import optax

from mamt_jax.algorithms.learner import (
    Learner,
    Networks,
    agent_major,
    critic_regression,
    policy_metrics,
    reward_moments,
    standardised_reward,
)
from mamt_jax.algorithms.optimisers import Optimised, agent_inner, blend, preconditioner, step
from mamt_jax.algorithms.trust_region import PolicyGradients, TrustRegion, View, drift
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks import layers
from mamt_jax.networks.critic import CriticTrace
from mamt_jax.ops import divergences, losses
from mamt_jax.ops.masking import masked_mean
from mamt_jax.types import Algorithm, Batch, Metrics, Params


class LearnerState(NamedTuple):
    """Everything that learns, for one seed."""

    actor: Optimised
    target_actor: Params
    old_actor: Params
    critic: Optimised
    target_critic: Params
    norm: layers.NormState
    region: Any


def actor_critic(
    name: str, networks: Networks, hyper: AlgorithmConfig, region: TrustRegion
) -> Algorithm:
    """An attention actor-critic under a trust region, as pure functions."""
    parts = ActorCritic(networks, hyper, region)
    return Algorithm(name, parts.init, parts.act, parts.greedy, parts.update)


@dataclass(frozen=True)
class ActorCritic(Learner):
    """The update, step by step (Algorithm 2)."""

    region: TrustRegion

    def init(self, key: jax.Array) -> LearnerState:
        """State before any update."""
        networks = self.networks
        actor_key, critic_key, region_key = jax.random.split(key, 3)
        x = networks.no_obs()
        actor = networks.init_actor(actor_key)
        action = jnp.zeros((*x.shape[:2], networks.game.num_actions))
        critic = networks.init_critic(critic_key, x, action)
        return LearnerState(
            actor=actor,
            target_actor=actor.params,
            old_actor=actor.params,
            critic=critic,
            target_critic=critic.params,
            norm=layers.init_norm(len(x), x.shape[-1]),
            region=self.region.init(region_key),
        )

    def update(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """One update of everything that learns."""
        hyper = self.hyper
        target_key, action_key, region_key = jax.random.split(key, 3)
        batch = agent_major(batch)
        alive = batch.sample.alive
        x, stats = layers.batch_norm(batch.sample.obs, alive)
        critic_gradient, trace, metrics = self._critic_gradient(state, target_key, x, batch)
        view = self._view(state, region_key, x, batch, trace)
        region, memo, more = self.region.observe(state.region, view)
        metrics |= more
        critic = step(self.networks.critic_optimiser, state.critic, critic_gradient)
        actor, gradients, more = self._policy_step(
            state.actor, region, critic.params, action_key, view
        )
        metrics |= more
        region, more = self.region.adapt(region, memo, gradients, count)
        metrics |= more
        refresh = (count + 1) % hyper.old_policy_period == 0
        state = LearnerState(
            actor=actor,
            target_actor=blend(state.target_actor, actor.params, hyper.target_tau),
            old_actor=jax.lax.cond(
                refresh, lambda new, old: new, lambda new, old: old, actor.params, state.old_actor
            ),
            critic=critic,
            target_critic=blend(state.target_critic, critic.params, hyper.target_tau),
            norm=layers.update_norm(state.norm, stats, alive),
            region=region,
        )
        return state, metrics

    def _critic_gradient(
        self, state: LearnerState, key: jax.Array, x: jax.Array, batch: Batch
    ) -> tuple[Params, CriticTrace, Metrics]:
        """Gradient of Eq. 9 and, from the same pass, the critic's trace."""
        action, alive = batch.sample.action, batch.sample.alive
        encoded, _ = self.networks.encode(action, alive)
        gradient, trace, metrics = critic_regression(
            self.networks,
            state.critic.params,
            x,
            encoded,
            action,
            self._td_target(state, key, batch),
            alive,
            losses.squared_error,
            self.hyper.critic_regularisation,
        )
        return gradient, trace, metrics | reward_moments(batch)

    def _td_target(self, state: LearnerState, key: jax.Array, batch: Batch) -> jax.Array:
        """Targets ``[n, B]`` from target policies and target critics on standardised rewards.

        The successor of an agent's last step is an observation like others, but nobody attends to
        the agent there any more. One that is cut off while others stay counts as still there.
        """
        networks, sample = self.networks, batch.sample
        x, _ = layers.batch_norm(sample.next_obs, sample.alive)
        policy = distrax.Categorical(logits=networks.logits(state.target_actor, x)[0])
        action, log_prob = policy.sample_and_log_prob(seed=key)
        encoded, _ = networks.encode(action, sample.alive)
        staying = None if sample.alive is None else sample.alive & ~sample.terminated
        q = networks.values(state.target_critic, x, encoded, staying)
        return losses.td_target(
            standardised_reward(batch),
            self.hyper.discount,
            sample.terminated,
            losses.select(q, action),
            log_prob,
            1.0 / self.hyper.soft_reward_scale,
        )

    def _view(
        self,
        state: LearnerState,
        key: jax.Array,
        x: jax.Array,
        batch: Batch,
        trace: CriticTrace,
    ) -> View:
        """What the trust region may see before any network steps."""
        networks, recent, recent_x = self.networks, batch.sample, x
        if batch.recent is not None:
            recent = batch.recent
            recent_x, _ = layers.batch_norm(recent.obs, recent.alive)
        encoded, stats = networks.encode(batch.sample.action, batch.sample.alive)
        size = networks.game.num_actions
        one_hot = jnp.broadcast_to(jnp.eye(size), (networks.game.num_agents, size, size))
        return View(
            key=key,
            x=x,
            action=batch.sample.action,
            encoded_action=encoded,
            action_encoding=layers.apply_norm(stats, one_hot),
            log_policy=networks.log_policy(state.actor.params, x),
            log_old_policy=networks.log_policy(state.old_actor, x),
            critic_params=state.critic.params,
            trace=trace,
            recent_x=recent_x,
            recent_action=recent.action,
            alive=batch.sample.alive,
            recent_alive=recent.alive,
        )

    def _policy_step(
        self,
        actor: Optimised,
        region: Any,
        critic_params: Params,
        key: jax.Array,
        view: View,
    ) -> tuple[Optimised, PolicyGradients, Metrics]:
        """Mirror descent on the policies (Eq. 10), with actions drawn afresh from all of them."""
        networks, hyper = self.networks, self.hyper
        policy, alive = distrax.Categorical(logits=view.log_policy), view.alive
        action = policy.sample(seed=key)
        encoded, _ = networks.encode(action, alive)
        q = networks.values(critic_params, view.x, encoded, alive)
        advantage = losses.counterfactual_advantage(q, view.log_policy, action)
        log_prob = losses.select(view.log_policy, action)
        log_old = losses.select(view.log_old_policy, action)
        weight = self.region.penalty(region, log_prob, log_old) - advantage

        def score(params: Params, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
            """E[log π_i · weight_i] and the mean square of π_i's logits, ``[n]`` each."""
            masked, raw = networks.logits(params, view.x)
            chosen = losses.select(jax.nn.log_softmax(masked), action)
            square = losses.mean_square_logit(raw, networks.game.action_counts, alive)
            return losses.score_function_loss(chosen, weight, alive), square

        def loss(params: Params) -> tuple[jax.Array, jax.Array]:
            objective, square = score(params, weight)
            return jnp.sum(objective + hyper.logit_regularisation * square), objective

        (_, objective), gradient = jax.value_and_grad(loss, has_aux=True)(actor.params)
        updates, opt_state = networks.actor_optimiser.update(
            gradient, actor.opt_state, actor.params
        )
        divergence = divergences.tsallis_divergence(log_prob, log_old, hyper.tsallis_q)

        def value_term() -> jax.Array:
            grad = jax.grad(lambda params, weight: jnp.sum(score(params, weight)[0]))
            scale = preconditioner(opt_state, gradient, networks.adam, hyper.policy_clip)
            pull = jax.tree.map(jnp.multiply, scale, grad(actor.params, divergence))
            return agent_inner(grad(actor.params, advantage), pull)

        surrogate = masked_mean(log_prob * divergence, alive, axis=-1)
        metrics = policy_metrics(objective, gradient, view.log_policy, alive) | drift(view)
        stepped = Optimised(optax.apply_updates(actor.params, updates), opt_state)
        return stepped, PolicyGradients(value_term, surrogate), metrics
