"""Critics that see everything at once: one multilayer perceptron per agent on joint inputs."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from mamt_jax.networks.layers import AgentDense, AgentOutput, leaky_relu


def joint_input(x: jax.Array, sizes: Sequence[int]) -> jax.Array:
    """All agents' vectors side by side, without their padding: ``[n, B, O] -> [B, Σ sizes]``."""
    return jnp.concatenate([row[:, :size] for row, size in zip(x, sizes, strict=True)], axis=-1)


class JointCritic(nn.Module):
    """Joint input -> H -> H -> outputs, parameters per agent (Lowe et al. 2017).

    Attributes:
      hidden_size: H.
      outputs: numbers per agent.
    """

    hidden_size: int
    outputs: int

    @nn.compact
    def __call__(self, joint: jax.Array) -> jax.Array:
        """``[n, B, I] -> [n, B, outputs]``."""
        x = leaky_relu(AgentDense(self.hidden_size)(joint))
        x = leaky_relu(AgentDense(self.hidden_size)(x))
        return AgentOutput(self.outputs, name="out")(x)
