"""Estimates of non-stationarity D_i,ns (Eq. 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mamt_jax.algorithms.optimisers import (
    Optimised,
    adam_settings,
    agent_norms,
    clipped_adam,
    per_agent,
    step,
)
from mamt_jax.algorithms.parts import VIEW_AXES, Nonstationarity, Samples, View
from mamt_jax.algorithms.trust_region import local_kl
from mamt_jax.networks.policies import MASKED_LOGIT, ModellingPolicy, mask_logits
from mamt_jax.ops import divergences, losses
from mamt_jax.ops.chunking import in_chunks
from mamt_jax.ops.coordination import opponents, to_square
from mamt_jax.ops.masking import masked, masked_mean, off_diagonal
from mamt_jax.settings import LearnedRegion, Modelling, Networks, Settings
from mamt_jax.types import Game, Metrics, Params

_SAMPLES_AXES: Any = Samples(-2, -1, -1)  # type: ignore[arg-type]
_STREAM = 0x0E40
"""Folded into a view's key, which others draw from, too."""


def modelled_nonstationarity(game: Game, settings: Settings) -> Nonstationarity:
    """KL[h_φi(·|o_i, j) ‖ π_ψj(·|o_j)]: what i expects of j against what j does now.

    The modelling policies h learn from the replay by cross-entropy, so they lag behind the
    policies: they are the past that the present is held against.

    Args:
      game: sizes of the environment.
      settings: of the algorithm.
    """
    modelled = Modelled(game, settings)
    return Nonstationarity(modelled.init, modelled.measure, modelled.inspect)


@dataclass(frozen=True)
class Modelled:
    """The modelling policies of all agents, and what is measured with them."""

    game: Game
    settings: Settings

    @property
    def own(self) -> Modelling:
        """Settings of the modelling policies."""
        return self.settings[Modelling]

    @property
    def net(self) -> ModellingPolicy:
        """h of all agents."""
        sizes, actions = self.game.obs_sizes, self.game.num_actions
        return ModellingPolicy(sizes, actions, self.settings[Networks].hidden_size)

    @property
    def optimiser(self) -> optax.GradientTransformation:
        """Of each agent on its own."""
        return per_agent(clipped_adam(adam_settings(self.settings), self.own.modelling_clip))

    @property
    def others(self) -> np.ndarray:
        """Opponents ``[n, n − 1]``."""
        return opponents(self.game.num_agents)

    @property
    def counts(self) -> np.ndarray:
        """Numbers of actions of the same."""
        return np.asarray(self.game.action_counts)[self.others]

    def init(self, key: jax.Array) -> Optimised:
        """Before any step."""
        params = self.net.init(key, jnp.zeros((self.game.num_agents, 1, self.game.obs_size)))
        return Optimised(params, self.optimiser.init(params))

    def measure(self, state: Optimised, view: View) -> tuple[Optimised, jax.Array, Metrics]:
        """See :class:`MeasureNonstationarity`."""
        batch = Samples(view.x, view.action, view.alive)
        seen = batch if view.recent is None else view.recent
        if self.own.modelling_opponents == "one" and self.game.num_agents > 2:
            key = jax.random.fold_in(view.key, _STREAM)
            opponent = opponents_in_turn(key, *seen.action.shape)
            gradient, each = self.learn_of_one(state.params, seen, opponent)
            found = self._measured(state.params, view)
        else:
            gradient, logits, each = self.learn_of_all(state.params, seen)
            if view.recent is None:
                found = _weighted(self._divergence(logits, view), view, self.settings)
            else:
                found = self._measured(state.params, view)
        metrics = {"modelling_loss": each, "modelling_grad_norm": agent_norms(gradient)}
        return step(self.optimiser, state, gradient), found, metrics

    def inspect(self, state: Optimised, view: View) -> tuple[jax.Array, jax.Array]:
        """See :class:`InspectNonstationarity`."""
        pairs = self._divergence(self.net.apply(state.params, view.x), view)
        return pairs, _weighted(pairs, view, self.settings)

    def _measured(self, params: Params, view: View) -> jax.Array:
        """D_i ``[n, B]`` of samples that h does not learn from as they are measured."""

        def found(view: View) -> jax.Array:
            pairs = self._divergence(self.net.apply(params, view.x), view)
            return _weighted(pairs, view, self.settings)

        return in_chunks(found, (VIEW_AXES,), -1, self._width, view.alive)(view)

    @property
    def _width(self) -> int:
        """Values per sample of a layer's activations, all opponents'."""
        return self.others.size * self.settings[Networks].hidden_size

    def _divergence(self, logits: jax.Array, view: View) -> jax.Array:
        """D_ij ``[n, n, B]`` of what is expected ``[n, n − 1, B, A]``."""
        expected = jax.nn.log_softmax(mask_logits(logits, self.counts))
        return to_square(divergences.categorical_kl(expected, view.log_policy[self.others]))

    def learn_of_all(self, params: Params, seen: Samples) -> tuple[Params, jax.Array, jax.Array]:
        """Gradient, logits ``[n, n − 1, B, A]`` and cross-entropies ``[n]``."""

        def loss(params: Params, seen: Samples) -> tuple[jax.Array, Any]:
            pairs = self._pairs(seen)
            logits = self.net.apply(params, seen.x)
            entropy = losses.cross_entropy(
                mask_logits(logits, self.counts), seen.action[self.others]
            )
            each = masked_mean(entropy, pairs, axis=(1, 2))
            square = losses.mean_square_logit(logits, self.counts, pairs)
            value = jnp.sum(each + self.own.modelling_regularisation * square)
            return value, (logits, each)

        def learn(seen: Samples) -> tuple[Params, jax.Array, jax.Array]:
            gradient, (logits, each) = jax.grad(loss, has_aux=True)(params, seen)
            return gradient, logits, each

        axes = (_SAMPLES_AXES,)
        return in_chunks(learn, axes, (None, -2, None), self._width, seen.alive)(seen)

    def learn_of_one(
        self, params: Params, seen: Samples, opponent: jax.Array
    ) -> tuple[Params, jax.Array]:
        """Gradient and cross-entropies ``[n]``, estimated from one opponent each ``[n, B]``."""
        has = np.arange(self.game.num_actions) < np.asarray(self.game.action_counts)[:, None]

        def loss(params: Params, seen: Samples, opponent: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits, possible = self.net.apply(params, seen.x, opponent), jnp.asarray(has)[opponent]
            action = jnp.take_along_axis(seen.action, opponent, axis=0)
            entropy = losses.cross_entropy(jnp.where(possible, logits, MASKED_LOGIT), action)
            each = self._mean(entropy, seen, opponent)
            square = self._mean(jnp.mean(logits**2, axis=-1, where=possible), seen, opponent)
            return jnp.sum(each + self.own.modelling_regularisation * square), each

        def learn(seen: Samples, opponent: jax.Array) -> tuple[Params, jax.Array]:
            gradient, each = jax.grad(loss, has_aux=True)(params, seen, opponent)
            return gradient, each

        width = self.game.num_agents * self.settings[Networks].hidden_size
        chunked = in_chunks(learn, (_SAMPLES_AXES, -1), (None, None), width, seen.alive)
        return chunked(seen, opponent)

    def _mean(self, values: jax.Array, seen: Samples, opponent: jax.Array) -> jax.Array:
        """Estimate ``[n]`` of a mean over samples and opponents from ``[n, B]`` of one opponent.

        Unbiased also where agents have left: that mean is over the pairs that are alive, whose
        number is known, and a pair that is not adds nothing to either.
        """
        alive, pairs = seen.alive, self._pairs(seen)
        if alive is None or pairs is None:
            return jnp.mean(values, axis=1)
        asked = alive & jnp.take_along_axis(alive, opponent, axis=0)
        total = jnp.sum(masked(values, asked), axis=1) * pairs.shape[1]
        return total / jnp.maximum(jnp.sum(pairs, axis=(1, 2)), 1)

    def _pairs(self, seen: Samples) -> jax.Array | None:
        """Opponents that are alive with an agent, bool ``[n, n − 1, B]``; None if all are."""
        return None if seen.alive is None else seen.alive[:, None] & seen.alive[self.others]


def opponents_in_turn(key: jax.Array, num_agents: int, batch: int) -> jax.Array:
    """One opponent of every agent in every sample, int32 ``[n, B]``.

    They take turns along the batch, from one that each agent draws: in any sample each is as
    likely, and each has its share of the samples, which draws for every sample would leave to
    chance.

    Args:
      key: random key.
      num_agents: n, 2 or more.
      batch: B samples, in no order.
    """
    start = jax.random.randint(key, (num_agents, 1), 0, num_agents - 1)
    return opponent_of_turn(start, batch)


def opponent_of_turn(start: jax.Array, batch: int) -> jax.Array:
    """Opponents in turn ``[..., n, B]``, from the ``start``-th of each agent ``[..., n, 1]``."""
    num_agents = start.shape[-2]
    turn = (start + jnp.arange(batch)) % (num_agents - 1)
    return (jnp.arange(num_agents)[:, None] + 1 + turn) % num_agents


def consecutive_nonstationarity(settings: Settings) -> Nonstationarity:
    """KL[π_ψj(·|o_j) ‖ π_ψj_old(·|o_j)], over n: weighted local divergences (Appendix H).

    Nothing is modelled: what the opponents did is taken from their old policies themselves.
    """

    def found(view: View) -> tuple[jax.Array, jax.Array]:
        local = local_kl(view)
        num_agents = len(local)
        pairs = jnp.broadcast_to(local[None], (num_agents, *local.shape))
        return pairs, _weighted(pairs, view, settings) / num_agents

    def inspect(state: tuple[()], view: View) -> tuple[jax.Array, jax.Array]:
        pairs, weighted = found(view)
        return masked(pairs, off_diagonal(len(pairs))), weighted

    return Nonstationarity(
        init=lambda key: (),
        measure=lambda state, view: (state, found(view)[1], {}),
        inspect=inspect,
    )


def _weighted(pairs: jax.Array, view: View, settings: Settings) -> jax.Array:
    """D_i of D_ij, by the view's C."""
    assert view.coordination is not None
    return divergences.nonstationarity(
        pairs, view.coordination, settings[LearnedRegion].nonstationarity_max
    )
