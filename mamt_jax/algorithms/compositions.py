"""Every algorithm, as a composition of parts; the registry says which settings each has."""

from __future__ import annotations

from mamt_jax.algorithms.actor_critic import actor_critic
from mamt_jax.algorithms.coordination import (
    critic_coordination,
    fixed_coordination,
    random_coordination,
)
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.deterministic import deterministic_actor_critic
from mamt_jax.algorithms.learned_region import learned_trust_region
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.nonstationarity import (
    consecutive_nonstationarity,
    modelled_nonstationarity,
)
from mamt_jax.algorithms.opponent_shaping import shaping_actor_critic
from mamt_jax.algorithms.proximal import proximal_actor_critic
from mamt_jax.algorithms.trust_region import (
    budgeted_trust_region,
    fixed_trust_region,
    no_trust_region,
    prior_trust_region,
)
from mamt_jax.networks.joint import JointCritic
from mamt_jax.networks.policies import AttentionActor
from mamt_jax.settings import AttentionNetworks, Networks, OpponentShaping, Settings
from mamt_jax.types import Algorithm, Game


def maac(game: Game, settings: Settings) -> Algorithm:
    """Soft attention actor-critic: no trust region."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    return actor_critic("maac", actors, critic, no_trust_region(game), settings)


def mamd(game: Game, settings: Settings) -> Algorithm:
    """Mirror descent with the same fixed trust region for every agent."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    return actor_critic("mamd", actors, critic, fixed_trust_region(game, settings), settings)


def mamd_kl(game: Game, settings: Settings) -> Algorithm:
    """MAMD with the width that a budget of local KL allows: MAMT's level without its shares."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    return actor_critic("mamd_kl", actors, critic, budgeted_trust_region(game, settings), settings)


def mamd_op(game: Game, settings: Settings) -> Algorithm:
    """MAMD with a region only for agents that depend on others, which the game must say."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    return actor_critic("mamd_op", actors, critic, prior_trust_region(game, settings), settings)


def mamt(game: Game, settings: Settings) -> Algorithm:
    """Mirror descent with trust regions learned against modelled non-stationarity.

    Five defaults are ours (results/README.md says why). The paper's are ``delta_rule="penalty"``,
    with which ``delta_shares`` has no say, ``coordination_units="raw"``, ``delta_exploration=0``
    and ``trd_tau=1``.
    """
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    coordination = critic_coordination(critic, settings)
    nonstationarity = modelled_nonstationarity(game, settings)
    region = learned_trust_region(game, settings, coordination, nonstationarity)
    return actor_critic("mamt", actors, critic, region, settings)


def mamt_random(game: Game, settings: Settings) -> Algorithm:
    """MAMT with random coordination coefficients."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    nonstationarity = modelled_nonstationarity(game, settings)
    region = learned_trust_region(game, settings, random_coordination(), nonstationarity)
    return actor_critic("mamt_random", actors, critic, region, settings)


def mamt_fixed(game: Game, settings: Settings) -> Algorithm:
    """MAMT with equal coordination coefficients."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    nonstationarity = modelled_nonstationarity(game, settings)
    region = learned_trust_region(game, settings, fixed_coordination(), nonstationarity)
    return actor_critic("mamt_fixed", actors, critic, region, settings)


def mamt_ws(game: Game, settings: Settings) -> Algorithm:
    """MAMT with the weighted sum of consecutive local divergences for non-stationarity."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    coordination = critic_coordination(critic, settings)
    nonstationarity = consecutive_nonstationarity(settings)
    region = learned_trust_region(game, settings, coordination, nonstationarity)
    return actor_critic("mamt_ws", actors, critic, region, settings)


def mamt_ppo(game: Game, settings: Settings) -> Algorithm:
    """MAPPO whose clip ranges are learned as MAMT's trust regions are.

    Together they may be as wide as MAPPO's: what is learned is how to divide that among agents.
    """
    actors = build_actors(game, settings, _attention_actor(game, settings))
    critic = attention_critic(game, settings, own_actions=False)
    coordination = critic_coordination(critic, settings)
    nonstationarity = modelled_nonstationarity(game, settings)
    region = learned_trust_region(game, settings, coordination, nonstationarity)
    return proximal_actor_critic("mamt_ppo", actors, critic, region, settings)


def mappo(game: Game, settings: Settings) -> Algorithm:
    """PPO with attention in critic and policies ("MA-PPO" in the paper)."""
    actors = build_actors(game, settings, _attention_actor(game, settings))
    critic = attention_critic(game, settings, own_actions=False)
    return proximal_actor_critic("mappo", actors, critic, no_trust_region(game), settings)


def maddpg(game: Game, settings: Settings) -> Algorithm:
    """Deterministic policy gradients through joint critics."""
    critic = JointCritic(settings[Networks].hidden_size, outputs=1)
    return deterministic_actor_critic("maddpg", build_actors(game, settings), critic, settings)


def lola_dqn(game: Game, settings: Settings) -> Algorithm:
    """Policies that shape their opponent's learning, on joint-action Q, for two agents."""
    temperature = settings[OpponentShaping].lola_temperature
    actors = build_actors(game, settings)._replace(temperature=temperature)
    critic = JointCritic(settings[Networks].hidden_size, outputs=game.num_actions**2)
    return shaping_actor_critic("lola_dqn", actors, critic, settings)


def _attention_actor(game: Game, settings: Settings) -> AttentionActor:
    networks = settings[AttentionNetworks]
    sizes = game.obs_sizes, game.num_actions, networks.hidden_size, networks.attention_heads
    return AttentionActor(*sizes)
