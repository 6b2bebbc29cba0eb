"""Actors and modelling policies (Fig. 11, top left)."""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.networks.layers import AgentDense, AgentOutput, TokenDense, leaky_relu
from mamt_jax.ops.coordination import opponents

MASKED_LOGIT = -1e9
_MIN_TOKEN, _MAX_TOKENS = 2, 16


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
    """π_ψi(a | o_i): normalised observation -> H -> H -> logits, parameters per agent.

    Attributes:
      obs_sizes: observation size of each agent.
      num_actions: A.
      hidden_size: H.
    """

    obs_sizes: tuple[int, ...]
    num_actions: int
    hidden_size: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalised observations ``[n, B, O]`` -> unmasked logits ``[n, B, A]``."""
        x = leaky_relu(AgentDense(self.hidden_size, self.obs_sizes)(x))
        x = leaky_relu(AgentDense(self.hidden_size)(x))
        return AgentOutput(self.num_actions, name="out")(x)


class AttentionActor(nn.Module):
    """π_ψi(a | o_i) that attends to parts of its own observation, as the critic does to agents.

    The observation is cut into tokens of equal width, as many as there are up to 16. A query from
    the encoded observation, keys and values from the tokens, K heads; then the encoded observation
    and what was attended to -> H -> logits. Parameters per agent.

    Attributes:
      obs_sizes: observation size of each agent.
      num_actions: A.
      hidden_size: H.
      heads: K, a divisor of H.
    """

    obs_sizes: tuple[int, ...]
    num_actions: int
    hidden_size: int
    heads: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalised observations ``[n, B, O]`` -> unmasked logits ``[n, B, A]``."""
        hidden, heads = self.hidden_size, self.heads
        agents, batch, size = x.shape
        width = max(_MIN_TOKEN, -(-size // _MAX_TOKENS))
        count = -(-size // width)
        tokens = jnp.pad(x, ((0, 0), (0, 0), (0, count * width - size)))
        # Tokens come before samples: products with each token's own kernel are batched as they lie.
        tokens = jnp.swapaxes(tokens.reshape(agents, batch, count, width), 1, 2)
        state = leaky_relu(AgentDense(hidden, self.obs_sizes, name="encode")(x))
        query = AgentDense(hidden, use_bias=False, name="query")(state)[:, None]
        key = TokenDense(hidden, name="key")(tokens)
        value = leaky_relu(TokenDense(hidden, name="value")(tokens))
        product = (query * key).reshape(agents, count, batch, heads, -1)
        score = jnp.sum(product, axis=-1) * (hidden // heads) ** -0.5
        # Tokens that are all padding are no part of a narrower agent's observation.
        real = np.arange(count) * width < np.asarray(self.obs_sizes)[:, None]
        score = jnp.where(real[:, :, None, None], score, MASKED_LOGIT)
        weights = jnp.repeat(jax.nn.softmax(score, axis=1), hidden // heads, axis=-1)
        attended = jnp.sum(weights * value, axis=1)
        x = AgentDense(hidden, (2 * hidden,), name="head_state")(state)
        x += AgentDense(hidden, (2 * hidden,), use_bias=False, name="head_attended")(attended)
        return AgentOutput(self.num_actions, name="out")(leaky_relu(x))


class ModellingPolicy(nn.Module):
    """h_φi(a_j | o_i, j): agent i's prediction of opponent j's action from its own observation.

    As the actor, with one-hot(j) behind the normalised observation. The observation's share of
    the first layer does not depend on j and is computed once.
    """

    obs_sizes: tuple[int, ...]
    num_actions: int
    hidden_size: int

    @nn.compact
    def __call__(self, x: jax.Array, opponent: jax.Array | None = None) -> jax.Array:
        """Unmasked logits of all opponents ``[n, n − 1, B, A]``, or of one a sample ``[n, B, A]``.

        Args:
          x: ``[n, B, O]`` normalised observations.
          opponent: int32 ``[n, B]``, the only j that each agent and sample asks about; None for
            all, ordered as ``ops.opponents``.
        """
        num_agents = x.shape[0]
        fan_in = tuple(size + num_agents for size in self.obs_sizes)
        first = AgentDense(self.hidden_size, fan_in, name="obs")(x)
        by_agent = AgentDense(self.hidden_size, fan_in, use_bias=False, name="agent")
        if opponent is None:
            index = by_agent(jnp.eye(num_agents)[opponents(num_agents)])
            first = first[:, None] + index[:, :, None]
        else:
            first += by_agent(jax.nn.one_hot(opponent, num_agents, dtype=x.dtype))
        x = leaky_relu(AgentDense(self.hidden_size)(leaky_relu(first)))
        return AgentOutput(self.num_actions, name="out")(x)
