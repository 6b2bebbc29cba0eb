"""MAMT's learned trust regions: TRD-Net and δ on two timescales (Eq. 5-8)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mamt_jax.algorithms.optimisers import AdamSettings, Optimised, blend, clipped_adam, step
from mamt_jax.algorithms.trust_region import PolicyGradients, TrustRegion, View, mirror_penalty
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks.trd_net import TRDNet
from mamt_jax.ops import losses
from mamt_jax.ops.chunking import chunk_count, in_chunks
from mamt_jax.ops.masking import alive_pairs, masked_mean, masked_var
from mamt_jax.types import Game, Metrics, Params


class Nonstationarity(NamedTuple):
    """How D_i,ns is estimated, as pure functions of its state."""

    init: Callable[[jax.Array], Any]
    """key -> state."""
    measure: Callable[[Any, View, jax.Array], tuple[Any, jax.Array, Metrics]]
    """(state, view, C [n, n, B]) -> (state after its own step, D [n, B], metrics)."""


Coordination = Callable[[View], tuple[jax.Array, Metrics]]
"""view -> (C [n, n, B], metrics)."""


class Context(NamedTuple):
    """TRD-Net's inputs beside δ."""

    x: jax.Array
    """[n, B, O] normalised observations."""
    action: jax.Array
    """[n, B, A] normalised one-hot actions."""
    weights: jax.Array
    """[n, n, B] coordination coefficients."""
    alive: jax.Array | None = None
    """bool [n, B], as in :class:`View`."""


class RegionState(NamedTuple):
    """State of the learned trust region."""

    log_delta: jax.Array
    """float32 [n]."""
    offset: jax.Array
    """float32 [n]: exploration, added to log δ in the last policy step."""
    key: jax.Array
    """Source of the offsets."""
    delta_opt: optax.OptState
    trd: Optimised
    target_trd: Params
    """Slow average of θ: the slope that δ follows is small beside what one batch does to θ."""
    nonstationarity: Any
    terms: tuple[jax.Array, jax.Array]
    """∂V/∂log δ_i and ∂ΣKL/∂log δ_i of the last slow step, [n] each: reported, not used."""


def learned_trust_region(
    game: Game,
    hyper: AlgorithmConfig,
    coordination: Coordination,
    nonstationarity: Nonstationarity,
) -> TrustRegion:
    """Trust regions that trade value against predicted non-stationarity (Eq. 8)."""
    region = _LearnedRegion(game, hyper, coordination, nonstationarity)
    return TrustRegion(region.init, region.observe, region.penalty, region.delta, region.adapt)


@dataclass(frozen=True)
class _LearnedRegion:
    game: Game
    hyper: AlgorithmConfig
    coordination: Coordination
    nonstationarity: Nonstationarity

    @property
    def num_agents(self) -> int:
        return self.game.num_agents

    @property
    def budget(self) -> float:
        """δ, the soft limit on Σ_i δ_i."""
        return self.hyper.delta_total_per_agent * self.num_agents

    @cached_property
    def net(self) -> TRDNet:
        hyper = self.hyper
        sizes, actions = self.game.obs_sizes, self.game.num_actions
        return TRDNet(sizes, actions, hyper.hidden_size, hyper.trd_monotone)

    @cached_property
    def trd_optimiser(self) -> optax.GradientTransformation:
        hyper = self.hyper
        adam = AdamSettings(hyper.learning_rate, hyper.adam_b1, hyper.adam_eps)
        return clipped_adam(adam, hyper.critic_clip_per_agent * self.num_agents)

    @cached_property
    def delta_optimiser(self) -> optax.GradientTransformation:
        hyper = self.hyper
        return optax.adam(hyper.learning_rate, b1=hyper.adam_b1, eps=hyper.adam_eps)

    def init(self, key: jax.Array) -> RegionState:
        trd_key, other_key, offset_key = jax.random.split(key, 3)
        context = Context(
            jnp.zeros((self.num_agents, 1, max(self.game.obs_sizes))),
            jnp.zeros((self.num_agents, 1, self.game.num_actions)),
            jnp.zeros((self.num_agents, self.num_agents, 1)),
        )
        zeros = jnp.zeros(self.num_agents)
        log_delta = jnp.full(self.num_agents, math.log(self.hyper.delta_init), jnp.float32)
        params = self.net.init(trd_key, context.x, context.action, log_delta, context.weights)
        return RegionState(
            log_delta=log_delta,
            offset=zeros,
            key=offset_key,
            delta_opt=self.delta_optimiser.init(log_delta),
            trd=Optimised(params, self.trd_optimiser.init(params)),
            target_trd=params,
            nonstationarity=self.nonstationarity.init(other_key),
            terms=(zeros, zeros),
        )

    def observe(self, state: RegionState, view: View) -> tuple[RegionState, Context, Metrics]:
        """C, D, the modelling policies' step, and the fast steps on TRD-Net (Eq. 5-7)."""
        weights, metrics = self.coordination(view)
        inner, drift, more = self.nonstationarity.measure(state.nonstationarity, view, weights)
        context = Context(view.x, view.encoded_action, weights, view.alive)
        trd, fast = self._fast_steps(state, context, drift)
        metrics |= more | fast
        pairs = alive_pairs(view.alive)
        metrics |= {
            "coordination_mean": masked_mean(weights, pairs, axis=-1),
            "coordination_var": masked_var(weights, pairs, axis=-1),
            "nonstationarity": masked_mean(drift, view.alive, axis=-1),
        }
        target = blend(state.target_trd, trd.params, self.hyper.trd_tau)
        state = state._replace(trd=trd, target_trd=target, nonstationarity=inner)
        return self._explore(state), context, metrics

    def penalty(self, state: RegionState, log_prob: jax.Array, log_old: jax.Array) -> jax.Array:
        """KL_i/δ_i ``[n, B]`` with the explored δ."""
        return mirror_penalty(self.delta(state), log_prob, log_old, self.hyper.tsallis_q)

    def delta(self, state: RegionState) -> jax.Array:
        """The explored δ ``[n]``."""
        return jnp.exp(self._explored(state))

    def adapt(
        self, state: RegionState, context: Context, gradients: PolicyGradients, count: jax.Array
    ) -> tuple[RegionState, Metrics]:
        """The slow step on δ, in every ``delta_period``-th update (Eq. 8)."""
        due = (count + 1) % self.hyper.delta_period == 0
        state = jax.lax.cond(
            due,
            lambda state: self._slow_step(state, context, gradients),
            lambda state: state,
            state,
        )
        delta = jnp.exp(state.log_delta)
        return state, {
            "delta": delta,
            "delta_within_budget": (jnp.sum(delta) <= self.budget).astype(jnp.float32),
            "delta_grad_value": state.terms[0],
            "delta_grad_kl": state.terms[1],
        }

    def _predict(self, params: Params, context: Context, log_delta: jax.Array) -> jax.Array:
        """KL_i ``[n, B]``."""
        return self.net.apply(params, context.x, context.action, log_delta, context.weights)

    def _in_chunks(
        self,
        function: Callable[..., Any],
        context: Context,
        more: tuple[int, ...],
        out_axes: tuple[Any, ...],
    ) -> Callable[..., Any]:
        """``function`` of the context's arrays, and of more, without filling the cache."""
        values = self.num_agents**2 * self.hyper.hidden_size
        chunks = chunk_count(context.x.shape[1], values, context.alive)
        return in_chunks(function, chunks, (-2, -2, -1, *more), out_axes)

    def _explored(self, state: RegionState) -> jax.Array:
        """log δ as the policies feel it: the learned value with its offset, within the clip."""
        low, high = math.log(self.hyper.delta_min), math.log(self.hyper.delta_max)
        return jnp.clip(state.log_delta + state.offset, low, high)

    def _explore(self, state: RegionState) -> RegionState:
        """Draws the offsets of this update's policy step.

        TRD-Net is shown the δ of the step that made the current policies. Were δ to move on its
        slow path alone, its effect could not be told from the drift of D with time, and the slope
        of KL_i in δ_i would be what initialisation left there; with independent offsets it is
        identified: what one policy step with a wider region does to D.
        """
        key, draw = jax.random.split(state.key)
        offset = self.hyper.delta_exploration * jax.random.normal(draw, state.offset.shape)
        return state._replace(offset=offset, key=key)

    def _fast_steps(
        self, state: RegionState, context: Context, drift: jax.Array
    ) -> tuple[Optimised, Metrics]:
        """``theta_steps`` steps on TRD-Net's loss (Eq. 7); metrics are of the last."""
        log_delta, alive = self._explored(state), context.alive

        def loss(params: Params, sample: Context, drift: jax.Array) -> tuple[jax.Array, Metrics]:
            predicted = self._predict(params, sample, log_delta)
            value = losses.trd_loss(predicted, drift, alive)
            return value, {"trd_loss": value, "trd_kl": masked_mean(predicted, alive, axis=1)}

        def fast(trd: Optimised, _: None) -> tuple[Optimised, Metrics]:
            def learn(*sample: jax.Array) -> tuple[Params, Metrics]:
                *rows, drift = sample
                gradient, metrics = jax.grad(loss, has_aux=True)(trd.params, Context(*rows), drift)
                return gradient, metrics

            chunked = self._in_chunks(learn, context, (-1,), (None, None))
            gradient, metrics = chunked(*context[:3], drift)
            metrics |= {"trd_grad_norm": optax.tree.norm(gradient)}
            return step(self.trd_optimiser, trd, gradient), metrics

        trd, metrics = jax.lax.scan(fast, state.trd, None, length=self.hyper.theta_steps)
        return trd, jax.tree.map(lambda leaf: leaf[-1], metrics)

    def _slow_step(
        self, state: RegionState, context: Context, gradients: PolicyGradients
    ) -> RegionState:
        """One Adam step on log δ, up the gradient of F at the δ of this update's policy step."""
        explored = self._explored(state)
        delta = jnp.exp(explored)

        def cost(log_delta: jax.Array, sample: Context) -> jax.Array:
            predicted = self._predict(state.target_trd, sample, log_delta)
            return jnp.sum(masked_mean(predicted, context.alive, axis=1))

        def slope(*rows: jax.Array) -> tuple[jax.Array]:
            return (jax.grad(cost)(explored, Context(*rows)),)

        by_value = delta * self._gradient_of_value(delta, gradients)
        (by_drift,) = self._in_chunks(slope, context, (), (None,))(*context[:3])
        learned = jnp.exp(state.log_delta)
        excess = learned * (jnp.sum(learned) > self.budget)
        ascent = by_value - by_drift - excess
        updates, opt = self.delta_optimiser.update(-ascent, state.delta_opt)
        low, high = math.log(self.hyper.delta_min), math.log(self.hyper.delta_max)
        log_delta = jnp.clip(state.log_delta + updates, low, high)
        return state._replace(log_delta=log_delta, delta_opt=opt, terms=(by_value, by_drift))

    def _gradient_of_value(self, delta: jax.Array, gradients: PolicyGradients) -> jax.Array:
        """∂V_i/∂δ_i ``[n]``, by the configured objective."""
        if self.hyper.delta_objective == "lookahead":
            return gradients.value_term() / delta**2
        if self.hyper.delta_objective == "surrogate":
            return gradients.surrogate_term / delta**2
        return jnp.zeros_like(delta)
