"""The off-policy actor-critic of MAAC, MAMD and MAMT; a trust region makes the difference."""

from __future__ import annotations

from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.algorithms.critic_learner import CriticLearner
from mamt_jax.algorithms.critics import regression, values
from mamt_jax.algorithms.learner import (
    Actors,
    agent_major,
    batch_major,
    policy_metrics,
    reward_moments,
    standardised_reward,
)
from mamt_jax.algorithms.optimisers import Optimised, agent_inner, blend, preconditioner, step
from mamt_jax.algorithms.parts import Critic, PolicyGradients, Samples, TrustRegion, View
from mamt_jax.algorithms.trust_region import local_kl, policy_change
from mamt_jax.networks import layers
from mamt_jax.ops import divergences, losses
from mamt_jax.ops.masking import masked_mean
from mamt_jax.settings import Learning, MirrorDescent, Settings, SoftActorCritic, TargetNetworks
from mamt_jax.types import Algorithm, Batch, Metrics, Params


class LearnerState(NamedTuple):
    """Everything that learns, for one seed."""

    actor: Optimised
    target_actor: Params
    old_actor: Params
    critic: Optimised
    target_critic: Params
    norm: layers.NormState
    action_norm: layers.NormState
    region: Any


def actor_critic(
    name: str, actors: Actors, critic: Critic, region: TrustRegion, settings: Settings
) -> Algorithm:
    """An off-policy actor-critic, as pure functions.

    Agents with a trust region do mirror descent in it (Li et al. 2022, Eq. 10), the others have
    soft policies (Iqbal & Sha 2019).

    Args:
      name: of the algorithm.
      actors: policies.
      critic: with a value for every own action.
      region: trust region.
      settings: of the algorithm.
    """
    parts = ActorCritic(actors, settings, critic, region)
    return Algorithm(name, parts.init, parts.act, parts.greedy, parts.update, inspect=parts.inspect)


class ActorCritic(CriticLearner):
    """The update, step by step (Algorithm 2)."""

    @property
    def own(self) -> SoftActorCritic:
        """Settings of this actor-critic."""
        return self.settings[SoftActorCritic]

    def init(self, key: jax.Array) -> LearnerState:
        """State before any update."""
        game = self.game
        actor_key, critic_key, region_key = jax.random.split(key, 3)
        actor = self.actors.init(actor_key)
        critic = self.new_critic(self.critic.init(critic_key))
        return LearnerState(
            actor=actor,
            target_actor=actor.params,
            old_actor=actor.params,
            critic=critic,
            target_critic=critic.params,
            norm=layers.init_norm(game.num_agents, game.obs_size),
            action_norm=layers.init_norm(game.num_agents, game.num_actions),
            region=self.region.init(region_key),
        )

    def update(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """One update of everything that learns."""
        target_key, action_key, region_key = jax.random.split(key, 3)
        batch = agent_major(batch)
        view = self._view_of_batch(state, region_key, batch)
        target = self._td_target(state, target_key, batch)
        error, penalty = losses.squared_error, self.own.critic_regularisation
        critic_gradient, view, metrics = regression(self.critic, view, target, error, penalty)
        region, view, more = self.region.observe(state.region, view)
        critic = step(self.critic_optimiser, state.critic, critic_gradient)
        metrics |= more | reward_moments(batch)
        actor, gradients, more = self._policy_step(
            state.actor, region, critic.params, action_key, view
        )
        metrics |= more
        region, more = self.region.adapt(region, view, gradients, count)
        return self._advance(state, actor, critic, region, view, count), metrics | more

    def inspect(
        self, state: LearnerState, obs: jax.Array, action: jax.Array, alive: jax.Array | None
    ) -> dict[str, jax.Array]:
        """See ``Algorithm.inspect``; Q, V and advantages in standard deviations of the reward."""
        view = self.seen(state, obs, action, alive)
        assert view.trace is not None
        q, policy = view.trace.q, jnp.exp(view.log_policy)
        found = self.described(state, view) | {
            "q": q,
            "value": jnp.sum(policy * q, axis=-1),
            "advantage": losses.counterfactual_advantage(q, view.log_policy, view.action),
            "local_kl": local_kl(view),
        }
        return batch_major(found, view.alive)

    def log_old_policy(self, state: LearnerState, x: jax.Array, log_policy: jax.Array) -> jax.Array:
        """log π_old ``[n, B, A]``, of the last refresh."""
        return self.actors.log_policy(state.old_actor, x)

    def _view_of_batch(self, state: LearnerState, key: jax.Array, batch: Batch) -> View:
        """What parts see of an agent-major batch."""
        obs, action, alive = batch.sample.obs, batch.sample.action, batch.sample.alive
        one_hot = jax.nn.one_hot(action, self.game.num_actions)
        norms = layers.statistics(obs, alive), layers.statistics(one_hot, alive)
        view, recent = self.view(state, key, obs, action, alive, *norms), batch.recent
        if recent is None:
            return view
        x, _ = layers.batch_norm(recent.obs, recent.alive)
        return view._replace(recent=Samples(x, recent.action, recent.alive))

    def _td_target(self, state: LearnerState, key: jax.Array, batch: Batch) -> jax.Array:
        """Targets ``[n, B]`` from target policies and target critics on standardised rewards.

        The successor of an agent's last step is an observation like others, but nobody attends to
        the agent there any more. One that is cut off while others stay counts as still there.
        """
        sample = batch.sample
        x, _ = layers.batch_norm(sample.next_obs, sample.alive)
        policy = distrax.Categorical(logits=self.actors.logits(state.target_actor, x)[0])
        action, log_prob = policy.sample_and_log_prob(seed=key)
        encoded, _ = self.encode(action, sample.alive)
        staying = None if sample.alive is None else sample.alive & ~sample.terminated
        q = values(self.critic, state.target_critic, x, encoded, staying)
        return losses.td_target(
            standardised_reward(batch),
            self.settings[Learning].discount,
            sample.terminated,
            losses.select(q, action),
            log_prob,
            1.0 / self.own.soft_reward_scale,
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
        actors, learning, alive = self.actors, self.settings[Learning], view.alive
        action = distrax.Categorical(logits=view.log_policy).sample(seed=key)
        encoded, _ = self.encode(action, alive)
        q = values(self.critic, critic_params, view.x, encoded, alive)
        advantage = losses.counterfactual_advantage(q, view.log_policy, action)
        log_prob = losses.select(view.log_policy, action)
        log_old = losses.select(view.log_old_policy, action)
        divergence = self._divergence(log_prob, log_old)
        weight = self._penalty(region, log_prob, divergence) - advantage

        def score(params: Params, weight: jax.Array) -> tuple[jax.Array, jax.Array]:
            """E[log π_i · weight_i] and the mean square of π_i's logits, ``[n]`` each."""
            masked, raw = actors.logits(params, view.x)
            chosen = losses.select(jax.nn.log_softmax(masked), action)
            square = losses.mean_square_logit(raw, self.game.action_counts, alive)
            return losses.score_function_loss(chosen, weight, alive), square

        def loss(params: Params) -> tuple[jax.Array, jax.Array]:
            objective, square = score(params, weight)
            return jnp.sum(objective + learning.logit_regularisation * square), objective

        (_, objective), gradient = jax.value_and_grad(loss, has_aux=True)(actor.params)
        stepped = step(actors.optimiser, actor, gradient)

        def value_term() -> jax.Array:
            grad = jax.grad(lambda params, weight: jnp.sum(score(params, weight)[0]))
            scale = preconditioner(stepped.opt_state, gradient, actors.adam, actors.clip)
            pull = jax.tree.map(jnp.multiply, scale, grad(actor.params, divergence))
            return agent_inner(grad(actor.params, advantage), pull)

        surrogate = masked_mean(log_prob * divergence, alive, axis=-1)
        metrics = policy_metrics(objective, gradient, view.log_policy, alive) | policy_change(view)
        return stepped, PolicyGradients(value_term, surrogate), metrics

    def _divergence(self, log_prob: jax.Array, log_old: jax.Array) -> jax.Array:
        """What mirror descent keeps small, at sampled actions; KL's where nobody has a region."""
        q = self.settings[MirrorDescent].tsallis_q if MirrorDescent in self.settings else 1.0
        return divergences.tsallis_divergence(log_prob, log_old, q)

    def _penalty(self, region: Any, log_prob: jax.Array, divergence: jax.Array) -> jax.Array:
        """What weighs log π beside −A ``[n, B]``: KL_i/δ_i, or α log π_i where there is no δ_i."""
        constrained = np.asarray(self.region.constrained)
        soft = 1.0 / self.own.soft_reward_scale * log_prob
        if not constrained.any():
            return soft
        mirror = divergence / self.region.delta(region)[:, None]
        return mirror if constrained.all() else jnp.where(constrained[:, None], mirror, soft)

    def _advance(
        self,
        state: LearnerState,
        actor: Optimised,
        critic: Optimised,
        region: Any,
        view: View,
        count: jax.Array,
    ) -> LearnerState:
        """The state with what has stepped, and what follows it."""
        tau = self.settings[TargetNetworks].target_tau
        refresh = (count + 1) % self.own.old_policy_period == 0
        return LearnerState(
            actor=actor,
            target_actor=blend(state.target_actor, actor.params, tau),
            old_actor=jax.lax.cond(
                refresh, lambda new, old: new, lambda new, old: old, actor.params, state.old_actor
            ),
            critic=critic,
            target_critic=blend(state.target_critic, critic.params, tau),
            norm=layers.update_norm(state.norm, view.obs_norm, view.alive),
            action_norm=layers.update_norm(state.action_norm, view.action_norm, view.alive),
            region=region,
        )
