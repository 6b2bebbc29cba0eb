"""MAMT's learned trust regions: TRD-Net and δ on two timescales (Eq. 5-8)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mamt_jax.algorithms.optimisers import (
    Optimised,
    adam_settings,
    blend,
    clipped_adam,
    global_norm,
    step,
)
from mamt_jax.algorithms.parts import (
    VIEW_AXES,
    Coordination,
    Nonstationarity,
    PolicyGradients,
    Samples,
    TrustRegion,
    View,
)
from mamt_jax.algorithms.trust_region import for_every_sample, local_kl
from mamt_jax.algorithms.width import Evidence, WidthRule, clip_width, width_rule
from mamt_jax.networks.trd_net import TRDNet
from mamt_jax.ops import losses
from mamt_jax.ops.chunking import first, in_chunks
from mamt_jax.ops.masking import alive_pairs, masked_mean, masked_var
from mamt_jax.settings import LearnedRegion, Learning, Networks, Settings
from mamt_jax.types import Game, Metrics, Params


class RegionState(NamedTuple):
    """State of the learned trust region."""

    log_delta: jax.Array
    """float32 [n]."""
    offset: jax.Array
    """float32 [n]: exploration, added to log δ in the last policy step."""
    key: jax.Array
    """Source of the offsets."""
    rule: Any
    """Of what moves log δ."""
    trd: Optimised
    target_trd: Params
    """Slow average of θ: the slope that δ follows is small beside what one batch does to θ."""
    coordination: Any
    nonstationarity: Any
    terms: tuple[jax.Array, jax.Array]
    """∂V/∂log δ_i and ∂ΣKL/∂log δ_i of the last slow step, [n] each: reported, not used."""


def learned_trust_region(
    game: Game,
    settings: Settings,
    coordination: Coordination,
    nonstationarity: Nonstationarity,
) -> TrustRegion:
    """Trust regions whose widths are learned against predicted non-stationarity (Eq. 8).

    Args:
      game: sizes of the environment.
      settings: of the algorithm.
      coordination: where C comes from.
      nonstationarity: where D comes from.
    """
    region = _LearnedRegion(game, settings, coordination, nonstationarity)
    return TrustRegion(
        constrained=(True,) * game.num_agents,
        init=region.init,
        delta=region.delta,
        observe=region.observe,
        adapt=region.adapt,
        inspect=region.inspect,
    )


@dataclass(frozen=True)
class _LearnedRegion:
    game: Game
    settings: Settings
    coordination: Coordination
    nonstationarity: Nonstationarity

    @property
    def num_agents(self) -> int:
        return self.game.num_agents

    @property
    def own(self) -> LearnedRegion:
        return self.settings[LearnedRegion]

    @property
    def rule(self) -> WidthRule:
        """What moves log δ."""
        return width_rule(self.settings)

    @property
    def net(self) -> TRDNet:
        sizes, actions = self.game.obs_sizes, self.game.num_actions
        return TRDNet(sizes, actions, self.settings[Networks].hidden_size, self.own.trd_monotone)

    @property
    def trd_optimiser(self) -> optax.GradientTransformation:
        clip = self.settings[Learning].critic_clip_per_agent * self.num_agents
        return clipped_adam(adam_settings(self.settings), clip)

    def init(self, key: jax.Array) -> RegionState:
        trd_key, other_key, offset_key = jax.random.split(key, 3)
        n, zeros = self.num_agents, jnp.zeros(self.num_agents)
        log_delta = jnp.full(n, jnp.log(self.own.delta_init), jnp.float32)
        x, encoded = jnp.zeros((n, 1, self.game.obs_size)), jnp.zeros((n, 1, self.game.num_actions))
        params = self.net.init(trd_key, x, encoded, log_delta, jnp.zeros((n, n, 1)))
        return RegionState(
            log_delta=log_delta,
            offset=zeros,
            key=offset_key,
            rule=self.rule.init(log_delta),
            trd=Optimised(params, self.trd_optimiser.init(params)),
            target_trd=params,
            coordination=self.coordination.init(),
            nonstationarity=self.nonstationarity.init(other_key),
            terms=(zeros, zeros),
        )

    def observe(self, state: RegionState, view: View) -> tuple[RegionState, View, Metrics]:
        """C, D, the modelling policies' step, and the fast steps on TRD-Net (Eq. 5-7).

        The view gets C and D of the samples that the region looks at.
        """
        whole, view = view, self._part(view)
        rule, weights, metrics = self.coordination.measure(state.coordination, view)
        view = view._replace(coordination=weights)
        inner, found, more = self.nonstationarity.measure(state.nonstationarity, view)
        view = view._replace(nonstationarity=found)
        trd, fast = self._fast_steps(state, view)
        pairs = alive_pairs(view.alive)
        metrics |= more | fast
        metrics |= {
            "coordination_mean": masked_mean(weights, pairs, axis=-1),
            "coordination_var": masked_var(weights, pairs, axis=-1),
            "nonstationarity": masked_mean(found, view.alive, axis=-1),
        }
        target = blend(state.target_trd, trd.params, self.own.trd_tau)
        state = state._replace(trd=trd, target_trd=target, coordination=rule, nonstationarity=inner)
        whole = whole._replace(coordination=weights, nonstationarity=found)
        return self._explore(state), whole, metrics

    def delta(self, state: RegionState) -> jax.Array:
        """The explored δ ``[n]``."""
        return jnp.exp(self._explored(state))

    def adapt(
        self, state: RegionState, view: View, gradients: PolicyGradients, count: jax.Array
    ) -> tuple[RegionState, Metrics]:
        """The slow step on δ, in every ``delta_period``-th update (Eq. 8)."""
        due = (count + 1) % self.own.delta_period == 0
        state = jax.lax.cond(
            due,
            lambda state: self._slow_step(state, self._part(view), gradients),
            lambda state: state,
            state,
        )
        delta = jnp.exp(state.log_delta)
        limit = self.own.delta_total_per_agent * self.num_agents
        return state, {
            "delta": delta,
            "delta_within_budget": (jnp.sum(delta) <= limit).astype(jnp.float32),
            "delta_grad_value": state.terms[0],
            "delta_grad_kl": state.terms[1],
        }

    def inspect(self, state: RegionState, view: View) -> dict[str, jax.Array]:
        """C, D, δ before its random offset, and KL_i predicted under δ with the last offset."""
        weights = self.coordination.inspect(state.coordination, view)
        view = view._replace(coordination=weights)
        divergence, found = self.nonstationarity.inspect(state.nonstationarity, view)
        return {
            "coordination": weights,
            "divergence": divergence,
            "nonstationarity": found,
            "delta": for_every_sample(jnp.exp(state.log_delta), view),
            "local_kl_predicted": self._predict(state.trd.params, view, self._explored(state)),
        }

    def _predict(self, params: Params, view: View, log_delta: jax.Array) -> jax.Array:
        """KL_i ``[n, B]``."""
        return self.net.apply(params, view.x, view.encoded, log_delta, view.coordination)

    def _part(self, view: View) -> View:
        """The first ``region_samples``; modelling policies still learn from the whole batch."""
        count, size = self.own.region_samples, view.x.shape[1]
        if not 0 < count < size:
            return view
        recent = view.recent or Samples(view.x, view.action, view.alive)
        return first(view, VIEW_AXES, count)._replace(recent=recent)

    def _mean_in_chunks(self, function: Callable[[View], Any], view: View) -> Any:
        """``function`` of the view, a mean over the batch, without filling the cache."""
        values = self.num_agents**2 * self.settings[Networks].hidden_size
        return in_chunks(function, (VIEW_AXES,), None, values, view.alive)(view)

    def _explored(self, state: RegionState) -> jax.Array:
        """log δ as the policies feel it: the learned value with its offset, within the clip."""
        return clip_width(state.log_delta + state.offset, self.own)

    def _explore(self, state: RegionState) -> RegionState:
        """Draws the offsets of this update's policy step.

        TRD-Net is shown the δ of the step that made the current policies. Were δ to move on its
        slow path alone, its effect could not be told from the change of D with time, and the slope
        of KL_i in δ_i would be what initialisation left there; with independent offsets it is
        identified: what one policy step with a wider region does to D.
        """
        key, draw = jax.random.split(state.key)
        offset = self.own.delta_exploration * jax.random.normal(draw, state.offset.shape)
        return state._replace(offset=offset, key=key)

    def _fast_steps(self, state: RegionState, view: View) -> tuple[Optimised, Metrics]:
        """``theta_steps`` steps on TRD-Net's loss (Eq. 7); metrics are of the last."""
        log_delta = self._explored(state)

        def loss(params: Params, view: View) -> tuple[jax.Array, Metrics]:
            assert view.nonstationarity is not None
            predicted = self._predict(params, view, log_delta)
            value = losses.trd_loss(predicted, view.nonstationarity, view.alive)
            return value, {"trd_loss": value, "trd_kl": masked_mean(predicted, view.alive, axis=1)}

        def fast(trd: Optimised, _: None) -> tuple[Optimised, Metrics]:
            slope = jax.grad(loss, has_aux=True)
            gradient, metrics = self._mean_in_chunks(lambda view: slope(trd.params, view), view)
            metrics |= {"trd_grad_norm": global_norm(gradient)}
            return step(self.trd_optimiser, trd, gradient), metrics

        trd, metrics = jax.lax.scan(fast, state.trd, None, length=self.own.theta_steps)
        return trd, jax.tree.map(lambda leaf: leaf[-1], metrics)

    def _slow_step(self, state: RegionState, view: View, gradients: PolicyGradients) -> RegionState:
        """One step of the rule on log δ, at the δ of this update's policy step."""
        assert view.coordination is not None
        explored = self._explored(state)

        def cost(log_delta: jax.Array, view: View) -> jax.Array:
            predicted = self._predict(state.target_trd, view, log_delta)
            return jnp.sum(masked_mean(predicted, view.alive, axis=1))

        def terms() -> tuple[jax.Array, jax.Array]:
            delta = jnp.exp(explored)
            by_value = delta * self._gradient_of_value(delta, gradients)
            return by_value, self._mean_in_chunks(lambda view: jax.grad(cost)(explored, view), view)

        pairs = alive_pairs(view.alive)
        evidence = Evidence(
            kl=masked_mean(local_kl(view), view.alive, axis=-1),
            terms=terms,
            weight=jnp.sum(masked_mean(view.coordination, pairs, axis=-1), axis=0),
        )
        moved = self.rule.step(state.rule, state.log_delta, evidence)
        return state._replace(log_delta=moved.log_delta, rule=moved.state, terms=moved.terms)

    def _gradient_of_value(self, delta: jax.Array, gradients: PolicyGradients) -> jax.Array:
        """∂V_i/∂δ_i ``[n]``, by the configured objective."""
        if self.own.delta_objective == "lookahead":
            return gradients.value_term() / delta**2
        if self.own.delta_objective == "surrogate":
            return gradients.surrogate_term / delta**2
        return jnp.zeros_like(delta)
