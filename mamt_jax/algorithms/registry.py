"""Every algorithm, as a composition of parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

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
    fixed_trust_region,
    no_trust_region,
    prior_trust_region,
)
from mamt_jax.config import AlgorithmConfig, ConfigError, default_settings
from mamt_jax.errors import close_to
from mamt_jax.networks.joint import JointCritic
from mamt_jax.networks.policies import Actor, AttentionActor
from mamt_jax.types import Algorithm, Game


class Entry(NamedTuple):
    """A registered algorithm."""

    summary: str
    """One line for ``mamt list``."""
    build: Callable[[Game, AlgorithmConfig], Algorithm]
    """(sizes of the environment, settings) -> algorithm."""


def maac(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """Soft attention actor-critic: no trust region."""
    actors, critic = build_actors(game, hyper), attention_critic(game, hyper)
    return actor_critic("maac", actors, critic, no_trust_region(game), hyper)


def mamd(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """Mirror descent with the same fixed trust region for every agent."""
    actors, critic = build_actors(game, hyper), attention_critic(game, hyper)
    return actor_critic("mamd", actors, critic, fixed_trust_region(game, hyper), hyper)


def mamd_op(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """MAMD with a region only for agents that depend on others, which the game must say."""
    actors, critic = build_actors(game, hyper), attention_critic(game, hyper)
    return actor_critic("mamd_op", actors, critic, prior_trust_region(game, hyper), hyper)


def mamt(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """Mirror descent with trust regions learned against modelled non-stationarity.

    Three defaults are ours, because δ does not follow Eq. 8 without them (results/README.md). The
    paper's are ``coordination_units="raw"``, ``delta_exploration=0`` and ``trd_tau=1``.
    """
    actors, critic = build_actors(game, hyper), attention_critic(game, hyper)
    coordination = critic_coordination(critic, hyper)
    nonstationarity = modelled_nonstationarity(game, hyper)
    region = learned_trust_region(game, hyper, coordination, nonstationarity)
    return actor_critic("mamt", actors, critic, region, hyper)


def mamt_random(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """MAMT with random coordination coefficients."""
    actors, critic = build_actors(game, hyper), attention_critic(game, hyper)
    nonstationarity = modelled_nonstationarity(game, hyper)
    region = learned_trust_region(game, hyper, random_coordination(), nonstationarity)
    return actor_critic("mamt_random", actors, critic, region, hyper)


def mamt_fixed(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """MAMT with equal coordination coefficients."""
    actors, critic = build_actors(game, hyper), attention_critic(game, hyper)
    nonstationarity = modelled_nonstationarity(game, hyper)
    region = learned_trust_region(game, hyper, fixed_coordination(), nonstationarity)
    return actor_critic("mamt_fixed", actors, critic, region, hyper)


def mamt_ws(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """MAMT with the weighted sum of consecutive local divergences for non-stationarity."""
    actors, critic = build_actors(game, hyper), attention_critic(game, hyper)
    coordination = critic_coordination(critic, hyper)
    nonstationarity = consecutive_nonstationarity(hyper)
    region = learned_trust_region(game, hyper, coordination, nonstationarity)
    return actor_critic("mamt_ws", actors, critic, region, hyper)


def mamt_ppo(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """MAPPO whose clip ranges are learned as MAMT's trust regions are.

    Together they may be as wide as MAPPO's: what is learned is how to divide that among agents.
    """
    actors = build_actors(game, hyper, _attention_actor(game, hyper))
    critic = attention_critic(game, hyper, own_actions=False)
    coordination = critic_coordination(critic, hyper)
    nonstationarity = modelled_nonstationarity(game, hyper)
    region = learned_trust_region(game, hyper, coordination, nonstationarity)
    return proximal_actor_critic("mamt_ppo", actors, critic, region, hyper)


def mappo(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """PPO with attention in critic and policies ("MA-PPO" in the paper)."""
    actors = build_actors(game, hyper, _attention_actor(game, hyper))
    critic = attention_critic(game, hyper, own_actions=False)
    return proximal_actor_critic("mappo", actors, critic, no_trust_region(game), hyper)


def maddpg(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """Deterministic policy gradients through joint critics."""
    critic = JointCritic(hyper.hidden_size, outputs=1)
    return deterministic_actor_critic("maddpg", build_actors(game, hyper), critic, hyper)


def lola_dqn(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """Policies that shape their opponent's learning, on joint-action Q, for two agents."""
    size, actions = hyper.hidden_size, game.num_actions
    actors = build_actors(game, hyper, Actor(game.obs_sizes, actions, size, hyper.lola_temperature))
    critic = JointCritic(size, outputs=actions**2)
    return shaping_actor_critic("lola_dqn", actors, critic, hyper)


def _attention_actor(game: Game, hyper: AlgorithmConfig) -> AttentionActor:
    sizes = game.obs_sizes, game.num_actions, hyper.hidden_size, hyper.attention_heads
    return AttentionActor(*sizes)


ALGORITHMS: dict[str, Entry] = {
    "mamt": Entry("Mirror descent with learned trust regions (Li et al. 2022)", mamt),
    "mamd": Entry("Mirror descent with fixed, equal trust regions (Li et al. 2022, Eq. 4)", mamd),
    "mamd_op": Entry("MAMD with regions from prior knowledge, for spread*", mamd_op),
    "maac": Entry("Multi-actor attention critic (Iqbal & Sha 2019)", maac),
    "maddpg": Entry("Multi-agent deterministic policy gradient (Lowe et al. 2017)", maddpg),
    "mappo": Entry("Multi-agent PPO, on-policy (Yu et al. 2021)", mappo),
    "lola_dqn": Entry(
        "Opponent-learning awareness on joint Q, for 2 agents (Foerster et al. 2018)", lola_dqn
    ),
    "mamt_random": Entry("MAMT, coordination coefficients at random", mamt_random),
    "mamt_fixed": Entry("MAMT, equal coordination coefficients", mamt_fixed),
    "mamt_ws": Entry("MAMT, non-stationarity from consecutive local policies", mamt_ws),
    "mamt_ppo": Entry("MAMT, PPO in place of mirror descent, on-policy", mamt_ppo),
}


def make(name: str, game: Game, hyper: AlgorithmConfig | None = None) -> Algorithm:
    """Builds a registered algorithm, with its own default settings unless others are given.

    Raises:
      ConfigError: if there is no algorithm of that name, or it does not fit the game.
    """
    if name not in ALGORITHMS:
        close = close_to(name, ALGORITHMS)
        raise ConfigError(
            f"Unknown algorithm {name!r}{close}; accepted are {', '.join(ALGORITHMS)}."
        )
    return ALGORITHMS[name].build(game, hyper or default_settings(name))
