"""Adam as PyTorch runs it, clipped per network or per agent, and its preconditioner."""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from mamt_jax.settings import Learning, Settings
from mamt_jax.types import Params

ADAM_B2 = 0.999


class Optimised(NamedTuple):
    """Parameters and their optimiser's state."""

    params: Params
    opt_state: optax.OptState


class AdamSettings(NamedTuple):
    """Step size, first-moment decay and denominator constant."""

    learning_rate: float
    b1: float
    eps: float


def adam_settings(settings: Settings) -> AdamSettings:
    """Adam as all networks of an algorithm are trained with it."""
    learning = settings[Learning]
    return AdamSettings(learning.learning_rate, learning.adam_b1, learning.adam_eps)


def clipped_adam(
    adam: AdamSettings, clip: float, weight_decay: float | None = None
) -> optax.GradientTransformation:
    """Global-norm clip, then L2 weight decay added to the gradient, then Adam.

    Decay that passes through the moments is PyTorch's Adam, not AdamW.
    """
    decay = optax.identity() if weight_decay is None else optax.add_decayed_weights(weight_decay)
    scale = optax.scale_by_adam(b1=adam.b1, b2=ADAM_B2, eps=adam.eps)
    return optax.chain(clip_by_norm(clip), decay, scale, optax.scale(-adam.learning_rate))


def clip_by_norm(most: float) -> optax.GradientTransformation:
    """``optax.clip_by_global_norm``, with :func:`global_norm`."""

    def clip(updates: Params, params: Params | None = None) -> Params:
        norm = global_norm(updates)
        return jax.tree.map(lambda leaf: jnp.where(norm < most, leaf, leaf / norm * most), updates)

    return optax.stateless(clip)


def global_norm(tree: Params) -> jax.Array:
    """Euclidean norm of all leaves, summed as one vector: a sum per leaf is a kernel per leaf."""
    vector = jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])
    return jnp.sqrt(jnp.sum(jnp.square(vector)))


def per_agent(optimiser: optax.GradientTransformation) -> optax.GradientTransformation:
    """The same optimiser for every agent of stacked parameters ``[n, ...]``: clips separately."""

    def update(
        updates: Params, state: optax.OptState, params: Params | None = None
    ) -> tuple[Params, optax.OptState]:
        return jax.vmap(optimiser.update)(updates, state, params)

    return optax.GradientTransformation(jax.vmap(optimiser.init), update)


def step(
    optimiser: optax.GradientTransformation, current: Optimised, gradient: Params
) -> Optimised:
    """One descent step."""
    updates, opt_state = optimiser.update(gradient, current.opt_state, current.params)
    return Optimised(optax.apply_updates(current.params, updates), opt_state)


def blend(target: Params, online: Params, tau: float) -> Params:
    """Soft update of a target network: (1 − τ) target + τ online."""
    return jax.tree.map(lambda old, new: old + tau * (new - old), target, online)


def agent_norms(gradient: Params) -> jax.Array:
    """Global norm of each agent's gradient, stacked parameters ``[n, ...] -> [n]``."""
    return jax.vmap(global_norm)(gradient)


def preconditioner(
    opt_state: optax.OptState, gradient: Params, adam: AdamSettings, clip: float
) -> Params:
    """Diagonal P with which a per-agent clipped Adam turns a gradient into a step.

    P = c · lr/(√v̂ + eps), c the factor by which the clip shrinks this gradient. A change of the
    gradient reaches the parameters through the first moment: (1 − b1) of P at once, the rest over
    the following steps, P in total.

    Args:
      opt_state: of :func:`per_agent` of :func:`clipped_adam`, after it has seen ``gradient``.
      gradient: the policy gradient, leaves ``[n, ...]``.
      adam: its settings.
      clip: its global-norm clip.

    Returns:
      A pytree like ``gradient``.
    """
    state = _adam_state(opt_state)
    shrink = jnp.minimum(1.0, clip / jnp.maximum(agent_norms(gradient), 1e-30))

    def leaf(second_moment: jax.Array) -> jax.Array:
        shape = (-1,) + (1,) * (second_moment.ndim - 1)
        count = state.count.astype(second_moment.dtype).reshape(shape)
        correction = -jnp.expm1(count * math.log(ADAM_B2))  # 1 - b2^count
        denominator = jnp.sqrt(second_moment / correction) + adam.eps
        return shrink.reshape(shape) * adam.learning_rate / denominator

    return jax.tree.map(leaf, state.nu)


def _adam_state(opt_state: optax.OptState) -> optax.ScaleByAdamState:
    states = jax.tree.leaves(
        opt_state, is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState)
    )
    return next(state for state in states if isinstance(state, optax.ScaleByAdamState))


def agent_inner(left: Params, right: Params) -> jax.Array:
    """Inner product of stacked pytrees within each agent: ``[n, ...] x2 -> [n]``."""
    products = jax.tree.map(
        lambda a, b: jnp.sum((a * b).reshape(a.shape[0], -1), axis=1), left, right
    )
    return jnp.sum(jnp.stack(jax.tree.leaves(products)), axis=0)
