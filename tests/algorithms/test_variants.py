"""What the ablations change, and what they leave."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.actor_critic import ActorCritic
from mamt_jax.algorithms.coordination import fixed_coordination, random_coordination
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.nonstationarity import consecutive_nonstationarity
from mamt_jax.algorithms.parts import TrustRegion, View
from mamt_jax.algorithms.registry import make
from mamt_jax.algorithms.trust_region import (
    fixed_trust_region,
    no_trust_region,
    prior_trust_region,
)
from mamt_jax.errors import ConfigError
from mamt_jax.settings import Settings
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import quick

BATCH = 7
SIZES = (2,) * 3, (3,) * 3


def view(num_agents: int = 3, seed: int = 0, alive: Any = None) -> View:
    action = jnp.zeros((num_agents, BATCH), jnp.int32)
    return tiny.empty_view(action=action, key=jax.random.key(seed), alive=alive)


def penalty(region: TrustRegion, settings: Settings, *logs: jax.Array) -> np.ndarray:
    """What weighs log π at actions of these log π and log π_old ``[n, B]``."""
    game = Game(*SIZES)
    parts = ActorCritic(
        build_actors(game, settings), settings, attention_critic(game, settings), region
    )
    divergence = parts._divergence(*logs)
    return np.asarray(parts._penalty(region.init(jax.random.key(0)), logs[0], divergence))


def test_penalty_is_the_tsallis_divergence_over_delta_or_soft_entropy() -> None:
    settings = tiny.settings(soft_reward_scale=50.0, delta_fixed=0.25)
    rng = np.random.default_rng(0)
    new, old = jnp.log(jnp.asarray(rng.uniform(0.05, 0.95, (2, 3, BATCH)), jnp.float32))
    power = 0.8
    tsallis = (np.exp(new) ** power - np.exp(old) ** power) / power
    fixed = fixed_trust_region(Game(*SIZES), settings)
    delta = np.array([0.25, 1.0, 4.0])
    for region, by in (
        (fixed, 0.25),
        (fixed._replace(delta=lambda state: jnp.asarray(delta)), delta[:, None]),
    ):
        got = penalty(region, settings, new, old)
        np.testing.assert_allclose(got, tsallis / by, rtol=1e-4, atol=1e-5)
    got = penalty(no_trust_region(Game(*SIZES)), settings, new, old)
    np.testing.assert_allclose(got, 0.02 * new, rtol=1e-6)


@pytest.mark.parametrize("teams", [((0, 1, 2),), ((0,), (1,), (2,)), ((0, 2), (1,))])
def test_prior_regions_constrain_those_with_a_team_mate(teams: Any) -> None:
    settings = tiny.settings(delta_fixed=0.3)
    logs = jnp.log(jnp.asarray(np.random.default_rng(0).uniform(0.1, 1, (2, 3, BATCH))))
    game = Game(*SIZES, teams)
    got = penalty(prior_trust_region(game, settings), settings, *logs)
    mirror = penalty(fixed_trust_region(game, settings), settings, *logs)
    soft = penalty(no_trust_region(game), settings, *logs)
    for team in teams:
        for agent in team:
            expected = mirror if len(team) > 1 else soft
            np.testing.assert_array_equal(got[agent], expected[agent])
    assert np.abs(mirror - soft).min() > 1e-4


def test_prior_regions_need_to_know_the_teams() -> None:
    sentence = r"needs an environment that says which agents depend on one another: spread3_sep,"
    with pytest.raises(ConfigError, match=re.compile(sentence)):
        make("mamd_op", Game(*SIZES))


def test_random_coefficients_are_a_softmax_of_uniform_draws() -> None:
    one, two = (
        np.asarray(random_coordination().measure((), view(seed=seed))[1]) for seed in (0, 1)
    )
    np.testing.assert_allclose(one.sum(axis=1), 1, rtol=1e-5)
    assert (one[np.arange(3), np.arange(3)] == 0).all()
    off = one[~np.eye(3, dtype=bool)]
    # Two draws that differ by at most one: shares between σ(−1) and σ(1), all of them different.
    assert off.min() > 0.2689 and off.max() < 0.7311 and len(np.unique(off)) == 6 * BATCH
    assert off.std() > 0.05 and not np.isclose(one, two)[~np.eye(3, dtype=bool)].any()


def test_fixed_coefficients_are_shares_of_who_is_there() -> None:
    weights = np.asarray(fixed_coordination().measure((), view(4))[1])
    np.testing.assert_allclose(weights, ((1 - np.eye(4)) / 3)[..., None].repeat(BATCH, 2))
    alive = np.ones((4, BATCH), bool)
    alive[3] = False
    weights = np.asarray(fixed_coordination().measure((), view(4, alive=jnp.asarray(alive)))[1])
    np.testing.assert_allclose(weights[:3, :3, 0], (1 - np.eye(3)) / 2)
    assert (weights[3] == 0).all() and (weights[:, 3] == 0).all()


def test_weighted_sum_of_consecutive_local_divergences() -> None:
    """D_i = (1/n) Σ_{j≠i} C_ij KL[π_j ‖ π_j_old]."""
    rng = np.random.default_rng(0)
    new, old = (rng.dirichlet(np.ones(3), (3, BATCH)) for _ in range(2))
    weight = rng.uniform(size=(3, 3, BATCH)) * (1 - np.eye(3))[..., None]
    policies = {"log_policy": jnp.log(new), "log_old_policy": jnp.log(old)}
    seen = view()._replace(**policies, coordination=jnp.asarray(weight))
    rule = consecutive_nonstationarity(tiny.settings())
    _, got, metrics = rule.measure((), seen)
    kl = np.sum(new * np.log(new / old), axis=-1)
    expected = np.einsum("ijb,jb->ib", weight, kl) / 3
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert metrics == {}


@pytest.mark.parametrize("name", ["mamt_random", "mamt_fixed"])
def test_with_two_agents_coordination_has_one_value(name: str) -> None:
    """Eq. 5 is a softmax of one entry there: MAMT and these are one algorithm, bit for bit."""
    game = Game((3, 3), (3, 3))
    batch = tiny.batch(*game[:2])
    ends = []
    for each in ("mamt", name):
        algorithm = make(each, game, tiny.settings())
        state, update = tiny.grown(algorithm), quick.jit(algorithm.update)
        for count in range(2):
            state, metrics = update(state, jax.random.key(count), batch, jnp.int32(count))
        state = state._replace(region=state.region._replace(coordination=()))
        ends.append(quick.plain((state, metrics)))
    jax.tree.map(np.testing.assert_array_equal, *ends)


def test_mamt_with_equal_shares_moves_policies_as_mamd_kl_does() -> None:
    """TRD-Net, C and D then only say what they see; δ and all policies are the same."""
    game, ends = Game(*SIZES), []
    batch = tiny.batch(*game[:2])
    for name in ("mamt", "mamd_kl"):
        options = {"delta_shares": "equal", "delta_exploration": 0.0, "kl_budget": 1e-3}
        algorithm = make(name, game, tiny.settings(name, **options))
        state, update = quick.jit(algorithm.init)(jax.random.key(0)), quick.jit(algorithm.update)
        for count in range(4):
            state, metrics = update(state, jax.random.key(count), batch, jnp.int32(count))
        ends.append((state.actor.params, state.critic.params, metrics["delta"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), *ends)
    assert (np.abs(np.log(ends[0][2])) > 0.01).all()
