"""Trust regions: what keeps a policy near its past. None (soft entropy), fixed, or learned.

A trust region is a record of functions that the actor-critic calls twice in an update: before the
networks step (``observe``), and when the policy gradients are known (``adapt``). Between the two,
``penalty`` weighs log π in the policy objective.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.config import AlgorithmConfig
from mamt_jax.errors import ConfigError
from mamt_jax.networks.critic import CriticTrace
from mamt_jax.ops import divergences
from mamt_jax.ops.masking import masked_mean, seen
from mamt_jax.types import Game, Metrics, Params


class View(NamedTuple):
    """What an update has computed from the batch before any network steps. Agent-major."""

    key: jax.Array
    """For what is drawn anew in every update."""
    x: jax.Array
    """[n, B, O] normalised observations."""
    action: jax.Array
    """int32 [n, B], from the replay."""
    encoded_action: jax.Array
    """[n, B, A]: normalised one-hot of the same."""
    action_encoding: jax.Array
    """[n, A, A]: row u is one-hot(u), normalised likewise."""
    log_policy: jax.Array
    """[n, B, A], current policies."""
    log_old_policy: jax.Array
    """[n, B, A], policies of the last refresh; on-policy, those that made the rollout."""
    critic_params: Params
    """Critic before its step."""
    trace: CriticTrace
    """Critic's values and attention at the replay's actions."""
    recent_x: jax.Array
    """[n, B, O]: observations for the modelling policies."""
    recent_action: jax.Array
    """int32 [n, B]."""
    alive: jax.Array | None
    """bool [n, B]: which agents were in the episode; None if all. The others' observations and
    encoded actions are zeros."""
    recent_alive: jax.Array | None
    """bool [n, B]: the same of the modelling policies' observations."""


class PolicyGradients(NamedTuple):
    """What the slow step on δ may use of the policy update."""

    value_term: Callable[[], jax.Array]
    """() -> δ_i² ∂V_i/∂δ_i [n] by the next policy step. Under mirror descent that is
    ⟨g_A,i , P g_KL,i⟩. A function, because only every slow step pays for it."""
    surrogate_term: jax.Array
    """δ_i² times the derivative of the policies' surrogate objective in δ_i [n]. Under mirror
    descent that is E[log π_i · KL_i]."""


class TrustRegion(NamedTuple):
    """A trust region as pure functions of its state."""

    init: Callable[[jax.Array], Any]
    """key -> state."""
    observe: Callable[[Any, View], tuple[Any, Any, Metrics]]
    """(state, view) -> (state after its fast steps, what ``adapt`` needs of the batch, metrics)."""
    penalty: Callable[[Any, jax.Array, jax.Array], jax.Array]
    """(state, log π(a) [n, B], log π_old(a) [n, B]) -> what weighs log π beside −advantage."""
    delta: Callable[[Any], jax.Array | float]
    """state -> δ_i [n] as policies feel it; 1 where there are no regions."""
    adapt: Callable[[Any, Any, PolicyGradients, jax.Array], tuple[Any, Metrics]]
    """(state, what ``observe`` kept, gradients, count of earlier updates []) -> slow step."""


def _no_adaptation(state: Any, *_: Any) -> tuple[Any, Metrics]:
    return state, {}


def no_trust_region(hyper: AlgorithmConfig) -> TrustRegion:
    """Soft policy: α log π in place of a divergence (Iqbal & Sha 2019)."""
    alpha = 1.0 / hyper.soft_reward_scale
    return TrustRegion(
        init=lambda key: (),
        observe=lambda state, view: (state, (), {}),
        penalty=lambda state, log_prob, log_old: alpha * log_prob,
        delta=lambda state: 1.0,
        adapt=_no_adaptation,
    )


def mirror_penalty(
    delta: jax.Array, log_prob: jax.Array, log_old: jax.Array, q: float
) -> jax.Array:
    """KL_i/δ_i with the Tsallis divergence of the sampled actions (Eq. 10): ``[n, B]``."""
    return divergences.tsallis_divergence(log_prob, log_old, q) / delta[:, None]


def fixed_trust_region(num_agents: int, hyper: AlgorithmConfig) -> TrustRegion:
    """MAMD's δ_i = δ/n for every agent (Eq. 4)."""
    delta = jnp.full(num_agents, hyper.delta_fixed, jnp.float32)
    return TrustRegion(
        init=lambda key: (),
        observe=lambda state, view: (state, (), {"delta": delta}),
        penalty=lambda state, log_prob, log_old: mirror_penalty(
            delta, log_prob, log_old, hyper.tsallis_q
        ),
        delta=lambda state: delta,
        adapt=_no_adaptation,
    )


def prior_trust_region(game: Game, hyper: AlgorithmConfig) -> TrustRegion:
    """MAMD-OP's: as MAMD's for agents with a team mate, none for those alone (Appendix D).

    It reports no δ, because not every agent has one.

    Raises:
      ConfigError: if the game does not say which agents depend on one another.
    """
    if game.teams is None:
        raise ConfigError(
            "A trust region from prior knowledge (mamd_op) needs an environment that says which "
            "agents depend on one another: spread3_sep, spread3_mix, spread3_ful or spread."
        )
    fixed, none = fixed_trust_region(game.num_agents, hyper), no_trust_region(hyper)
    joined = [agent for team in game.teams if len(team) > 1 for agent in team]
    constrained = np.isin(np.arange(game.num_agents), joined)[:, None]
    return none._replace(
        penalty=lambda *arguments: jnp.where(
            constrained, fixed.penalty(*arguments), none.penalty(*arguments)
        )
    )


def drift(view: View) -> Metrics:
    """How far the policies are from those of the last refresh (Definitions 2 and 3).

    These two are the consecutive policies of mirror descent, whose iteration is m updates long.
    """
    local = divergences.categorical_kl(view.log_policy, view.log_old_policy)
    shift = divergences.categorical_kl(view.log_old_policy, view.log_policy)
    switching = divergences.opponent_switching_cost(shift, view.alive)
    return {
        "local_kl": masked_mean(local, view.alive, axis=-1),
        "switching_cost": switching,
        "delta_stationarity": masked_mean(switching, seen(view.alive, axis=1), axis=0),
    }
