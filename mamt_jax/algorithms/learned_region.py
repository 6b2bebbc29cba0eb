"""MAMT's learned trust regions: TRD-Net and δ on two timescales (Eq. 5–8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mamt_jax.algorithms.optimisers import AdamSettings, Optimised, clipped_adam, step
from mamt_jax.algorithms.trust_region import PolicyGradients, TrustRegion, View, mirror_penalty
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks.trd_net import TRDNet
from mamt_jax.ops import losses
from mamt_jax.types import Metrics


class Nonstationarity(NamedTuple):
    """How D_i,ns is estimated, as pure functions of its state."""

    init: Callable[[jax.Array], Any]
    """key -> state."""
    measure: Callable[[Any, View, jax.Array], tuple[Any, jax.Array, Metrics]]
    """(state, view, C [n, n, B]) -> (state after its own step, D [n, B], metrics)."""


Coordination = Callable[[View], jax.Array]
"""view -> C [n, n, B]."""

Context = tuple[jax.Array, jax.Array, jax.Array]
"""TRD-Net's inputs beside δ: observations, actions, C."""


class RegionState(NamedTuple):
    """State of the learned trust region."""

    log_delta: jax.Array
    """float32 [n]."""
    delta_opt: optax.OptState
    trd: Optimised
    nonstationarity: Any
    terms: tuple[jax.Array, jax.Array]
    """∂V/∂log δ_i and ∂ΣKL/∂log δ_i of the last slow step, [n] each: reported, not used."""


def learned_trust_region(
    obs_sizes: tuple[int, ...],
    num_actions: int,
    hyper: AlgorithmConfig,
    coordination: Coordination,
    nonstationarity: Nonstationarity,
) -> TrustRegion:
    """Trust regions that trade value against predicted non-stationarity (Eq. 8)."""
    num_agents = len(obs_sizes)
    net = TRDNet(obs_sizes, num_actions, hyper.hidden_size, hyper.trd_monotone)
    adam = AdamSettings(hyper.learning_rate, hyper.adam_b1, hyper.adam_eps)
    trd_optimiser = clipped_adam(adam, hyper.critic_clip_per_agent * num_agents)
    delta_optimiser = optax.chain(
        optax.scale_by_adam(b1=adam.b1, eps=adam.eps), optax.scale(-adam.learning_rate)
    )
    budget = hyper.delta_total_per_agent * num_agents

    def predict(params: Any, context: Context, log_delta: jax.Array) -> jax.Array:
        x, action, weights = context
        return net.apply(params, x, action, log_delta, weights)

    def init(key: jax.Array) -> RegionState:
        trd_key, other_key = jax.random.split(key)
        x = jnp.zeros((num_agents, 1, max(obs_sizes)))
        action = jnp.zeros((num_agents, 1, num_actions))
        log_delta = jnp.full(num_agents, jnp.log(hyper.delta_init), jnp.float32)
        params = net.init(trd_key, x, action, log_delta, jnp.zeros((num_agents, num_agents, 1)))
        return RegionState(
            log_delta,
            delta_optimiser.init(log_delta),
            Optimised(params, trd_optimiser.init(params)),
            nonstationarity.init(other_key),
            (jnp.zeros(num_agents), jnp.zeros(num_agents)),
        )

    def observe(state: RegionState, view: View) -> tuple[RegionState, Context, Metrics]:
        weights = coordination(view)
        inner, drift, metrics = nonstationarity.measure(state.nonstationarity, view, weights)
        context = (view.x, view.encoded_action, weights)

        def loss(params: Any) -> tuple[jax.Array, jax.Array]:
            predicted = predict(params, context, state.log_delta)
            return losses.trd_loss(predicted, drift), predicted

        def fast(trd: Optimised, _: None) -> tuple[Optimised, tuple[jax.Array, ...]]:
            (value, predicted), gradient = jax.value_and_grad(loss, has_aux=True)(trd.params)
            report = value, optax.global_norm(gradient), jnp.mean(predicted, axis=1)
            return step(trd_optimiser, trd, gradient), report

        trd, reports = jax.lax.scan(fast, state.trd, None, length=hyper.theta_steps)
        value, norm, predicted = jax.tree.map(lambda leaf: leaf[-1], reports)
        metrics |= {
            "coordination_mean": jnp.mean(weights, axis=-1),
            "coordination_var": jnp.var(weights, axis=-1),
            "nonstationarity": jnp.mean(drift, axis=-1),
            "trd_loss": value,
            "trd_grad_norm": norm,
            "trd_kl": predicted,
        }
        return state._replace(trd=trd, nonstationarity=inner), context, metrics

    def penalty(state: RegionState, log_prob: jax.Array, log_old: jax.Array) -> jax.Array:
        return mirror_penalty(jnp.exp(state.log_delta), log_prob, log_old, hyper.tsallis_q)

    def gradient_of_value(delta: jax.Array, gradients: PolicyGradients) -> jax.Array:
        if hyper.delta_objective == "lookahead":
            return gradients.value_term() / delta**2
        if hyper.delta_objective == "surrogate":
            return gradients.surrogate_term / delta**2
        return jnp.zeros_like(delta)

    def adapt(
        state: RegionState, context: Context, gradients: PolicyGradients, count: jax.Array
    ) -> tuple[RegionState, Metrics]:
        def slow(state: RegionState) -> RegionState:
            delta = jnp.exp(state.log_delta)

            def cost(log_delta: jax.Array) -> jax.Array:
                return jnp.mean(jnp.sum(predict(state.trd.params, context, log_delta), axis=0))

            by_value = delta * gradient_of_value(delta, gradients)
            by_drift = jax.grad(cost)(state.log_delta)
            excess = delta * (jnp.sum(delta) > budget)
            ascent = by_value - by_drift - excess
            updates, opt = delta_optimiser.update(-ascent, state.delta_opt)
            low, high = jnp.log(hyper.delta_min), jnp.log(hyper.delta_max)
            log_delta = jnp.clip(state.log_delta + updates, low, high)
            return state._replace(
                log_delta=log_delta, delta_opt=opt, terms=(by_value, by_drift)
            )

        due = (count + 1) % hyper.delta_period == 0
        state = jax.lax.cond(due, slow, lambda state: state, state)
        delta = jnp.exp(state.log_delta)
        metrics = {
            "delta": delta,
            "delta_within_budget": (jnp.sum(delta) <= budget).astype(jnp.float32),
            "delta_grad_value": state.terms[0],
            "delta_grad_kl": state.terms[1],
        }
        return state, metrics

    return TrustRegion(init, observe, penalty, adapt)
