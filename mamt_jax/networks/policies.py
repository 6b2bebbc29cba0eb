"""Actors and modelling policies (Fig. 11, top left)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.networks.layers import AgentDense, AgentOutput, leaky_relu
from mamt_jax.ops.coordination import opponents

MASKED_LOGIT = -1e9


def mask_logits(logits: jax.Array, action_counts: Sequence[int] | np.ndarray) -> jax.Array:
    """Rules out actions that an agent does not have; a no-op where all have A.

    Args:
      logits: ``[..., A]``.
      action_counts: number of actions, for the leading axes of ``logits``.
    """
    counts, width = np.asarray(action_counts), logits.shape[-1]
    if (counts == width).all():
        return logits
    counts = counts.reshape(counts.shape + (1,) * (logits.ndim - counts.ndim))
    return jnp.where(np.arange(width) < counts, logits, MASKED_LOGIT)


class Actor(nn.Module):
    """π_ψi(a | o_i): normalised observation -> H -> H -> logits, parameters per agent."""

    obs_sizes: tuple[int, ...]
    num_actions: int
    hidden_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalised observations ``[n, B, O]`` -> unmasked logits ``[n, B, A]``."""
        x = leaky_relu(AgentDense(self.hidden_size, self.obs_sizes)(x))
        x = leaky_relu(AgentDense(self.hidden_size)(x))
        return AgentOutput(self.num_actions, name="out")(x)


class ModellingPolicy(nn.Module):
    """h_φi(a_j | o_i, j): agent i's prediction of opponent j's action from its own observation.

    As the actor, with one-hot(j) behind the normalised observation. The observation's share of
    the first layer does not depend on j and is computed once.
    """

    obs_sizes: tuple[int, ...]
    num_actions: int
    hidden_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, B, O]`` -> unmasked logits ``[n, n − 1, B, A]``, opponents as ``ops.opponents``."""
        num_agents = x.shape[0]
        fan_in = tuple(size + num_agents for size in self.obs_sizes)
        index = jnp.eye(num_agents)[opponents(num_agents)]
        first = AgentDense(self.hidden_size, fan_in, name="obs")(x)[:, None]
        first += AgentDense(self.hidden_size, fan_in, use_bias=False, name="agent")(index)[
            :, :, None
        ]
        x = leaky_relu(AgentDense(self.hidden_size)(leaky_relu(first)))
        return AgentOutput(self.num_actions, name="out")(x)
