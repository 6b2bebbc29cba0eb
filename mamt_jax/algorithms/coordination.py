"""Coordination coefficients from a critic: who matters to whom."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.algorithms.learned_region import Coordination
from mamt_jax.algorithms.trust_region import View
from mamt_jax.networks.critic import AttentionCritic
from mamt_jax.ops.coordination import coordination_coefficients
from mamt_jax.ops.losses import select


def counterfactual_coordination(critic: AttentionCritic, threshold: float) -> Coordination:
    """C_ij of Eq. 5, from the exact marginal of agent j's action in agent i's critic."""

    def coordination(view: View) -> jax.Array:
        num_agents, batch = view.action.shape
        if num_agents == 2:
            return jnp.ones((2, 2, batch)) - np.eye(2)[:, :, None]  # a softmax over one opponent
        effect = critic.apply(
            view.critic_params,
            view.trace,
            view.action,
            jnp.exp(view.log_policy),
            view.action_encoding,
            method=AttentionCritic.counterfactual_effect,
        )
        return coordination_coefficients(effect, threshold)

    return coordination


def released_coordination(threshold: float) -> Coordination:
    """The authors' released code: |Q_i(a) − V_j(o, a)| in place of the counterfactual effect."""

    def coordination(view: View) -> jax.Array:
        q = select(view.trace.q, view.action)
        value = jnp.sum(jnp.exp(view.log_policy) * view.trace.q, axis=-1)
        return coordination_coefficients(jnp.abs(q[:, None] - value[None]), threshold)

    return coordination
