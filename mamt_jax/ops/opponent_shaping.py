"""Learning with opponent-learning awareness: gradients through the opponent's next step."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mamt_jax.types import Params


def shaping_gradients(values: Callable[[Params], jax.Array], params: Params, step: float) -> Params:
    """Gradients of V_i(θ_i, θ_j + η ∇_{θ_j} V_j(θ)) in θ_i, for two agents (Foerster et al. 2018a).

    The opponent's step is differentiated too: an agent sees how its own parameters shape what the
    other will learn. With η = 0 these are the gradients of naive learners.

    Args:
      values: parameters -> ``[2]``, V_0 and V_1.
      params: pytree with the agents on the leading axis, leaves ``[2, ...]``.
      step: η.

    Returns:
      A pytree like ``params``: row i is agent i's gradient, an ascent direction.
    """

    def ahead(params: Params, agent: int) -> jax.Array:
        other = 1 - agent
        slope = jax.grad(lambda params: values(params)[other])(params)
        moved = jax.tree.map(lambda leaf, by: leaf.at[other].add(step * by[other]), params, slope)
        return values(moved)[agent]

    first, second = (jax.grad(ahead)(params, agent) for agent in (0, 1))
    return jax.tree.map(lambda a, b: jnp.stack([a[0], b[1]]), first, second)
