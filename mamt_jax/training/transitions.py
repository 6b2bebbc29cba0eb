"""Transitions at rest.

Observations and actions are stored in the smallest type that holds them exactly, and leave a store
as float32 and int32.
"""

from __future__ import annotations

import jax.numpy as jnp

from mamt_jax.envs.base import EnvSpec
from mamt_jax.types import Transition


def empty_transitions(spec: EnvSpec, lead: tuple[int, ...]) -> Transition:
    """Room for transitions ``[*lead, ...]`` in the smallest types that hold them."""
    agents = (*lead, spec.num_agents)
    obs = jnp.zeros((*agents, spec.obs_size), spec.obs_dtype)
    return Transition(
        obs=obs,
        action=jnp.zeros(agents, jnp.uint8 if spec.num_actions <= 256 else jnp.int32),
        reward=jnp.zeros(agents, jnp.float32),
        next_obs=jnp.copy(obs),
        terminated=jnp.zeros(agents, bool),
        alive=jnp.zeros(agents, bool) if spec.agents_may_leave else None,
    )


def to_batch_types(stored: Transition) -> Transition:
    """Stored transitions as updates want them: float32 and int32."""
    return stored._replace(
        obs=stored.obs.astype(jnp.float32),
        action=stored.action.astype(jnp.int32),
        next_obs=stored.next_obs.astype(jnp.float32),
    )
