"""Coordination coefficients: who matters to whom."""

from __future__ import annotations

from typing import NamedTuple

import distrax
import jax
import jax.numpy as jnp

from mamt_jax.algorithms.critics import counterfactual_effect, values
from mamt_jax.algorithms.parts import Coordination, Critic, View
from mamt_jax.networks.layers import NORM_MOMENTUM, batch_norm
from mamt_jax.ops.coordination import coordination_coefficients, mean_score, opponent_softmax
from mamt_jax.ops.losses import select_output
from mamt_jax.ops.masking import alive_pairs, masked, masked_mean, off_diagonal
from mamt_jax.settings import Coordination as CoordinationSettings
from mamt_jax.settings import Settings
from mamt_jax.types import Metrics


class ScoreUnit(NamedTuple):
    """Running mean of scores: the unit in which the scores of one step are taken."""

    total: jax.Array
    """float32 []: 0.9 old + 0.1 new, of batch means."""
    weight: jax.Array
    """float32 []: of ones, likewise, by which the total is divided: no bias towards its start."""

    def add(self, mean: jax.Array, counts: jax.Array | bool) -> ScoreUnit:
        """With one more batch mean, if it ``counts``."""
        new = ScoreUnit(mean, jnp.ones(()))
        return jax.tree.map(
            lambda old, new: jnp.where(
                counts, NORM_MOMENTUM * old + (1.0 - NORM_MOMENTUM) * new, old
            ),
            self,
            new,
        )

    def value(self) -> jax.Array:
        """The average; 1 before any batch."""
        return jnp.where(self.weight > 0, self.total / jnp.maximum(self.weight, 1e-6), 1.0)


def critic_coordination(critic: Critic, settings: Settings) -> Coordination:
    """C_ij from the critic, by Eq. 5 or as the authors' released code has it.

    Eq. 5 puts |Q_i(a\\j) − Q_i(a)| into a softmax and so depends on the units of Q. With
    standardised rewards a single action of a single step moves Q by about 0.01, and the softmax of
    such numbers is flat whatever the game. ``coordination_units="relative"`` measures the effects
    in units of their own mean, so that the softmax sees their ratios; ``"raw"`` takes Q as it is.
    That mean is the batch's in training. To say what C is in a single step the state keeps a
    running mean over batches, as of observations, and inspection takes that.

    The released code scores |Q_i(a) − V_j(o)| at actions drawn from the current policies, and takes
    the softmax over i: what the others' values say about j, not what i's says about the others.
    """
    chosen = settings[CoordinationSettings].settled()
    threshold, released = chosen.coordination_threshold, chosen.coordination == "released"
    assert threshold is not None

    def coefficients(view: View, effect: jax.Array, unit: jax.Array) -> jax.Array:
        scaled = effect
        if chosen.coordination_units == "relative":
            scaled = effect / jnp.maximum(unit, jnp.finfo(effect.dtype).tiny)
        return coordination_coefficients(scaled, threshold, view.alive, axis=0 if released else 1)

    def measure(state: ScoreUnit, view: View) -> tuple[ScoreUnit, jax.Array, Metrics]:
        if len(view.action) == 2:
            return state, _of_two(view, threshold), {}
        pairs = alive_pairs(view.alive)
        score = _at_new_actions if released else counterfactual_effect
        effect = masked(score(critic, view), pairs)
        mean = mean_score(effect, view.alive)
        weights = coefficients(view, effect, mean)
        state = state.add(mean, True if pairs is None else pairs.any())
        return state, weights, {"coordination_score": masked_mean(effect, pairs, axis=-1)}

    def inspect(state: ScoreUnit, view: View) -> jax.Array:
        if len(view.action) == 2:
            return _of_two(view, threshold)
        score = _at_these_actions if released else counterfactual_effect
        effect = masked(score(critic, view), alive_pairs(view.alive))
        return coefficients(view, effect, state.value())

    return Coordination(measure, inspect, lambda: ScoreUnit(jnp.zeros(()), jnp.zeros(())))


def _of_two(view: View, threshold: float) -> jax.Array:
    """C of two agents: a softmax over one opponent is 1, whatever the score."""
    unknown = jnp.zeros((2, 2, view.action.shape[1]))
    return coordination_coefficients(unknown, threshold, view.alive)


def random_coordination() -> Coordination:
    """MAMT-Random's C: a softmax of draws from U(0, 1), anew for every sample (Appendix H).

    Inspection says what they are on average: all equal.
    """

    def measure(state: tuple[()], view: View) -> tuple[tuple[()], jax.Array, Metrics]:
        num_agents, batch = view.action.shape
        draws = jax.random.uniform(view.key, (num_agents, num_agents, batch))
        return state, opponent_softmax(draws, view.alive), {}

    return Coordination(measure, _equal)


def fixed_coordination() -> Coordination:
    """MAMT-Fixed's C_ij = 1/(n − 1), n counting the agents that are there (Appendix H)."""
    return Coordination(lambda state, view: (state, _equal(state, view), {}), _equal)


def _equal(_: tuple[()], view: View) -> jax.Array:
    num_agents, batch = view.action.shape
    return opponent_softmax(jnp.zeros((num_agents, num_agents, batch)), view.alive)


def _at_new_actions(critic: Critic, view: View) -> jax.Array:
    """The released code's scores ``[n, n, B]`` at actions drawn from the current policies."""
    action = distrax.Categorical(logits=view.log_policy).sample(seed=view.key)
    encoded, _ = batch_norm(jax.nn.one_hot(action, view.log_policy.shape[-1]), view.alive)
    q_all = values(critic, view.critic_params, view.x, encoded, view.alive)
    return _released(q_all, action, view)


def _at_these_actions(critic: Critic, view: View) -> jax.Array:
    """The same at the view's own actions, which in a step that is inspected are the policies'."""
    assert view.trace is not None
    return _released(view.trace.q, view.action, view)


def _released(q_all: jax.Array, action: jax.Array, view: View) -> jax.Array:
    """|Q_i(a) − V_j(o, a_{-j})| ``[n, n, B]``.

    V_j is the mean of Q_j over j's own actions. A critic of one output has left these out already:
    its value is both.
    """
    value = select_output(q_all, action)
    baseline = value
    if q_all.shape[-1] > 1:
        baseline = jnp.sum(jnp.exp(view.log_policy) * q_all, axis=-1)
    score = jnp.abs(value[:, None] - baseline[None])
    return masked(score, off_diagonal(len(value)))
