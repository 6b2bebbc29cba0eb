"""Coordination coefficients from a critic: who matters to whom."""

from __future__ import annotations

import distrax
import jax
import jax.numpy as jnp

from mamt_jax.algorithms.learned_region import Coordination
from mamt_jax.algorithms.learner import Networks
from mamt_jax.algorithms.trust_region import View
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks.critic import AttentionCritic, CriticTrace
from mamt_jax.ops.chunking import chunk_count, in_chunks
from mamt_jax.ops.coordination import (
    coordination_coefficients,
    opponent_softmax,
    relative_scores,
)
from mamt_jax.ops.losses import select_output
from mamt_jax.ops.masking import alive_pairs, masked, masked_mean, off_diagonal
from mamt_jax.types import Metrics


def critic_coordination(networks: Networks, hyper: AlgorithmConfig) -> Coordination:
    """C_ij from the critic, by Eq. 5 or as the authors' released code has it.

    Eq. 5 puts |Q_i(a\\j) − Q_i(a)| into a softmax and so depends on the units of Q. With
    standardised rewards a single action of a single step moves Q by about 0.01, and the softmax of
    such numbers is flat whatever the game. ``coordination_units="relative"`` measures the effects
    in units of their own mean, so that the softmax sees their ratios; ``"raw"`` takes Q as it is.

    The released code scores |Q_i(a) − V_j(o)| at actions drawn from the current policies, and takes
    the softmax over i: what the others' values say about j, not what i's says about the others.
    """
    (threshold, units), released = hyper.coordination_scale, hyper.coordination == "released"

    def coordination(view: View) -> tuple[jax.Array, Metrics]:
        (num_agents, batch), alive = view.action.shape, view.alive
        if num_agents == 2:  # a softmax over one opponent is 1, whatever the score
            unknown = jnp.zeros((2, 2, batch))
            return coordination_coefficients(unknown, threshold, alive), {}
        pairs = alive_pairs(alive)
        score = _released if released else _counterfactual
        effect = scaled = masked(score(networks, view), pairs)
        if units == "relative":
            scaled = relative_scores(effect, alive)
        axis = 0 if released else 1
        weights = coordination_coefficients(scaled, threshold, alive, axis)
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


def _counterfactual(networks: Networks, view: View) -> jax.Array:
    """|Q_i(a\\j) − Q_i(a)| ``[n, n, B]``, exact, at the replay's actions."""
    critic = networks.critic

    def effect(trace: CriticTrace, action: jax.Array, policy: jax.Array) -> tuple[jax.Array]:
        method = AttentionCritic.counterfactual_effect
        arguments = trace, action, policy, view.action_encoding, view.alive
        return (critic.apply(view.critic_params, *arguments, method=method),)

    num_agents, batch, num_actions = view.log_policy.shape
    chunks = chunk_count(batch, num_agents * num_actions * networks.hidden_size, view.alive)
    chunked = in_chunks(effect, chunks, in_axes=(-2, -1, -2), out_axes=(-1,))
    return chunked(view.trace, view.action, jnp.exp(view.log_policy))[0]


def _released(networks: Networks, view: View) -> jax.Array:
    """|Q_i(a) − V_j(o, a_{-j})| ``[n, n, B]``, a drawn from the current policies.

    V_j is the mean of Q_j over j's own actions. A critic of one output has left these out already:
    its value is both.
    """
    action = distrax.Categorical(logits=view.log_policy).sample(seed=view.key)
    encoded, _ = networks.encode(action, view.alive)
    q_all = networks.values(view.critic_params, view.x, encoded, view.alive)
    value = select_output(q_all, action)
    baseline = value
    if q_all.shape[-1] > 1:
        baseline = jnp.sum(jnp.exp(view.log_policy) * q_all, axis=-1)
    score = jnp.abs(value[:, None] - baseline[None])
    return masked(score, off_diagonal(len(value)))
