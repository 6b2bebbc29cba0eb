"""Attention critic (Iqbal & Sha 2019; Fig. 11, top right) and its exact counterfactuals (Eq. 5)."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mamt_jax.backend import chosen
from mamt_jax.networks.layers import AgentDense, AgentOutput, SharedDense, leaky_relu
from mamt_jax.ops.coordination import opponent_softmax, opponents, to_square
from mamt_jax.ops.masking import alive_pairs, masked, off_diagonal


class CriticTrace(NamedTuple):
    """A critic's values, and what a counterfactual needs of the way to them."""

    q: jax.Array
    """[n, B, A]: Q_i(o, (u, a_{-i})) for every own action u; [n, B, 1] of a critic without them."""
    logits: jax.Array
    """[n, n, B, K]: unscaled attention logits of agent i (first) to j; zero on the diagonal."""
    weights: jax.Array
    """[n, n, B, K]: attention weights, zero on the diagonal and for an agent that is not alive."""
    state_part: jax.Array
    """[n, B, H]: the head's first layer on s_i, before the attended values are added."""
    query: jax.Array
    """[n, B, H]."""
    value: jax.Array
    """[n, B, H]."""
    obs_part: jax.Array
    """[n, B, H]: the state-action encoder's first layer on o_i, before the action is added."""
    hidden: jax.Array
    """[n, B, H]: the head's hidden layer, of which ``q`` is a linear map."""


_LANES = 8
"""Values that a CPU adds at once."""

SHARED_OVER_AGENTS = ("query", "key", "value", "encode_obs", "encode_action")
"""Modules whose gradient is divided by n: the shared maps and the state-action encoders."""


@jax.custom_vjp
def zero_diagonal(x: jax.Array) -> jax.Array:
    """Zeros on the diagonal of ``[n, n, ...]``, in the result and in its gradient.

    On CPU the gradient is computed in a loop over agents, which forces it into memory. Otherwise
    XLA puts all that makes the gradient of an attention logit (a softmax's) into the loop over
    the 32 features of the key that it multiplies, and computes it 32 times.
    """
    return jnp.where(off_diagonal(len(x)).reshape(x.shape[:2] + (1,) * (x.ndim - 2)), x, 0.0)


def _zero_diagonal_gradient(_: None, gradient: jax.Array) -> tuple[jax.Array]:
    if not chosen().agents_in_turn:
        return (zero_diagonal(gradient),)
    rows = jnp.asarray(off_diagonal(len(gradient))), gradient
    return (jax.lax.map(lambda row: masked(row[1], row[0]), rows),)


zero_diagonal.defvjp(lambda x: (zero_diagonal(x), None), _zero_diagonal_gradient)


def not_taken(values: jax.Array, action: jax.Array) -> jax.Array:
    """Values of the other actions ``[n, A, B, ...], [n, B] -> [n, A − 1, B, ...]``, in order."""
    number = jnp.arange(values.shape[1] - 1)[None, :, None]
    after = action[:, None] <= number
    after = after.reshape(after.shape + (1,) * (values.ndim - after.ndim))
    return jnp.where(after, values[:, 1:], values[:, :-1])


class AttentionCritic(nn.Module):
    """Q_ζi(o, a) of all agents at once. Queries read states, keys and values the others' (o, a).

    Attributes:
      obs_sizes: observation size of each agent.
      num_actions: A.
      hidden_size: H.
      heads: K, a divisor of H.
      outputs: A, one for every own action; or 1, the value of (o, a_{-i}) with the own action
        left out.
    """

    obs_sizes: tuple[int, ...]
    num_actions: int
    hidden_size: int
    heads: int
    outputs: int

    def setup(self) -> None:
        hidden = self.hidden_size
        pair = tuple(size + self.num_actions for size in self.obs_sizes)
        self.encode_obs = AgentDense(hidden, pair)
        self.encode_action = AgentDense(hidden, pair, use_bias=False)
        self.encode_state = AgentDense(hidden, self.obs_sizes)
        self.query = SharedDense(hidden, use_bias=False)
        self.key = SharedDense(hidden, use_bias=False)
        self.value = SharedDense(hidden)
        self.head_state = AgentDense(hidden, (2 * hidden,))
        self.head_attended = AgentDense(hidden, (2 * hidden,), use_bias=False)
        self.head_out = AgentOutput(self.outputs)

    def __call__(
        self, x: jax.Array, action: jax.Array, alive: jax.Array | None = None
    ) -> CriticTrace:
        """Normalised observations ``[n, B, O]`` and one-hot actions ``[n, B, A]`` -> trace.

        Only agents that are ``alive`` ``[n, B]`` are attended to; None if all are.
        """
        obs_part = self.encode_obs(x)
        encoded = leaky_relu(obs_part + self.encode_action(action))
        state = leaky_relu(self.encode_state(x))
        query, key = self.query(state), self.key(encoded)
        value = leaky_relu(self.value(encoded))
        logits, weights = self._attend(query, key, alive)
        attended = jnp.sum(self._spread(weights) * value[None], axis=1)
        state_part = self.head_state(state)
        hidden = leaky_relu(state_part + self.head_attended(attended))
        q = self.head_out(hidden)
        return CriticTrace(q, logits, weights, state_part, query, value, obs_part, hidden)

    def _spread(self, per_head: jax.Array) -> jax.Array:
        """Repeats ``[..., K]`` over each head's width: ``[..., H]``."""
        return jnp.repeat(per_head, self.hidden_size // self.heads, axis=-1)

    def _per_head(self, product: jax.Array) -> jax.Array:
        """Sums query·key products ``[..., H]`` within each head: ``[..., K]``.

        In two stages, because XLA's CPU backend vectorises a sum over any axis but the last.
        """
        width = self.hidden_size // self.heads
        lanes = _LANES if width % _LANES == 0 else 1
        product = product.reshape(*product.shape[:-1], self.heads, width // lanes, lanes)
        return jnp.sum(jnp.sum(product, axis=-2), axis=-1)

    @property
    def _scale(self) -> float:
        return float((self.hidden_size // self.heads) ** -0.5)

    def _attend(
        self, query: jax.Array, key: jax.Array, alive: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        logits = zero_diagonal(self._per_head(query[:, None] * key[None]))
        return logits, opponent_softmax(logits * self._scale, alive)

    def counterfactual_effect(
        self,
        trace: CriticTrace,
        action: jax.Array,
        policy: jax.Array,
        encoding: jax.Array,
        alive: jax.Array | None = None,
    ) -> jax.Array:
        """|Q_i(a\\j) − Q_i(a)|, agent j's action marginalised out under its policy (Eq. 5).

        Exact. Replacing one opponent's key and value changes one term of the attention average, so
        only the encodings of the A − 1 actions that j did not take, and the heads, are computed:
        Σ_u π_j(u) (Q_i(u, ·) − Q_i(a)) has no term of the action taken, and of the last layer,
        which is linear, it needs one row.

        Args:
          trace: of the actions taken.
          action: int32 ``[n, B]``, the actions taken.
          policy: ``[n, B, A]``, π_j(u | o_j).
          encoding: ``[n, A, A]``, row u is how one-hot(u) was fed to the critic for agent j.
          alive: ``[n, B]``, as the trace was computed with.

        Returns:
          ``[n, n, B]`` with a zero diagonal, and zero where either agent is not alive.
        """
        table = self.encode_action(encoding)[:, :, None]
        encoded = leaky_relu(trace.obs_part[:, None] + not_taken(table, action))
        keys, values = self.key(encoded), leaky_relu(self.value(encoded))
        chance = not_taken(jnp.swapaxes(policy, 1, 2), action)[..., None]
        kernel = self.head_out.variables["params"]["kernel"]
        row = jnp.take_along_axis(kernel, action[..., None] % kernel.shape[1], axis=1)
        pairs, others = alive_pairs(alive), jnp.asarray(opponents(action.shape[0]).T)

        def score(other: jax.Array) -> jax.Array:
            return self._per_head(trace.query[:, None] * keys[other]) * self._scale

        def effect(given: tuple[jax.Array, jax.Array]) -> jax.Array:
            other, score = given
            hidden = self._with_replaced(trace, other, score, values[other], pairs)
            mean = jnp.sum(chance[other] * (hidden - trace.hidden[:, None]), axis=1)
            return jnp.abs(jnp.sum(row * mean, axis=-1))

        # Scores in a loop of their own: XLA would compute their sums within what uses them.
        given = others, jax.lax.map(score, others)
        effects = to_square(jnp.moveaxis(jax.lax.map(effect, given), 0, 1))
        return masked(effects, pairs)

    def _with_replaced(
        self,
        trace: CriticTrace,
        other: jax.Array,
        score: jax.Array,
        values: jax.Array,
        pairs: jax.Array | None,
    ) -> jax.Array:
        """The head's hidden layer ``[n, U, B, H]`` if agent ``other[i]`` had each score and value.

        The average over the remaining agents is taken once; a new term then enters it with the
        share that its logit has against theirs, a sigmoid of the difference. No weight is computed
        as one minus another, so attention may be as sharp as it likes.
        """
        agents = jnp.arange(other.shape[0])
        remaining = (agents != agents[:, None]) & (agents != other[:, None])
        scaled = masked(trace.logits * self._scale, remaining, -jnp.inf)
        scaled = masked(scaled, pairs, -jnp.inf)
        total = jnp.maximum(jax.nn.logsumexp(scaled, axis=1), jnp.finfo(scaled.dtype).min)
        weights = self._spread(jnp.exp(scaled - total[:, None]))
        kept = jnp.sum(weights * trace.value[None], axis=1)
        share = self._spread(jax.nn.sigmoid(score - total[:, None]))
        attended = kept[:, None] + share * (values - kept[:, None])
        return leaky_relu(trace.state_part[:, None] + self.head_attended(attended))
