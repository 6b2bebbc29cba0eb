"""Estimates of the joint policy's drift D_i,ns (Eq. 6)."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.algorithms.learned_region import Nonstationarity
from mamt_jax.algorithms.optimisers import (
    AdamSettings,
    Optimised,
    agent_norms,
    clipped_adam,
    per_agent,
    step,
)
from mamt_jax.algorithms.trust_region import View
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks.policies import ModellingPolicy, mask_logits
from mamt_jax.ops import divergences, losses
from mamt_jax.ops.chunking import chunk_count, in_chunks
from mamt_jax.ops.coordination import opponents, to_square
from mamt_jax.ops.masking import masked_mean
from mamt_jax.types import Game, Metrics


def modelled_nonstationarity(game: Game, hyper: AlgorithmConfig) -> Nonstationarity:
    """KL[h_φi(·|o_i, j) ‖ π_ψj(·|o_j)]: what i expects of j against what j does now.

    The modelling policies h learn from the replay by cross-entropy, so they lag behind the
    policies: they are the past that the present is held against.
    """
    num_agents = game.num_agents
    net = ModellingPolicy(game.obs_sizes, game.num_actions, hyper.hidden_size)
    adam = AdamSettings(hyper.learning_rate, hyper.adam_b1, hyper.adam_eps)
    optimiser = per_agent(clipped_adam(adam, hyper.modelling_clip))
    others = opponents(num_agents)
    counts = np.asarray(game.action_counts)[others]

    def init(key: jax.Array) -> Optimised:
        params = net.init(key, jnp.zeros((num_agents, 1, max(game.obs_sizes))))
        return Optimised(params, optimiser.init(params))

    def loss(
        params: Any, x: jax.Array, action: jax.Array, alive: jax.Array | None
    ) -> tuple[jax.Array, Any]:
        pairs = None if alive is None else alive[:, None] & alive[others]
        logits = net.apply(params, x)
        entropy = losses.cross_entropy(mask_logits(logits, counts), action[others])
        each = masked_mean(entropy, pairs, axis=(1, 2))
        square = losses.mean_square_logit(logits, counts, pairs)
        return jnp.sum(each + hyper.modelling_regularisation * square), (logits, each)

    def measure(
        state: Optimised, view: View, coordination: jax.Array
    ) -> tuple[Optimised, jax.Array, Metrics]:
        alive = view.recent_alive

        def learn(x: jax.Array, action: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
            grad = jax.value_and_grad(loss, has_aux=True)
            (_, (logits, each)), gradient = grad(state.params, x, action, alive)
            return gradient, logits, each

        chunks = chunk_count(len(view.recent_action[0]), others.size * hyper.hidden_size, alive)
        chunked = in_chunks(learn, chunks, in_axes=(-2, -1), out_axes=(None, -2, None))
        gradient, logits, each = chunked(view.recent_x, view.recent_action)
        if hyper.modelling_recent:
            logits = net.apply(state.params, view.x)
        expected = jax.nn.log_softmax(mask_logits(logits, counts))
        divergence = divergences.categorical_kl(expected, view.log_policy[others])
        drift = divergences.nonstationarity(
            to_square(divergence), coordination, hyper.nonstationarity_max
        )
        metrics = {"modelling_loss": each, "modelling_grad_norm": agent_norms(gradient)}
        return step(optimiser, state, gradient), drift, metrics

    return Nonstationarity(init, measure)


def consecutive_nonstationarity(hyper: AlgorithmConfig) -> Nonstationarity:
    """KL[π_ψj(·|o_j) ‖ π_ψj_old(·|o_j)], over n: weighted local divergences (Appendix H).

    Nothing is modelled: what the opponents did is taken from their old policies themselves.
    """

    def measure(
        state: tuple[()], view: View, coordination: jax.Array
    ) -> tuple[tuple[()], jax.Array, Metrics]:
        local = divergences.categorical_kl(view.log_policy, view.log_old_policy)
        pairs = jnp.broadcast_to(local[None], coordination.shape)
        drift = divergences.nonstationarity(pairs, coordination, hyper.nonstationarity_max)
        return state, drift / len(local), {}

    return Nonstationarity(lambda key: (), measure)
