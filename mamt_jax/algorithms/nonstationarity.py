"""Estimates of non-stationarity D_i,ns (Eq. 6)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.algorithms.optimisers import (
    Optimised,
    adam_settings,
    agent_norms,
    clipped_adam,
    per_agent,
    step,
)
from mamt_jax.algorithms.parts import Nonstationarity, Samples, View
from mamt_jax.algorithms.trust_region import local_kl
from mamt_jax.networks.policies import ModellingPolicy, mask_logits
from mamt_jax.ops import divergences, losses
from mamt_jax.ops.chunking import in_chunks
from mamt_jax.ops.coordination import opponents, to_square
from mamt_jax.ops.masking import masked, masked_mean, off_diagonal
from mamt_jax.settings import LearnedRegion, Modelling, Networks, Settings
from mamt_jax.types import Game, Metrics


def modelled_nonstationarity(game: Game, settings: Settings) -> Nonstationarity:
    """KL[h_φi(·|o_i, j) ‖ π_ψj(·|o_j)]: what i expects of j against what j does now.

    The modelling policies h learn from the replay by cross-entropy, so they lag behind the
    policies: they are the past that the present is held against.
    """
    num_agents, modelling = game.num_agents, settings[Modelling]
    hidden = settings[Networks].hidden_size
    net = ModellingPolicy(game.obs_sizes, game.num_actions, hidden)
    optimiser = per_agent(clipped_adam(adam_settings(settings), modelling.modelling_clip))
    others = opponents(num_agents)
    counts = np.asarray(game.action_counts)[others]

    def init(key: jax.Array) -> Optimised:
        params = net.init(key, jnp.zeros((num_agents, 1, game.obs_size)))
        return Optimised(params, optimiser.init(params))

    def loss(params: Any, seen: Samples) -> tuple[jax.Array, Any]:
        pairs = None if seen.alive is None else seen.alive[:, None] & seen.alive[others]
        logits = net.apply(params, seen.x)
        entropy = losses.cross_entropy(mask_logits(logits, counts), seen.action[others])
        each = masked_mean(entropy, pairs, axis=(1, 2))
        square = losses.mean_square_logit(logits, counts, pairs)
        return jnp.sum(each + modelling.modelling_regularisation * square), (logits, each)

    def divergence(logits: jax.Array, view: View) -> jax.Array:
        """D_ij ``[n, n, B]`` of what is expected ``[n, n − 1, B, A]``."""
        expected = jax.nn.log_softmax(mask_logits(logits, counts))
        return to_square(divergences.categorical_kl(expected, view.log_policy[others]))

    def measure(state: Optimised, view: View) -> tuple[Optimised, jax.Array, Metrics]:
        seen = view.recent
        if seen is None:
            seen = Samples(view.x, view.action, view.alive)

        def learn(seen: Samples) -> tuple[Any, jax.Array, jax.Array]:
            grad = jax.value_and_grad(loss, has_aux=True)
            (_, (logits, each)), gradient = grad(state.params, seen)
            return gradient, logits, each

        axes, width = (Samples(-2, -1, -1),), others.size * hidden  # type: ignore[arg-type]
        chunked = in_chunks(learn, axes, (None, -2, None), width, seen.alive)
        gradient, logits, each = chunked(seen)
        if view.recent is not None:
            logits = net.apply(state.params, view.x)
        found = _weighted(divergence(logits, view), view, settings)
        metrics = {"modelling_loss": each, "modelling_grad_norm": agent_norms(gradient)}
        return step(optimiser, state, gradient), found, metrics

    def inspect(state: Optimised, view: View) -> tuple[jax.Array, jax.Array]:
        pairs = divergence(net.apply(state.params, view.x), view)
        return pairs, _weighted(pairs, view, settings)

    return Nonstationarity(init, measure, inspect)


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
