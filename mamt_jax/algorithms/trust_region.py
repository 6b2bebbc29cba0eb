"""Trust regions without TRD-Net: none (soft policies), fixed, within a budget, from knowledge."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from mamt_jax.algorithms.parts import PolicyGradients, TrustRegion, View
from mamt_jax.algorithms.width import within_budget
from mamt_jax.errors import ConfigError
from mamt_jax.ops import divergences
from mamt_jax.ops.masking import masked_mean, seen
from mamt_jax.settings import FixedRegion, RegionWidth, Settings
from mamt_jax.types import Game, Metrics


def no_trust_region(game: Game) -> TrustRegion:
    """Nobody has a region: policies are soft (Iqbal & Sha 2019), or have PPO's own clip range."""
    return TrustRegion(
        constrained=(False,) * game.num_agents,
        init=lambda key: (),
        delta=lambda state: jnp.ones(game.num_agents),
    )


def fixed_trust_region(game: Game, settings: Settings) -> TrustRegion:
    """MAMD's δ_i = δ/n for every agent (Eq. 4)."""
    delta = jnp.full(game.num_agents, settings[FixedRegion].delta_fixed, jnp.float32)
    return TrustRegion(
        constrained=(True,) * game.num_agents,
        init=lambda key: (),
        delta=lambda state: delta,
        observe=lambda state, view: (state, view, {"delta": delta}),
        inspect=lambda state, view: {"delta": for_every_sample(delta, view)},
    )


def budgeted_trust_region(game: Game, settings: Settings) -> TrustRegion:
    """The same δ for every agent, as wide as a budget of local KL allows.

    What MAMT with equal shares does, without TRD-Net, C and D.
    """
    own = settings[RegionWidth]

    def every(level: jax.Array) -> jax.Array:
        return jnp.full(game.num_agents, jnp.exp(level))

    def adapt(
        state: jax.Array, view: View, gradients: PolicyGradients, count: jax.Array
    ) -> tuple[jax.Array, Metrics]:
        kl = masked_mean(local_kl(view), view.alive, axis=-1)
        due = (count + 1) % own.delta_period == 0
        level = jnp.where(due, within_budget(state, kl, own), state)
        return level, {"delta": every(level)}

    return TrustRegion(
        constrained=(True,) * game.num_agents,
        init=lambda key: jnp.log(jnp.float32(own.delta_init)),
        delta=every,
        adapt=adapt,
        inspect=lambda level, view: {"delta": for_every_sample(every(level), view)},
    )


def prior_trust_region(game: Game, settings: Settings) -> TrustRegion:
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
    joined = {agent for team in game.teams if len(team) > 1 for agent in team}
    constrained = tuple(agent in joined for agent in range(game.num_agents))
    delta = jnp.where(jnp.array(constrained), settings[FixedRegion].delta_fixed, 1.0)
    return no_trust_region(game)._replace(constrained=constrained, delta=lambda state: delta)


def for_every_sample(per_agent: jax.Array, view: View) -> jax.Array:
    """``[n] -> [n, B]``."""
    return jnp.broadcast_to(per_agent[:, None], view.action.shape)


def policy_change(view: View) -> Metrics:
    """How far the policies are from those of the last refresh (Definitions 2 and 3).

    These two are the consecutive policies of mirror descent, whose iteration is m updates long.
    """
    shift = divergences.categorical_kl(view.log_old_policy, view.log_policy)
    switching = divergences.opponent_switching_cost(shift, view.alive)
    return {
        "local_kl": masked_mean(local_kl(view), view.alive, axis=-1),
        "switching_cost": switching,
        "switching_cost_mean": masked_mean(switching, seen(view.alive, axis=1), axis=0),
    }


def local_kl(view: View) -> jax.Array:
    """KL[π_i ‖ π_i_old] ``[n, B]``, nats."""
    return divergences.categorical_kl(view.log_policy, view.log_old_policy)
