"""What learners with a critic and a trust region share: how they see a batch, or one step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from mamt_jax.algorithms.learner import Learner
from mamt_jax.algorithms.optimisers import Optimised
from mamt_jax.algorithms.parts import Critic, TrustRegion, View
from mamt_jax.networks import layers
from mamt_jax.ops.masking import masked


class Sees(Protocol):
    """The part of a learner's state that a view is made of."""

    @property
    def actor(self) -> Optimised:
        """Policies."""
        ...

    @property
    def critic(self) -> Optimised:
        """Critics."""
        ...

    @property
    def norm(self) -> layers.NormState:
        """Running statistics of the observations."""
        ...

    @property
    def action_norm(self) -> layers.NormState:
        """Running statistics of one-hot actions: only inspection needs them."""
        ...

    @property
    def region(self) -> Any:
        """State of the trust region."""
        ...


@dataclass(frozen=True)
class CriticLearner(Learner):
    """A learner with a critic and a trust region."""

    critic: Critic
    region: TrustRegion

    def view(
        self,
        state: Sees,
        key: jax.Array,
        obs: jax.Array,
        action: jax.Array,
        alive: jax.Array | None,
        obs_norm: layers.NormState,
        action_norm: layers.NormState,
    ) -> View:
        """Samples under given statistics, before any network steps.

        Args:
          state: of the learner.
          key: for what is drawn anew in every update.
          obs: ``[n, B, O]``.
          action: int32 ``[n, B]``.
          alive: bool ``[n, B]``; None if all are.
          obs_norm: what to normalise observations with.
          action_norm: and one-hot actions.
        """
        x = layers.normalise(obs_norm, obs, alive)
        one_hot = jax.nn.one_hot(action, self.game.num_actions)
        log_policy = self.actors.log_policy(state.actor.params, x)
        return View(
            x=x,
            action=action,
            encoded=layers.normalise(action_norm, one_hot, alive),
            alive=alive,
            log_policy=log_policy,
            log_old_policy=self.log_old_policy(state, x, log_policy),
            critic_params=state.critic.params,
            obs_norm=obs_norm,
            action_norm=action_norm,
            key=key,
        )

    def encode(
        self, action: jax.Array, alive: jax.Array | None
    ) -> tuple[jax.Array, layers.NormState]:
        """Batch-normalised one-hot actions ``[n, B, A]`` and their statistics."""
        return layers.batch_norm(jax.nn.one_hot(action, self.game.num_actions), alive)

    def log_old_policy(self, state: Any, x: jax.Array, log_policy: jax.Array) -> jax.Array:
        """log π_old ``[n, B, A]``, that of the current policies where nothing else is kept."""
        return log_policy

    def seen(self, state: Sees, obs: jax.Array, action: jax.Array, alive: jax.Array | None) -> View:
        """Steps ``[E, n, ...]`` under running statistics, with the critic's trace."""
        there = None if alive is None else alive.T
        obs, action = (masked(jnp.swapaxes(leaf, 0, 1), there) for leaf in (obs, action))
        # Nothing is drawn at inspection.
        key = jax.random.key(0)
        view = self.view(state, key, obs, action, there, state.norm, state.action_norm)
        trace = self.critic.apply(view.critic_params, view.x, view.encoded, view.alive)
        return view._replace(trace=trace)

    def described(self, state: Sees, view: View) -> dict[str, jax.Array]:
        """What every such learner can say of a view: entries of ``Algorithm.inspect``."""
        found = {"probability": jnp.exp(view.log_policy)}
        if self.critic.attention is not None:
            found["attention"] = self.critic.attention(view.trace)
        return found | self.region.inspect(state.region, view)
