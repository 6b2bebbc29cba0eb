"""dV/dδ = ⟨g_A, P g_KL⟩/δ² against finite differences in δ through real updates.

Everything runs in float64, through the whole `Algorithm.update`: one at δ_j + h, one at δ_j − h,
and V_i of the policies that came out. V_i(ψ) = E_b[log π_ψi(a_i|o_i) A_i] at the update's own draws
and advantages, which is what it ascends; the advantages are NumPy's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mamt_jax.algorithms.actor_critic import actor_critic
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import Actors, build_actors
from mamt_jax.algorithms.optimisers import Optimised
from mamt_jax.config import AlgorithmConfig
from mamt_jax.ops import losses
from mamt_jax.types import Game, Params
from tests.algorithms import tiny
from tests.networks import literal, quick

SIZES, COUNTS, BATCH, RATE, WIDTH = (3, 2), (3, 3), 16, 2e-4, 1e-3
DELTA = np.array([0.5, 2.0])


@pytest.fixture(autouse=True)
def double_precision(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    tiny.know_the_draws(monkeypatch)
    with jax.enable_x64(True):
        yield


def as_f64(tree: Any) -> Any:
    return jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, tree
    )


class Problem(NamedTuple):
    """An update as a function of δ, and the value of the policies that come out."""

    actors: Actors
    step: Callable[[np.ndarray, Optimised], tuple[Optimised, dict[str, jax.Array]]]
    """(δ, actor) -> (stepped actor, PolicyGradients' terms)."""
    value: Callable[[Params], jax.Array]
    actor: Optimised


@cache
def problem(settings: AlgorithmConfig) -> Problem:
    game = Game(SIZES, COUNTS)
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    algorithm = actor_critic("probe", actors, critic, tiny.probe(2), settings)
    batch, state = as_f64((tiny.batch(SIZES, COUNTS, BATCH), tiny.grown(algorithm)))

    @quick.jit
    def update(delta: jax.Array, actor: Optimised) -> tuple[Any, ...]:
        at = state._replace(actor=actor, region=delta)
        stepped, metrics = algorithm.update(at, jax.random.key(0), batch, jnp.int32(0))
        return stepped.actor, metrics["terms"], stepped.critic.params, metrics["view"]

    _, _, critic_params, view = update(jnp.asarray(DELTA), state.actor)
    action = tiny.drawn(2, BATCH, 3)
    encoded = literal.batch_norm(np.eye(3)[action])
    q, _ = literal.critic(literal.as_numpy(critic_params), np.asarray(view.x), encoded, 2)
    baseline = np.sum(np.exp(view.log_policy) * q, axis=-1)
    advantage = np.take_along_axis(q, action[..., None], -1)[..., 0] - baseline

    @quick.jit
    def value(params: Params) -> jax.Array:
        log_policy = jax.nn.log_softmax(actors.module.apply(params, view.x))
        return jnp.mean(losses.select(log_policy, jnp.asarray(action)) * advantage, axis=1)

    return Problem(actors, lambda *at: update(*at)[:2], value, state.actor)


def slope(result: Callable[[np.ndarray], Params], value: Callable[[Params], Any]) -> np.ndarray:
    """[i, j]: dV_i/dδ_j by central differences."""
    out = np.zeros((2, 2))
    for j in range(2):
        up, down = (value(result(DELTA + sign * WIDTH * np.eye(2)[j])) for sign in (1, -1))
        out[:, j] = (np.asarray(up) - np.asarray(down)) / (2 * WIDTH)
    return out


def assert_own_slope(measured: np.ndarray, predicted: np.ndarray, rtol: float) -> None:
    """V_i depends on δ_i as predicted, sign included, and on no other δ."""
    np.testing.assert_allclose(np.diag(measured), predicted, rtol=rtol)
    np.testing.assert_allclose(measured - np.diag(np.diag(measured)), 0.0, atol=1e-12)
    assert (np.abs(predicted) > 1e-9).all()


SGD = tiny.hyper(learning_rate=RATE * 1e6, adam_b1=0.0, adam_eps=1e6, policy_clip=1e6)
"""Adam whose denominator is a constant million and that has no momentum: SGD with step RATE."""


def test_closed_form_is_the_slope_through_an_sgd_step() -> None:
    case = problem(SGD)
    term = np.asarray(case.step(DELTA, case.actor)[1]["value"])
    measured = slope(lambda delta: case.step(delta, case.actor)[0].params, case.value)
    assert_own_slope(measured, term / DELTA**2, rtol=2e-3)


ADAM = tiny.hyper(learning_rate=1e-4, policy_clip=1e6)


def warm(case: Problem) -> Optimised:
    """An Adam state after a million steps: momentum of its own, second moments that stand still.

    They are large beside this batch's g², so that one batch does not move them.
    """
    rng = np.random.default_rng(0)
    like = case.actor.params
    draw = lambda low, high: jax.tree.map(  # noqa: E731
        lambda leaf: jnp.asarray(rng.uniform(low, high, leaf.shape)), like
    )
    warmed = optax.ScaleByAdamState(
        count=jnp.full(2, 1_000_000, jnp.int32), mu=draw(-0.05, 0.05), nu=draw(0.25, 4.0)
    )
    replace = lambda node: warmed if isinstance(node, optax.ScaleByAdamState) else node  # noqa: E731
    opt_state = jax.tree.map(
        replace,
        case.actor.opt_state,
        is_leaf=lambda node: isinstance(node, optax.ScaleByAdamState),
    )
    return case.actor._replace(opt_state=opt_state)


def test_closed_form_is_the_slope_through_adam_once_its_momentum_is_spent() -> None:
    """(1 − b1) of it in the step itself, the whole over the steps that follow it."""
    case = problem(ADAM)
    actor = warm(case)
    predicted = np.asarray(case.step(DELTA, actor)[1]["value"]) / DELTA**2
    one_step = slope(lambda delta: case.step(delta, actor)[0].params, case.value)
    assert_own_slope(one_step, (1 - ADAM.adam_b1) * predicted, rtol=1e-2)

    @quick.jit
    def spend(stepped: Optimised) -> Params:
        """200 more steps with no further gradient: what is left is this step's momentum."""
        nothing = jax.tree.map(jnp.zeros_like, stepped.params)

        def body(current: Optimised, _: None) -> tuple[Optimised, None]:
            updates, opt_state = case.actors.optimiser.update(
                nothing, current.opt_state, current.params
            )
            return Optimised(optax.apply_updates(current.params, updates), opt_state), None

        return jax.lax.scan(body, stepped, None, length=200)[0].params

    in_total = slope(lambda delta: spend(case.step(delta, actor)[0]), case.value)
    assert_own_slope(in_total, predicted, rtol=2e-2)


def test_clip_enters_as_a_constant_factor() -> None:
    """With the clip active the closed form is c times the unclipped one, agent by agent.

    That c itself depends on δ is left out, so there the closed form is an approximation; the tests
    above are of the unclipped case.
    """
    free = problem(SGD)
    stepped, terms = free.step(DELTA, free.actor)
    moved = jax.tree.map(lambda new, old: new - old, stepped.params, free.actor.params)
    norms = np.asarray(jax.vmap(optax.tree.norm)(moved)) / RATE  # of the gradients
    clip = float(0.3 * norms.min())
    clipped = problem(dataclasses.replace(SGD, policy_clip=clip))
    got = clipped.step(DELTA, clipped.actor)[1]["value"]
    np.testing.assert_allclose(got, np.asarray(terms["value"]) * clip / norms, rtol=1e-4)
