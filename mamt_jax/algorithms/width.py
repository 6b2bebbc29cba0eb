"""Rules that move δ: what a slow step makes of the evidence of an update.

``penalty`` is the paper's: one Adam step up the gradient of Eq. 8. ``budget`` is ours: it solves
the problem that Eq. 8 relaxes, maximise Σ V_i subject to Σ KL_i ≤ n · budget, in nats. With mirror
descent's penalty KL_i/δ_i, 1/δ_i is what a nat of agent i costs, so that dual ascent on the
constraint is a step on log δ; it is the same for all agents, because a joint budget has one price.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mamt_jax.algorithms.optimisers import adam_settings
from mamt_jax.settings import LearnedRegion, RegionWidth, Settings


class Evidence(NamedTuple):
    """What a slow step may go by, ``[n]`` each."""

    kl: jax.Array
    """KL[π_i ‖ π_i_old] of this update, nats."""
    terms: Callable[[], tuple[jax.Array, jax.Array]]
    """() -> (∂V_i/∂log δ_i, TRD-Net's ∂ΣKL/∂log δ_i): only who asks pays for them."""
    weight: jax.Array
    """Σ_i C_ij: how much of ΣD hangs on agent j."""


class Moved(NamedTuple):
    """What a slow step did."""

    state: Any
    """Of the rule."""
    log_delta: jax.Array
    """[n], within the clip."""
    terms: tuple[jax.Array, jax.Array]
    """Those of the evidence, zeros where they were not asked for."""


class WidthRule(NamedTuple):
    """How log δ moves, as pure functions of a state of its own."""

    init: Callable[[jax.Array], Any]
    """log δ ``[n]`` at the start -> state."""
    step: Callable[[Any, jax.Array, Evidence], Moved]
    """(state, log δ ``[n]``, evidence) -> what came of it."""


def width_rule(settings: Settings) -> WidthRule:
    """The rule that ``delta_rule`` names."""
    return {"penalty": penalty_rule, "budget": budget_rule}[settings[LearnedRegion].delta_rule](
        settings
    )


def penalty_rule(settings: Settings) -> WidthRule:
    """One Adam step on log δ up the gradient of F(δ) = Σ V_i − ΣKL − ReLU(Σδ_i − δ) (Eq. 8)."""
    own, adam = settings[LearnedRegion], adam_settings(settings)
    optimiser = optax.adam(adam.learning_rate, b1=adam.b1, eps=adam.eps)

    def step(state: optax.OptState, log_delta: jax.Array, evidence: Evidence) -> Moved:
        by_value, by_kl = evidence.terms()
        delta = jnp.exp(log_delta)
        limit = own.delta_total_per_agent * len(delta)
        excess = delta * (jnp.sum(delta) > limit)
        updates, state = optimiser.update(-(by_value - by_kl - excess), state)
        return Moved(state, clip_width(log_delta + updates, own), (by_value, by_kl))

    return WidthRule(optimiser.init, step)


def budget_rule(settings: Settings) -> WidthRule:
    """One level for all by dual ascent on measured KL, and a bounded share for each agent.

    The level is the mean of log δ. The state is a slow average of what agents should differ by.
    """
    own = settings[LearnedRegion]

    def step(state: jax.Array, log_delta: jax.Array, evidence: Evidence) -> Moved:
        zeros = jnp.zeros_like(log_delta)
        target, terms = zeros, (zeros, zeros)
        if own.delta_shares == "trd_net":
            terms = evidence.terms()
            target = relative(terms[0]) - relative(terms[1])
        elif own.delta_shares == "coordination":
            target = -jnp.log(jnp.maximum(evidence.weight, SMALLEST_WEIGHT))
        state = state + own.share_rate * (target - state)
        apart = jnp.clip(centred(state), -own.share_limit, own.share_limit)
        level = within_budget(jnp.mean(log_delta), evidence.kl, own)
        return Moved(state, clip_width(level + centred(apart), own), terms)

    return WidthRule(jnp.zeros_like, step)


def centred(values: jax.Array) -> jax.Array:
    """``[n]`` less their mean."""
    return values - jnp.mean(values)


SMALLEST_WEIGHT = 0.05
"""Of an agent's Σ_i C_ij: below, nobody depends on it, and its region costs next to nothing."""


def relative(values: jax.Array) -> jax.Array:
    """``[n]`` in units of their mean size, so that V and KL, which have different ones, compare."""
    return values / jnp.maximum(jnp.mean(jnp.abs(values)), 1e-12)


def within_budget(level: jax.Array, kl: jax.Array, own: RegionWidth) -> jax.Array:
    """One step of dual ascent on the mean of log δ, within the clip.

    Args:
      level: ``[]``.
      kl: KL[π_i ‖ π_i_old] ``[n]`` of this update, nats.
      own: the budget, the rate and the clip.

    Returns:
      log δ after it rises or falls by at most ``width_rate``, in proportion to what is left of the
      budget. KL grows from 0 within the life of an old policy; over many steps it is its mean over
      the life that meets the budget.
    """
    left = 1.0 - jnp.mean(kl) / own.kl_budget
    return clip_width(level + own.width_rate * jnp.clip(left, -1.0, 1.0), own)


def clip_width(log_delta: jax.Array, own: RegionWidth) -> jax.Array:
    """log δ within [log δ_min, log δ_max]."""
    return jnp.clip(log_delta, jnp.log(own.delta_min), jnp.log(own.delta_max))
