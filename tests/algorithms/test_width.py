"""Rules that move δ: the budget of KL, and how regions differ within it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mamt_jax.algorithms import width
from mamt_jax.algorithms.parts import PolicyGradients
from mamt_jax.algorithms.trust_region import budgeted_trust_region
from mamt_jax.algorithms.width import Evidence
from mamt_jax.types import Game
from tests.algorithms import tiny

BUDGET, RATE = 0.05, 0.02
KL = jnp.array([0.02, 0.05, 0.08])
VALUE, SLOPE = jnp.array([3e-4, 1e-4, -1e-4]), jnp.array([0.2, 0.1, 0.3])


def rule(**options: Any) -> width.WidthRule:
    chosen = {"delta_rule": "budget", "kl_budget": BUDGET, "width_rate": RATE, "share_rate": 1.0}
    chosen |= {"delta_shares": "trd_net"}
    return width.width_rule(tiny.settings(**chosen | options))


def evidence(**fields: Any) -> Evidence:
    known = {"kl": KL, "terms": lambda: (VALUE, SLOPE), "weight": jnp.array([0.5, 1.0, 2.0])}
    return Evidence(**known | fields)


def moved(level: float = 0.0, found: Evidence | None = None, **options: Any) -> np.ndarray:
    """By how much log δ moves in a step from there."""
    start, made = jnp.full(3, level), rule(**options)
    after = made.step(made.init(start), start, found or evidence())
    return np.asarray(after.log_delta - start)


@pytest.mark.parametrize(("used", "change"), [(0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (3.0, -1.0)])
def test_all_widen_by_what_is_left_of_the_budget(used: float, change: float) -> None:
    """At most by the rate, in either direction; it is the mean over agents that counts."""
    kl = used * BUDGET * jnp.array([0.0, 1.0, 2.0])
    found = moved(found=evidence(kl=kl), delta_shares="equal")
    np.testing.assert_allclose(found, RATE * change, rtol=1e-4, atol=1e-7)


@given(
    start=st.floats(-4.5, 4.5),
    response=st.floats(0.5, 2.0),
    scale=st.floats(-6.0, 2.0),
    ramps=st.booleans(),
)
def test_kl_meets_the_budget_from_any_start(
    start: float, response: float, scale: float, ramps: bool
) -> None:
    """Of policies whose KL is exp(scale) δ^response, whether it grows in the life of an old policy
    (mean 1 over it) or not; where the clip allows no such δ, at the clip."""
    own = tiny.settings(kl_budget=BUDGET, width_rate=RATE)[width.RegionWidth]
    level, life, used = np.float32(start), 50, []
    budget, rate = np.float32(own.kl_budget), np.float32(own.width_rate)
    for count in range(1500):
        age = 2 * (count % life + 0.5) / life if ramps else 1.0
        kl = age * np.exp(scale + response * level)
        used.append(kl)
        level = np.clip(level + rate * np.clip(1 - kl / budget, -1, 1), np.log(0.01), np.log(100))
        if count == 7:  # the rule itself, on the way
            step = width.within_budget(jnp.float32(level), jnp.full(3, kl), own)
            by_hand = level + rate * np.clip(1 - kl / budget, -1, 1)
            np.testing.assert_allclose(step, np.clip(by_hand, *np.log([0.01, 100])), atol=1e-5)
    wanted = (np.log(BUDGET) - scale) / response
    if abs(wanted) < 4.4:
        np.testing.assert_allclose(np.mean(used[-4 * life :]), BUDGET, rtol=0.15)
    else:
        np.testing.assert_allclose(level, np.clip(wanted, *np.log([0.01, 100])), atol=0.3)


def test_shares_are_relative_and_leave_the_level_alone() -> None:
    """v_i/mean|v| − s_i/mean|s|: units of V and of KL do not matter, and the mean does not move."""
    at_budget = {"kl": jnp.full(3, BUDGET)}
    found = moved(found=evidence(**at_budget), share_limit=10.0)
    ratio = np.asarray(VALUE) / np.abs(VALUE).mean() - np.asarray(SLOPE) / np.abs(SLOPE).mean()
    np.testing.assert_allclose(found, ratio - ratio.mean(), rtol=1e-4)
    other = evidence(terms=lambda: (1e3 * VALUE, 1e-3 * SLOPE), **at_budget)
    np.testing.assert_allclose(moved(found=other, share_limit=10.0), found, rtol=1e-4)
    least = np.clip(found, -0.1, 0.1)
    bounded = moved(found=evidence(**at_budget), share_limit=0.1)
    np.testing.assert_allclose(bounded, least - least.mean(), rtol=1e-4)


def test_shares_by_coordination_are_inverse_to_who_depends_on_an_agent() -> None:
    found = moved(found=evidence(kl=jnp.full(3, BUDGET)), delta_shares="coordination")
    np.testing.assert_allclose(np.exp(found), [2.0, 1.0, 0.5], rtol=1e-5)


@pytest.mark.parametrize("shares", ["coordination", "equal"])
def test_only_trd_nets_shares_pay_for_the_terms_of_eq_8(shares: str) -> None:
    def unaffordable() -> Any:
        raise AssertionError("the terms were computed")

    moved(found=evidence(terms=unaffordable), delta_shares=shares)


def test_shares_are_slow_averages() -> None:
    made, found = rule(share_rate=0.25, delta_shares="coordination"), evidence()
    state = made.init(jnp.zeros(3))
    for count in range(1, 4):
        state = made.step(state, jnp.zeros(3), found).state
        np.testing.assert_allclose(state, -np.log([0.5, 1.0, 2.0]) * (1 - 0.75**count), rtol=1e-5)


def test_regions_without_trd_net_are_the_level_of_those_with_it() -> None:
    options = {"kl_budget": BUDGET, "width_rate": RATE, "delta_init": 3.0, "delta_period": 2}
    region = budgeted_trust_region(Game((2, 2, 2), (3, 3, 3)), tiny.settings("mamd_kl", **options))
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8, 3)), jnp.float32)
    new, old = logits - jnp.log(jnp.sum(jnp.exp(logits), axis=-1, keepdims=True))
    view = tiny.empty_view(action=jnp.zeros((3, 8), jnp.int32), log_policy=new, log_old_policy=old)
    kl = np.sum(np.exp(new) * (new - old), axis=-1).mean(axis=1)
    state, deltas = region.init(jnp.zeros(2)), []
    for count in range(4):
        gradients = PolicyGradients(lambda: jnp.zeros(3), jnp.zeros(3))
        state, metrics = region.adapt(state, view, gradients, jnp.int32(count))
        np.testing.assert_array_equal(metrics["delta"], region.delta(state))
        deltas.append(np.log(metrics["delta"]))
    step = moved(np.log(3.0), evidence(kl=jnp.asarray(kl)), delta_shares="equal")
    assert (np.abs(step) > 1e-3).all()
    steps = np.diff([np.log([3.0] * 3), *deltas], axis=0)
    np.testing.assert_allclose(steps, [0 * step, step, 0 * step, step], atol=1e-6)
