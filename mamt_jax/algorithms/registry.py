"""Every algorithm, as a composition of parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from mamt_jax.algorithms.actor_critic import actor_critic, build_networks
from mamt_jax.algorithms.coordination import critic_coordination
from mamt_jax.algorithms.learned_region import learned_trust_region
from mamt_jax.algorithms.nonstationarity import modelled_nonstationarity
from mamt_jax.algorithms.trust_region import fixed_trust_region, no_trust_region
from mamt_jax.config import AlgorithmConfig, ConfigError
from mamt_jax.types import Algorithm


class Entry(NamedTuple):
    """A registered algorithm."""

    summary: str
    """One line for ``mamt list``."""
    build: Callable[[tuple[int, ...], tuple[int, ...], AlgorithmConfig], Algorithm]
    """(observation sizes, action counts, settings) -> algorithm."""


def maac(
    obs_sizes: tuple[int, ...], action_counts: tuple[int, ...], hyper: AlgorithmConfig
) -> Algorithm:
    """Soft attention actor-critic: no trust region."""
    networks = build_networks(obs_sizes, action_counts, hyper)
    return actor_critic("maac", networks, hyper, no_trust_region(hyper))


def mamd(
    obs_sizes: tuple[int, ...], action_counts: tuple[int, ...], hyper: AlgorithmConfig
) -> Algorithm:
    """Mirror descent with the same fixed trust region for every agent."""
    networks = build_networks(obs_sizes, action_counts, hyper)
    return actor_critic("mamd", networks, hyper, fixed_trust_region(len(obs_sizes), hyper))


def mamt(
    obs_sizes: tuple[int, ...], action_counts: tuple[int, ...], hyper: AlgorithmConfig
) -> Algorithm:
    """Mirror descent with trust regions learned against modelled non-stationarity.

    Three defaults are ours, because δ does not follow Eq. 8 without them (results/README.md). The
    paper's are ``coordination_units="raw"``, ``delta_exploration=0`` and ``trd_tau=1``.
    """
    networks = build_networks(obs_sizes, action_counts, hyper)
    weights = critic_coordination(networks.critic, hyper)
    drift = modelled_nonstationarity(obs_sizes, action_counts, hyper)
    region = learned_trust_region(obs_sizes, max(action_counts), hyper, weights, drift)
    return actor_critic("mamt", networks, hyper, region)


ALGORITHMS: dict[str, Entry] = {
    "maac": Entry("Multi-actor attention critic (Iqbal & Sha 2019)", maac),
    "mamd": Entry("Mirror descent with fixed, equal trust regions (Li et al. 2022, Eq. 4)", mamd),
    "mamt": Entry("Mirror descent with learned trust regions (Li et al. 2022)", mamt),
}


def make(
    name: str,
    obs_sizes: tuple[int, ...],
    action_counts: tuple[int, ...],
    hyper: AlgorithmConfig | None = None,
) -> Algorithm:
    """Builds a registered algorithm.

    Raises:
      ConfigError: if there is no algorithm of that name.
    """
    if name not in ALGORITHMS:
        raise ConfigError(f"Unknown algorithm {name!r}; accepted are {', '.join(ALGORITHMS)}.")
    return ALGORITHMS[name].build(obs_sizes, action_counts, hyper or AlgorithmConfig())
