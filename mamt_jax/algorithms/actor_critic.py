"""The off-policy actor-critic of MAAC, MAMD and MAMT; a trust region makes the difference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp
import optax

from mamt_jax.algorithms.optimisers import (
    AdamSettings,
    Optimised,
    agent_inner,
    agent_norms,
    blend,
    clipped_adam,
    per_agent,
    preconditioner,
    step,
)
from mamt_jax.algorithms.trust_region import PolicyGradients, TrustRegion, View
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks import layers
from mamt_jax.networks.critic import SHARED_OVER_AGENTS, AttentionCritic, CriticTrace
from mamt_jax.networks.policies import Actor, mask_logits
from mamt_jax.ops import divergences, losses
from mamt_jax.ops.chunking import chunk_count, in_chunks
from mamt_jax.ops.masking import masked, masked_mean, seen
from mamt_jax.types import Algorithm, Batch, Metrics, Params, Transition


class LearnerState(NamedTuple):
    """Everything that learns, for one seed."""

    actor: Optimised
    target_actor: Params
    old_actor: Params
    critic: Optimised
    target_critic: Params
    norm: layers.NormState
    region: Any


class Networks(NamedTuple):
    """The modules and optimizers of an actor-critic, with the sizes they were built for."""

    actor: Actor
    critic: AttentionCritic
    actor_optimiser: optax.GradientTransformation
    critic_optimiser: optax.GradientTransformation
    adam: AdamSettings
    obs_sizes: tuple[int, ...]
    action_counts: tuple[int, ...]

    @property
    def num_agents(self) -> int:
        """n."""
        return len(self.obs_sizes)

    @property
    def num_actions(self) -> int:
        """A."""
        return max(self.action_counts)

    def logits(self, params: Params, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The actors' logits ``[n, B, A]``: with impossible actions masked, and raw."""
        raw = self.actor.apply(params, x)
        return mask_logits(raw, self.action_counts), raw

    def encode(
        self, action: jax.Array, alive: jax.Array | None
    ) -> tuple[jax.Array, layers.NormState]:
        """Batch-normalised one-hot actions ``[n, B, A]`` and their statistics."""
        return layers.batch_norm(jax.nn.one_hot(action, self.num_actions), alive)

    def chunks(self, x: jax.Array, alive: jax.Array | None) -> int:
        """Chunks in which to go through observations ``[n, B, O]``."""
        return chunk_count(x.shape[1], self.num_agents * self.critic.hidden_size, alive)

    def values(
        self, params: Params, x: jax.Array, action: jax.Array, alive: jax.Array | None
    ) -> jax.Array:
        """The critics' Q ``[n, B, A]`` at normalised observations and encoded actions."""

        def apply(x: jax.Array, action: jax.Array) -> tuple[jax.Array]:
            return (self.critic.apply(params, x, action, alive).q,)

        return in_chunks(apply, self.chunks(x, alive), (-2, -2), (-2,))(x, action)[0]


def build_networks(
    obs_sizes: tuple[int, ...], action_counts: tuple[int, ...], hyper: AlgorithmConfig
) -> Networks:
    """Modules and optimizers for these observation and action sizes."""
    num_actions, hidden = max(action_counts), hyper.hidden_size
    adam = AdamSettings(hyper.learning_rate, hyper.adam_b1, hyper.adam_eps)
    critic_clip = hyper.critic_clip_per_agent * len(obs_sizes)
    return Networks(
        Actor(obs_sizes, num_actions, hidden),
        AttentionCritic(obs_sizes, num_actions, hidden, hyper.attention_heads),
        per_agent(clipped_adam(adam, hyper.policy_clip)),
        clipped_adam(adam, critic_clip, hyper.critic_weight_decay),
        adam,
        obs_sizes,
        action_counts,
    )


def actor_critic(
    name: str, networks: Networks, hyper: AlgorithmConfig, region: TrustRegion
) -> Algorithm:
    """An attention actor-critic under a trust region, as pure functions."""
    parts = ActorCritic(networks, hyper, region)
    return Algorithm(name, parts.init, parts.act, parts.greedy, parts.update)


@dataclass(frozen=True)
class ActorCritic:
    """The update, step by step (Algorithm 2)."""

    networks: Networks
    hyper: AlgorithmConfig
    region: TrustRegion

    def init(self, key: jax.Array) -> LearnerState:
        """State before any update."""
        networks = self.networks
        actor_key, critic_key, region_key = jax.random.split(key, 3)
        x = jnp.zeros((networks.num_agents, 1, max(networks.obs_sizes)))
        action = jnp.zeros((networks.num_agents, 1, networks.num_actions))
        actor = networks.actor.init(actor_key, x)
        critic = networks.critic.init(critic_key, x, action)
        return LearnerState(
            actor=Optimised(actor, networks.actor_optimiser.init(actor)),
            target_actor=actor,
            old_actor=actor,
            critic=Optimised(critic, networks.critic_optimiser.init(critic)),
            target_critic=critic,
            norm=layers.init_norm(networks.num_agents, x.shape[-1]),
            region=self.region.init(region_key),
        )

    def policy(self, state: LearnerState, obs: jax.Array) -> distrax.Categorical:
        """Policies of all agents at observations ``[E, n, O]``, batch shape ``[n, E]``."""
        x = layers.apply_norm(state.norm, jnp.swapaxes(obs, 0, 1))
        return distrax.Categorical(logits=self.networks.logits(state.actor.params, x)[0])

    def act(self, state: LearnerState, key: jax.Array, obs: jax.Array) -> jax.Array:
        """Sampled actions int32 ``[E, n]``."""
        return self.policy(state, obs).sample(seed=key).T

    def greedy(self, state: LearnerState, obs: jax.Array) -> jax.Array:
        """Most probable actions int32 ``[E, n]``."""
        return self.policy(state, obs).mode().T

    def update(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """One update of everything that learns."""
        hyper = self.hyper
        target_key, action_key = jax.random.split(key)
        batch = agent_major(batch)
        alive = batch.sample.alive
        x, stats = layers.batch_norm(batch.sample.obs, alive)
        critic_gradient, trace, metrics = self._critic_gradient(state, target_key, x, batch)
        view = self._view(state, x, batch, trace)
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
        networks = self.networks
        action, alive = batch.sample.action, batch.sample.alive
        encoded, _ = networks.encode(action, alive)
        target = self._td_target(state, key, batch)

        def loss(params: Params, x: jax.Array, *sample: jax.Array) -> tuple[jax.Array, Any]:
            encoded, action, target = sample
            trace = networks.critic.apply(params, x, encoded, alive)
            q = losses.select(trace.q, action)
            error = masked_mean((q - target) ** 2, alive, axis=-1)
            penalty = losses.attention_penalty(trace.logits, alive)
            metrics = {
                "critic_loss": error,
                "q_mean": masked_mean(q, alive, axis=-1),
                "attention_entropy": _attention_entropy(trace.weights, alive),
            }
            return jnp.sum(error + self.hyper.critic_regularisation * penalty), (trace, metrics)

        def learn(*sample: jax.Array) -> tuple[Params, CriticTrace, Metrics]:
            grad = jax.value_and_grad(loss, has_aux=True)
            (_, (trace, metrics)), gradient = grad(state.critic.params, *sample)
            return gradient, trace, metrics

        chunked = in_chunks(
            learn, networks.chunks(x, alive), in_axes=(-2, -2, -1, -1), out_axes=(None, -2, None)
        )
        gradient, trace, metrics = chunked(x, encoded, action, target)
        gradient = scale_shared(gradient, networks.num_agents)
        metrics |= {
            "critic_grad_norm": optax.tree.norm(gradient),
            "reward_mean": batch.reward_mean,
            "reward_std": batch.reward_std,
        }
        return gradient, trace, metrics

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
            (sample.reward - batch.reward_mean[:, None]) / batch.reward_std[:, None],
            self.hyper.discount,
            sample.terminated,
            losses.select(q, action),
            log_prob,
            1.0 / self.hyper.soft_reward_scale,
        )

    def _view(self, state: LearnerState, x: jax.Array, batch: Batch, trace: CriticTrace) -> View:
        """What the trust region may see before any network steps."""
        networks = self.networks
        action, alive = batch.sample.action, batch.sample.alive
        recent, recent_x = batch.sample, x
        if batch.recent is not None:
            recent = batch.recent
            recent_x, _ = layers.batch_norm(recent.obs, recent.alive)
        encoded, stats = networks.encode(action, alive)
        size = networks.num_actions
        one_hot = jnp.broadcast_to(jnp.eye(size), (networks.num_agents, size, size))
        return View(
            x=x,
            action=action,
            encoded_action=encoded,
            action_encoding=layers.apply_norm(stats, one_hot),
            log_policy=jax.nn.log_softmax(networks.logits(state.actor.params, x)[0]),
            log_old_policy=jax.nn.log_softmax(networks.logits(state.old_actor, x)[0]),
            critic_params=state.critic.params,
            trace=trace,
            recent_x=recent_x,
            recent_action=recent.action,
            alive=alive,
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
            """E[log π_i · weight_i] and the raw logits' mean square, ``[n]`` each."""
            masked, raw = networks.logits(params, view.x)
            chosen = losses.select(jax.nn.log_softmax(masked), action)
            square = masked_mean(raw**2, alive, axis=(1, 2))
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
        metrics = {
            "policy_loss": objective,
            "policy_grad_norm": agent_norms(gradient),
            "entropy": masked_mean(policy.entropy(), alive, axis=-1),
        }
        stepped = Optimised(optax.apply_updates(actor.params, updates), opt_state)
        return stepped, PolicyGradients(value_term, surrogate), metrics | _drift(view)


def agent_major(batch: Batch) -> Batch:
    """Transitions as ``[n, B, ...]``, with zeros in all that an absent agent is said to have done.

    What is left of such an agent's row cannot reach anything: not even as 0 · NaN.
    """

    def turn(transition: Transition) -> Transition:
        rows = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), transition)
        return jax.tree.map(lambda leaf: masked(leaf, rows.alive), rows)

    recent = None if batch.recent is None else turn(batch.recent)
    return batch._replace(sample=turn(batch.sample), recent=recent)


def scale_shared(gradient: Params, num_agents: int) -> Params:
    """Divides by n the gradient of what all agents' losses reach (as the released code does)."""
    scaled = {
        module: jax.tree.map(lambda leaf: leaf / num_agents, leaves)
        if module in SHARED_OVER_AGENTS
        else leaves
        for module, leaves in gradient["params"].items()
    }
    return {"params": scaled}


def _attention_entropy(weights: jax.Array, alive: jax.Array | None) -> jax.Array:
    """Mean entropy of each agent's attention, per head: ``[n, n, B, K] -> [n, K]``, nats."""
    return masked_mean(jnp.sum(jax.scipy.special.entr(weights), axis=1), alive, axis=1)


def _drift(view: View) -> Metrics:
    """How far the policies are from those of the last refresh (Definitions 2 and 3).

    These two are the consecutive policies of mirror descent, whose iteration is m updates long.
    """
    local = divergences.categorical_kl(view.log_policy, view.log_old_policy)
    shift = divergences.categorical_kl(view.log_old_policy, view.log_policy)
    switching = divergences.opponent_switching_cost(shift, view.alive)
    return {
        "local_kl": masked_mean(local, view.alive, axis=-1),
        "switching_cost": switching,
        "delta_stationarity": masked_mean(switching, seen(view.alive, axis=1), axis=0),
    }
