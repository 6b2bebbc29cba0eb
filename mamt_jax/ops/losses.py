"""Objectives of critics, policies and TRD-Net as functions of network outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.ops.masking import alive_pairs, masked, masked_mean, seen

ErrorFunction = Callable[[jax.Array, jax.Array], jax.Array]
"""(predictions [n, B], targets [n, B]) -> errors [n, B]."""


def squared_error(predicted: jax.Array, target: jax.Array) -> jax.Array:
    """(predicted − target)², elementwise."""
    chex.assert_equal_shape((predicted, target))
    return (predicted - target) ** 2


def td_target(
    reward: jax.Array,
    discount: float,
    terminated: jax.Array,
    next_q: jax.Array,
    next_log_prob: jax.Array,
    alpha: float,
) -> jax.Array:
    """Soft one-step target y_i = r_i + γ (1 − terminated)(Q̄_i − α log π̄_i) (Eq. 9).

    Args:
      reward: ``[n, B]``, standardised.
      discount: γ.
      terminated: ``[n, B]`` bool; a truncated episode bootstraps.
      next_q: ``[n, B]`` target critics at the target policies' actions.
      next_log_prob: ``[n, B]`` of these actions.
      alpha: temperature.
    """
    chex.assert_equal_shape((reward, terminated, next_q, next_log_prob))
    bootstrap = discount * (1.0 - terminated.astype(reward.dtype))
    return jax.lax.stop_gradient(reward + bootstrap * (next_q - alpha * next_log_prob))


def attention_penalty(logits: jax.Array, alive: jax.Array | None = None) -> jax.Array:
    """1e-3 · Σ_heads mean(logit²) over the opponents' unscaled logits: ``[n, n, B, K] -> [n]``.

    The diagonal must be zero: an agent does not attend to itself. With ``alive`` ``[n, B]`` the
    mean is over the pairs that are both alive.
    """
    num_agents, _, batch, _ = logits.shape
    pairs = alive_pairs(alive)
    counted: int | jax.Array = batch * max(num_agents - 1, 1)
    if pairs is not None:
        counted = jnp.maximum(jnp.sum(pairs, axis=(1, 2)), 1)
    return 1e-3 * jnp.sum(masked(logits, pairs) ** 2, axis=(1, 2, 3)) / counted


def counterfactual_advantage(
    q_all: jax.Array, log_policy: jax.Array, action: jax.Array
) -> jax.Array:
    """Q_i(o, a) − Σ_u π_i(u|o_i) Q_i(o, (u, a_{-i})): ``[n, B, A] x2, [n, B] -> [n, B]``."""
    chex.assert_equal_shape((q_all, log_policy))
    baseline = jnp.sum(jnp.exp(log_policy) * q_all, axis=-1)
    return select(q_all, action) - baseline


def select(values: jax.Array, action: jax.Array) -> jax.Array:
    """Picks the entry of each action: ``[..., A], [...] -> [...]``.

    A masked sum, because XLA's CPU backend runs it (and its gradient) faster than a gather.
    """
    mask = jnp.arange(values.shape[-1]) == action[..., None]
    return jnp.sum(jnp.where(mask, values, 0.0), axis=-1)


def select_output(values: jax.Array, action: jax.Array) -> jax.Array:
    """As :func:`select`, of a critic that has an output for every action or one for all."""
    return values[..., 0] if values.shape[-1] == 1 else select(values, action)


def score_function_loss(
    log_prob: jax.Array, weight: jax.Array, alive: jax.Array | None = None
) -> jax.Array:
    """mean_b log π_i(a_i) · stopgrad(weight_i), with Eq. 10's gradient: ``[n, B] x2 -> [n]``.

    The mean is over the samples in which agent i is alive.
    """
    chex.assert_equal_shape((log_prob, weight))
    return masked_mean(log_prob * jax.lax.stop_gradient(weight), alive, axis=-1)


def mean_square_logit(
    logits: jax.Array, action_counts: Sequence[int] | np.ndarray, alive: jax.Array | None = None
) -> jax.Array:
    """Mean of logit² over the actions that there are: ``[n, ..., B, A] -> [n]``.

    Every policy counts alike, however many actions it has; outputs beyond them do not count.

    Args:
      logits: raw.
      action_counts: number of actions, for the axes of ``logits`` before B.
      alive: bool ``[n, ..., B]``: the samples that count; None for all.
    """
    counts = np.asarray(action_counts)[..., None, None]
    share = (np.arange(logits.shape[-1]) < counts) / counts
    each = jnp.sum(logits**2 * share.astype(logits.dtype), axis=-1)
    return masked_mean(each, alive, axis=tuple(range(1, each.ndim)))


def cross_entropy(logits: jax.Array, action: jax.Array) -> jax.Array:
    """−log softmax(logits)[action]: ``[..., A], [...] -> [...]``, nats."""
    return -select(jax.nn.log_softmax(logits), action)


def trd_loss(
    predicted: jax.Array, nonstationarity: jax.Array, alive: jax.Array | None = None
) -> jax.Array:
    """L_ns = E[(Σ_i KL_i − Σ_i D_i,ns)²] (Eq. 7): ``[n, B], [n, B] -> []``; D is a constant.

    The sums are over the agents that are alive, the mean over samples in which one is.
    """
    chex.assert_equal_shape((predicted, nonstationarity))
    target = jax.lax.stop_gradient(jnp.sum(masked(nonstationarity, alive), axis=0))
    error = jnp.sum(masked(predicted, alive), axis=0) - target
    return masked_mean(error**2, seen(alive, axis=0), axis=0)
