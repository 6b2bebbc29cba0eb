"""Coordination coefficients from a critic: who matters to whom."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mamt_jax.algorithms.learned_region import Coordination
from mamt_jax.algorithms.trust_region import View
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks.critic import AttentionCritic, CriticTrace
from mamt_jax.ops.chunking import chunk_count, in_chunks
from mamt_jax.ops.coordination import (
    coordination_coefficients,
    opponent_softmax,
    relative_scores,
)
from mamt_jax.ops.losses import select
from mamt_jax.ops.masking import alive_pairs, masked, masked_mean
from mamt_jax.types import Metrics


def critic_coordination(critic: AttentionCritic, hyper: AlgorithmConfig) -> Coordination:
    """C_ij of Eq. 5 from how much agent j's action moves agent i's critic.

    Eq. 5 puts |Q_i(a\\j) − Q_i(a)| into a softmax and so depends on the units of Q. With
    standardised rewards a single action of a single step moves Q by about 0.01, and the softmax of
    such numbers is flat whatever the game. ``coordination_units="relative"`` measures the effects
    in units of their own mean, so that the softmax sees their ratios; ``"raw"`` takes Q as it is.
    """
    score = _counterfactual if hyper.coordination == "counterfactual" else _released

    def coordination(view: View) -> tuple[jax.Array, Metrics]:
        (num_agents, batch), alive = view.action.shape, view.alive
        pairs = alive_pairs(alive)
        if num_agents == 2:  # a softmax over one opponent is 1, whatever the score
            unknown = jnp.zeros((2, 2, batch))
            return coordination_coefficients(unknown, hyper.coordination_threshold, alive), {}
        effect = scaled = masked(score(critic, view), pairs)
        if hyper.coordination_units == "relative":
            scaled = relative_scores(effect, alive)
        weights = coordination_coefficients(scaled, hyper.coordination_threshold, alive)
        return weights, {"coordination_score": masked_mean(effect, pairs, axis=-1)}

    return coordination


def random_coordination(view: View) -> tuple[jax.Array, Metrics]:
    """MAMT-Random's C: a softmax of draws from U(0, 1), anew for every sample (Appendix H)."""
    num_agents, batch = view.action.shape
    draws = jax.random.uniform(view.key, (num_agents, num_agents, batch))
    return opponent_softmax(draws, view.alive), {}


def fixed_coordination(view: View) -> tuple[jax.Array, Metrics]:
    """MAMT-Fixed's C_ij = 1/(n − 1), n counting the agents that are there (Appendix H)."""
    num_agents, batch = view.action.shape
    return opponent_softmax(jnp.zeros((num_agents, num_agents, batch)), view.alive), {}


def _counterfactual(critic: AttentionCritic, view: View) -> jax.Array:
    """|Q_i(a\\j) − Q_i(a)| ``[n, n, B]``, exact."""

    def effect(trace: CriticTrace, action: jax.Array, policy: jax.Array) -> tuple[jax.Array]:
        method = AttentionCritic.counterfactual_effect
        arguments = trace, action, policy, view.action_encoding, view.alive
        return (critic.apply(view.critic_params, *arguments, method=method),)

    num_agents, batch, num_actions = view.log_policy.shape
    chunks = chunk_count(batch, num_agents * num_actions * critic.hidden_size, view.alive)
    chunked = in_chunks(effect, chunks, in_axes=(-2, -1, -2), out_axes=(-1,))
    return chunked(view.trace, view.action, jnp.exp(view.log_policy))[0]


def _released(critic: AttentionCritic, view: View) -> jax.Array:
    """|Q_i(a) − V_j(o, a)| ``[n, n, B]``, as the authors' released code scores pairs."""
    q = select(view.trace.q, view.action)
    value = jnp.sum(jnp.exp(view.log_policy) * view.trace.q, axis=-1)
    others = 1.0 - jnp.eye(len(q))[:, :, None]
    return others * jnp.abs(q[:, None] - value[None])
