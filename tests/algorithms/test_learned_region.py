"""The learned trust region: δ's slow step, its limits, and TRD-Net's fast steps."""

from __future__ import annotations

from functools import cache, partial
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mamt_jax.algorithms.coordination import critic_coordination
from mamt_jax.algorithms.learned_region import learned_trust_region
from mamt_jax.algorithms.nonstationarity import modelled_nonstationarity
from mamt_jax.algorithms.parts import (
    Coordination,
    Nonstationarity,
    PolicyGradients,
    Samples,
    TrustRegion,
    View,
)
from mamt_jax.networks.trd_net import TRDNet
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import quick

SIZES, ACTIONS, BATCH, RATE = (3, 2, 3), 3, 16, 0.01
RNG = np.random.default_rng(0)
X, ACTION = jnp.asarray(RNG.normal(size=(2, 3, BATCH, 3)), jnp.float32)
WEIGHTS = jnp.full((3, 3, BATCH), 0.5) * (1 - jnp.eye(3))[:, :, None]
FOUND = jnp.asarray(RNG.uniform(0.5, 1.5, (3, BATCH)), jnp.float32)
VALUE = jnp.array([0.3, -0.2, 0.1])
SURROGATE = jnp.array([-0.5, 0.4, 0.2])
LOGITS = jnp.asarray(RNG.normal(size=(2, 3, BATCH, ACTIONS)), jnp.float32)
NEW, OLD = jax.nn.log_softmax(LOGITS)
VIEW = tiny.empty_view(x=X, encoded=ACTION, log_policy=NEW, log_old_policy=OLD)

# Without momentum and with a constant denominator Adam is plain ascent: log δ += RATE · gradient.
ASCENT = {
    "delta_rule": "penalty",
    "learning_rate": RATE * 1e6,
    "adam_b1": 0.0,
    "adam_eps": 1e6,
    "delta_exploration": 0.0,
}


class Case(NamedTuple):
    region: TrustRegion
    state: Any
    seen: View
    """What ``observe`` adds to."""
    adapt: Any
    """(state, value, count) -> (state, metrics)."""

    def at(self, *delta: float) -> Any:
        """The state at these δ."""
        log_delta = jnp.log(jnp.broadcast_to(jnp.asarray(delta), (3,)))
        return self.state._replace(log_delta=log_delta)

    def moved(self, delta: float = 1.0, value: jax.Array = VALUE, count: int = 1) -> np.ndarray:
        """By how much log δ moves in one slow step from there, in units of RATE."""
        _, metrics = self.adapt(self.at(delta), value, count)
        return (np.log(metrics["delta"]) - np.log(delta)) / RATE


def build(**options: Any) -> TrustRegion:
    """A region with given C and D; TRD-Net monotone, so that its slope in δ is not zero."""
    settings = tiny.settings(**{"trd_monotone": True, **ASCENT, **options})
    coordination = Coordination(
        measure=lambda state, view: (state, WEIGHTS, {}), inspect=lambda state, view: WEIGHTS
    )
    nonstationarity = Nonstationarity(
        init=lambda key: (),
        measure=lambda state, view: (state, FOUND, {}),
        inspect=lambda state, view: (WEIGHTS, FOUND),
    )
    game = Game(SIZES, (ACTIONS,) * len(SIZES))
    return learned_trust_region(game, settings, coordination, nonstationarity)


@cache
def begin() -> tuple[Any, Any]:
    """A state, and what ``observe`` makes of the view: the same for all options below."""
    region = build()
    state = quick.jit(region.init)(jax.random.key(0))
    return state, quick.jit(region.observe)(state, VIEW)[1]


@cache
def make(**options: Any) -> Case:
    region, (state, seen) = build(**options), begin()

    @quick.jit
    def adapt(state: Any, value: jax.Array, count: int) -> Any:
        return region.adapt(state, seen, PolicyGradients(lambda: value, SURROGATE), count)

    return Case(region, state, seen, adapt)


def predicted_slope(state: Any) -> np.ndarray:
    """d/dlog δ_i of the batch mean of Σ_j KL_j, by central differences."""
    net = TRDNet(SIZES, ACTIONS, 4, monotone=True)

    @quick.jit
    def totals(log_delta: jax.Array) -> jax.Array:
        return jnp.sum(net.apply(state.trd.params, X, ACTION, log_delta, WEIGHTS), axis=0)

    def mean(log_delta: np.ndarray) -> float:
        return float(np.mean(totals(jnp.asarray(log_delta, jnp.float32)), dtype=np.float64))

    here, width = np.asarray(state.log_delta, np.float64), 2e-3
    ends = [(mean(here + width * unit), mean(here - width * unit)) for unit in np.eye(3)]
    return np.array([(up - down) / (2 * width) for up, down in ends])


def test_kl_only_follows_the_predicted_divergence_down() -> None:
    case = make(delta_objective="kl_only")
    slope = predicted_slope(case.state)
    assert (slope > 1e-2).all()
    np.testing.assert_allclose(case.moved(), -slope, rtol=2e-2)
    np.testing.assert_array_equal(case.moved(value=1e9 * VALUE), case.moved())


@pytest.mark.parametrize(("objective", "term"), [("lookahead", VALUE), ("surrogate", SURROGATE)])
def test_value_terms_enter_over_delta_squared(objective: str, term: jax.Array) -> None:
    """In log δ: δ · (1/δ²) · term, beside the predicted divergence."""
    for delta in (0.5, 2.0):
        both = make(delta_objective=objective).moved(delta)
        divergence = make(delta_objective="kl_only").moved(delta)
        np.testing.assert_allclose(both - divergence, term / delta, rtol=1e-2, atol=3e-4)


def test_only_the_lookahead_pays_for_the_value_term() -> None:
    def unaffordable() -> jax.Array:
        raise AssertionError("the value term was computed")

    for objective in ("surrogate", "kl_only"):
        case = make(delta_objective=objective)
        gradients = PolicyGradients(unaffordable, SURROGATE)
        jax.eval_shape(
            lambda count, c=case, g=gradients: c.region.adapt(c.state, c.seen, g, count), 1
        )


@pytest.mark.parametrize(("period", "due"), [(2, [1, 3, 5]), (3, [2, 5])])
def test_delta_moves_in_every_second_update_only(period: int, due: list[int]) -> None:
    case = make(delta_period=period)
    state = case.state
    for count in range(6):
        before = state.log_delta
        state, metrics = case.adapt(state, VALUE, count)
        assert np.array_equal(state.log_delta, before) == (count not in due)
        np.testing.assert_allclose(metrics["delta"], np.exp(state.log_delta), rtol=1e-6)


def test_delta_stays_within_its_clip() -> None:
    case = make(delta_min=0.5, delta_max=4.0)
    _, metrics = case.adapt(case.state, jnp.array([1e6, -1e6, 0.0]), 1)
    np.testing.assert_allclose(metrics["delta"][:2], [4.0, 0.5], rtol=1e-6)
    assert 0.5 < metrics["delta"][2] < 4.0


def test_budget_pushes_back_only_when_it_is_exceeded() -> None:
    """−ReLU(Σδ − δ): its derivative in log δ_i is −δ_i where Σδ_i > δ, else nothing."""
    bound, free = make(delta_total_per_agent=1.0), make()
    for delta, engaged in ((0.99, False), (1.01, True), (3.0, True)):
        push = bound.moved(delta) - free.moved(delta)
        np.testing.assert_allclose(push, -delta if engaged else 0.0, rtol=1e-2, atol=1e-5)
        _, metrics = bound.adapt(bound.at(delta), VALUE, 0)  # not due: nothing moves
        assert metrics["delta_within_budget"] == (not engaged)
    # It is the sum that counts.
    state = bound.at(2.0, 0.4, 0.5)
    assert bound.adapt(state, VALUE, 0)[1]["delta_within_budget"] == 1


def test_default_adam_moves_log_delta_by_its_learning_rate() -> None:
    case = make(learning_rate=1e-3, adam_b1=0.9, adam_eps=1e-7, delta_objective="kl_only")
    state = case.state._replace(rule=optax.adam(1e-3).init(case.state.log_delta))
    log_delta = case.adapt(state, VALUE, 1)[0].log_delta
    np.testing.assert_allclose(log_delta - state.log_delta, -1e-3, rtol=1e-2)


@pytest.mark.parametrize("monotone", [False, True])
def test_trd_nets_loss_falls_on_a_fixed_batch(monotone: bool) -> None:
    options = {"learning_rate": 1e-2, "adam_b1": 0.9, "adam_eps": 1e-7, "trd_monotone": monotone}
    region = build(**options)

    @quick.jit
    def learn(key: jax.Array) -> tuple[Any, dict[str, jax.Array]]:
        def body(state: Any, _: None) -> tuple[Any, dict[str, jax.Array]]:
            state, _, metrics = region.observe(state, VIEW)
            return state, metrics

        return jax.lax.scan(body, region.init(key), None, length=150)

    _, metrics = learn(jax.random.key(0))
    loss, predicted = np.asarray(metrics["trd_loss"]), np.asarray(metrics["trd_kl"])
    assert loss[-1] < 0.2 * loss[0]
    np.testing.assert_allclose(predicted[-1].sum(), FOUND.sum(axis=0).mean(), rtol=0.1)
    np.testing.assert_allclose(metrics["nonstationarity"][0], FOUND.mean(axis=1), rtol=1e-5)
    gap = predicted[0].sum() - FOUND.sum(axis=0).mean()
    assert loss[0] >= gap**2 - 1e-5  # Jensen: a mean of squares


def test_several_fast_steps_are_several_steps() -> None:
    """theta_steps = 3 leaves TRD-Net where three updates on the same batch leave it."""
    one, three = build(), build(theta_steps=3)
    state, _ = begin()
    observe = quick.jit(one.observe)
    at_once, _, _ = quick.jit(three.observe)(state, VIEW)
    for _ in range(3):
        state, _, _ = observe(state, VIEW)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
        at_once.trd.params,
        state.trd.params,
    )


def test_policies_and_trd_net_feel_the_offset() -> None:
    """The penalty divides by δ·exp(offset); TRD-Net then explains D by that δ."""
    region, (state, _) = build(), begin()
    offset = jnp.array([0.7, 0.0, -0.4])
    moved = state._replace(offset=offset)
    np.testing.assert_allclose(region.delta(moved), region.delta(state) * np.exp(offset), rtol=1e-5)
    shifted = state._replace(log_delta=state.log_delta + offset)
    observe = quick.jit(region.observe)
    for one, two in ((moved, shifted), (moved, state)):
        same = np.allclose(observe(one, VIEW)[2]["trd_kl"], observe(two, VIEW)[2]["trd_kl"])
        assert same == (two is shifted)


def test_offsets_are_drawn_afresh_for_every_agent_and_update() -> None:
    region = build(delta_exploration=0.5)

    @quick.jit
    def draw(key: jax.Array) -> jax.Array:
        def body(state: Any, _: None) -> tuple[Any, jax.Array]:
            state = region.observe(state, VIEW)[0]
            return state, state.offset

        return jax.lax.scan(body, region.init(key), None, length=400)[1]

    offsets = np.asarray(draw(jax.random.key(3)))  # [updates, agents]
    np.testing.assert_allclose(offsets.std(axis=0), 0.5, rtol=0.15)
    np.testing.assert_allclose(offsets.mean(axis=0), 0, atol=0.1)
    together = np.corrcoef(np.concatenate((offsets[1:], offsets[:-1]), axis=1).T)
    assert (np.abs(together - np.eye(6)) < 0.2).all()


def test_delta_follows_the_slow_average_of_trd_net() -> None:
    case, tau = make(delta_objective="kl_only"), tiny.values(tiny.settings()).trd_tau
    newest = jax.tree.map(lambda leaf: 2 * leaf, case.state.trd.params)
    state = case.state._replace(trd=case.state.trd._replace(params=newest))
    np.testing.assert_array_equal(
        case.adapt(state, VALUE, 1)[1]["delta"], case.adapt(case.state, VALUE, 1)[1]["delta"]
    )
    after = quick.jit(case.region.observe)(state, VIEW)[0]
    jax.tree.map(
        lambda slow, before, new: np.testing.assert_allclose(
            slow, before + tau * (new - before), rtol=1e-4, atol=1e-6
        ),
        after.target_trd,
        state.target_trd,
        after.trd.params,
    )


def test_it_may_look_at_part_of_a_batch() -> None:
    """C, D, TRD-Net and δ are those of the first samples; modelling policies learn from all."""
    counts, part = (ACTIONS,) * 3, 5
    critic, view = tiny.view(SIZES, counts, tiny.batch(SIZES, counts, 8), delta_period=1)
    settings, game = tiny.settings(delta_period=1, trd_monotone=True), Game(SIZES, counts)

    def region(**options: Any) -> TrustRegion:
        chosen = settings.replace(options)
        rules = critic_coordination(critic, chosen), modelled_nonstationarity(game, chosen)
        return learned_trust_region(game, chosen, *rules)

    @partial(quick.jit, static_argnums=0)
    def turns(region: TrustRegion, state: Any, view: View) -> Any:
        state, view, metrics = region.observe(state, view)
        state, more = region.adapt(state, view, PolicyGradients(lambda: VALUE, SURROGATE), 0)
        state = state._replace(key=jax.random.key_data(state.key))
        return state, view.coordination, view.nonstationarity, metrics | more

    cut = {name: getattr(view, name)[:, :part] for name in ("x", "action", "encoded")}
    cut |= {name: getattr(view, name)[:, :part] for name in ("log_policy", "log_old_policy")}
    trace = jax.tree.map(lambda leaf: leaf[..., :part, :], view.trace)
    whole = Samples(view.x, view.action, None)
    by_hand = view._replace(**cut, trace=trace, recent=whole)
    state = quick.jit(region().init)(jax.random.key(0))
    expected = turns(region(), state, by_hand)
    chex.assert_trees_all_close(
        turns(region(region_samples=part), state, view), expected, rtol=1e-5
    )
