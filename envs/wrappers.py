"""Ways to run an environment.

`VectorEnv`: many at once, with finished episodes reset and their last observation kept.
`start` and `advance`: one of them from the host, a step at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.envs.base import Environment, EnvSpec, TimeStep, check_at_least


@partial(jax.jit, static_argnums=0)
def start(env: Environment, key: jax.Array) -> tuple[jax.Array, Any, jax.Array]:
    """Starts an episode: (key to go on with, state, obs [n, O]).

    Splits the key, keeps the first half and uses the second. Compiled once for equal environments.
    """
    key, reset_key = jax.random.split(key)
    return key, *env.reset(reset_key)


@partial(jax.jit, static_argnums=0)
def advance(
    env: Environment, key: jax.Array, state: Any, actions: jax.Array
) -> tuple[jax.Array, TimeStep]:
    """Moves all agents once: (key to go on with, result); the key and compilation as in `start`."""
    key, step_key = jax.random.split(key)
    return key, env.step(step_key, state, actions)


class VectorState(NamedTuple):
    """E environments in the middle of their episodes."""

    env_state: Any  # the environment's own state, every leaf [E, ...]
    obs: jax.Array  # [E, n, O] to act on next
    episode_return: jax.Array  # [E, n] undiscounted, of the episode so far
    alive: jax.Array | None = None  # [E, n] bool, agents that act next; None if none ever leaves


class VectorStep(NamedTuple):
    """What one step of E environments produced."""

    next_obs: jax.Array  # [E, n, O] true last observation, before any reset
    reward: jax.Array  # [E, n]
    terminated: jax.Array  # [E] bool; where agents may leave [E, n], of those that acted
    truncated: jax.Array  # [E] bool
    finished: jax.Array  # [E] bool, the next step is of another episode
    finished_return: jax.Array  # [E] episode return averaged over agents, 0 if not finished
    return_so_far: jax.Array  # [E] of the episode with this step, averaged over agents
    last_state: Any  # the environment's state, leaves [E, ...], before any reset
    alive: jax.Array | None = None  # [E, n] bool, agents that acted; None if none ever leaves


@dataclass(frozen=True)
class VectorEnv:
    """`num_envs` copies of `env` that start a new episode as soon as one is finished.

    Reset states are drawn only in steps in which an episode did finish. Under an outer `vmap`
    (over seeds) that saving is lost, as `lax.cond` on a batched predicate runs both branches; the
    results stay the same.
    """

    env: Environment
    num_envs: int

    def __post_init__(self) -> None:
        check_at_least("VectorEnv", "num_envs", self.num_envs, 1)

    @property
    def spec(self) -> EnvSpec:
        """Description of one of the environments."""
        return self.env.spec

    def reset(self, key: jax.Array) -> VectorState:
        """Starts E independent episodes."""
        env_state, obs = self._reset_all(key)
        shape = self.num_envs, self.spec.num_agents
        alive = jnp.ones(shape, bool) if self.spec.agents_may_leave else None
        return VectorState(env_state, obs, jnp.zeros(shape, jnp.float32), alive)

    def step(
        self, key: jax.Array, state: VectorState, actions: jax.Array
    ) -> tuple[VectorState, VectorStep]:
        """Steps every environment with `actions` [E, n] and resets the finished ones.

        Rewards and observations of agents that have left read as zeros.

        Raises:
          ValueError: what the environment says of leaving does not fit its spec.
        """
        step_key, reset_key = jax.random.split(key)
        # An environment that ignores its key leaves these splits unused, and XLA drops them.
        step_keys = jax.random.split(step_key, self.num_envs)
        result: TimeStep = jax.vmap(self.env.step)(step_keys, state.env_state, actions)
        self._check(result)
        acted, alive = state.alive, None
        if acted is not None and result.alive is not None:
            ended = result.terminated
            ended = acted & (ended if ended.ndim == 2 else ended[:, None])
            alive = acted & result.alive & ~ended
            result = result._replace(
                obs=jnp.where(acted[..., None], result.obs, 0.0),
                reward=jnp.where(acted, result.reward, 0.0),
                terminated=ended,
                alive=alive,
            )
        finished = result.finished
        episode_return = state.episode_return + result.reward
        so_far = episode_return.mean(axis=1)
        env_state, obs = jax.lax.cond(
            jnp.any(finished),
            lambda: self._reset_finished(reset_key, finished, result),
            lambda: (result.state, result.obs),
        )
        if alive is not None:
            alive = alive | finished[:, None]
            obs = jnp.where(alive[..., None], obs, 0.0)
        episode_so_far = jnp.where(finished[:, None], 0.0, episode_return)
        next_state = VectorState(env_state, obs, episode_so_far, alive)
        return next_state, VectorStep(
            next_obs=result.obs,
            reward=result.reward,
            terminated=result.terminated,
            truncated=result.truncated,
            finished=finished,
            finished_return=jnp.where(finished, so_far, 0.0),
            return_so_far=so_far,
            last_state=result.state,
            alive=acted,
        )

    def _check(self, result: TimeStep) -> None:
        """Refuses, while tracing, steps that do not say who has left, or that do unasked."""
        spec, alive = self.spec, result.alive
        if (alive is not None) != spec.agents_may_leave:
            said = "no alive" if alive is None else "alive"
            raise ValueError(
                f"{spec.name}: agents_may_leave is {spec.agents_may_leave} in its spec, but its "
                f"steps have {said}; a TimeStep has alive where agents may leave, and only there."
            )
        if alive is not None and alive.shape != (self.num_envs, spec.num_agents):
            raise ValueError(
                f"{spec.name}: alive of a TimeStep must be of shape {(spec.num_agents,)}, one for "
                f"each agent, got {alive.shape[1:]}."
            )

    def _reset_all(self, key: jax.Array) -> tuple[Any, jax.Array]:
        return jax.vmap(self.env.reset)(jax.random.split(key, self.num_envs))

    def _reset_finished(
        self, key: jax.Array, finished: jax.Array, result: TimeStep
    ) -> tuple[Any, jax.Array]:
        """Replaces state and observation where `finished` [E]."""

        def choose(new: jax.Array, old: jax.Array) -> jax.Array:
            return jnp.where(finished.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

        chosen: tuple[Any, jax.Array] = jax.tree.map(
            choose, self._reset_all(key), (result.state, result.obs)
        )
        return chosen
