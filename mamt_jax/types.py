"""Shared types and the shape legend.

Shapes, in every docstring of the package:

    S  seeds trained together          n  agents
    E  parallel environments           A  actions of the widest agent
    B  batch of transitions            O  observation size of the widest agent
    H  hidden width                    K  attention heads

What crosses module borders is batch-major (``[B, n, O]``); inside an update arrays are
agent-major (``[n, B, O]``), so that per-agent parameters stacked on a leading axis meet their
data in one batched matrix product.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

Params = Any
"""A pytree of arrays."""

Metrics = dict[str, jax.Array]
"""One scalar or small array per quantity; ``quantities.py`` lists dimensions and meaning."""


class Transition(NamedTuple):
    """One environment step of one environment instance, or a batch of them."""

    obs: jax.Array
    """float32 [..., n, O]."""
    action: jax.Array
    """int32 [..., n]."""
    reward: jax.Array
    """float32 [..., n]."""
    next_obs: jax.Array
    """float32 [..., n, O]: the true successor, also at the end of an episode."""
    terminated: jax.Array
    """bool [..., n]: no return follows for this agent, so nothing is bootstrapped."""
    alive: jax.Array | None = None
    """bool [..., n]: the agent acted in this step. Where it did not, having left the episode, its
    other fields mean nothing. None where agents never leave."""
    finished: jax.Array | None = None
    """bool [...]: the episode ended with this step, terminated or cut off. None in a replay, which
    has no use for it."""


class Game(NamedTuple):
    """What an algorithm knows of an environment."""

    obs_sizes: tuple[int, ...]
    """Observation size of each agent."""
    action_counts: tuple[int, ...]
    """Number of actions of each agent."""
    teams: tuple[tuple[int, ...], ...] | None = None
    """Agents whose rewards depend on one another, if that is known."""
    agents: tuple[str, ...] = ()
    """Their names, for people; nothing computed depends on them."""

    @property
    def num_agents(self) -> int:
        """n."""
        return len(self.obs_sizes)

    @property
    def obs_size(self) -> int:
        """O."""
        return max(self.obs_sizes)

    @property
    def num_actions(self) -> int:
        """A."""
        return max(self.action_counts)


class Algorithm(NamedTuple):
    """A learning rule as pure functions of its state."""

    name: str
    init: Callable[[jax.Array], Any]
    """key -> state."""
    act: Callable[[Any, jax.Array, jax.Array], jax.Array]
    """(state, key, obs [E, n, O]) -> sampled actions int32 [E, n]; -1 where a policy is not finite,
    which ends the part of its seed in a run."""
    greedy: Callable[[Any, jax.Array], jax.Array]
    """(state, obs [E, n, O]) -> most probable actions int32 [E, n]; -1 as in ``act``."""
    update: Callable[[Any, jax.Array, Batch, jax.Array], tuple[Any, Metrics]]
    """(state, key, batch, count of earlier updates []) -> (state, metrics)."""
    on_policy: bool = False
    """An update sees what was collected since the one before, whole and in order, not a sample of
    the replay."""
    inspect: (
        Callable[[Any, jax.Array, jax.Array, jax.Array | None], dict[str, jax.Array]] | None
    ) = None
    """(state, obs [E, n, O], actions taken int32 [E, n], alive bool [E, n] or None) -> what the
    algorithm can say of this step, of those that it has:

        probability     [E, n, A]     π_i(u | o_i)
        q               [E, n, A]     Q_i(o, (u, a_-i)) for every own action u
        value           [E, n]        V_i, what the critic expects under the own policy
        advantage       [E, n]        of the action taken
        attention       [E, n, n, K]  of the critic, of agent i (first) to j
        coordination    [E, n, n]     C_ij
        divergence      [E, n, n]     D_ij: what i expects of j against what j does now, nats
        nonstationarity [E, n]        D_i,ns
        delta           [E, n]        δ_i
        local_kl        [E, n]        KL of the policy to its old one, nats
        local_kl_predicted [E, n]     the same as TRD-Net has it
    """


class Batch(NamedTuple):
    """What one update sees."""

    sample: Transition
    """B transitions drawn uniformly from the replay; rewards raw. On-policy: a rollout, leaves
    ``[T, E, ...]``, T steps of all E environments."""
    reward_mean: jax.Array
    """float32 [n]: mean reward of the replay's contents, or of the rollout."""
    reward_std: jax.Array
    """float32 [n]: standard deviation of the same."""
    recent: Transition | None
    """B transitions for the modelling policies, drawn from the newest ``modelling_recent``; None
    where that option is 0 and they learn from ``sample``."""
