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

from typing import Any, NamedTuple, Protocol

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


class InitFn(Protocol):
    """A learner before any update."""

    def __call__(self, key: jax.Array) -> Any:
        """Its state, a pytree of arrays.

        Args:
          key: random key.
        """
        ...


class ActFn(Protocol):
    """What agents do when they explore."""

    def __call__(self, state: Any, key: jax.Array, obs: jax.Array) -> jax.Array:
        """Sampled actions int32 ``[E, n]``; -1 where a policy is not finite, which ends the part of
        its seed in a run.

        Args:
          state: of the learner.
          key: random key.
          obs: float32 ``[E, n, O]``.
        """
        ...


class GreedyFn(Protocol):
    """What agents do when they are evaluated."""

    def __call__(self, state: Any, obs: jax.Array) -> jax.Array:
        """Most probable actions int32 ``[E, n]``; -1 as in :class:`ActFn`.

        Args:
          state: of the learner.
          obs: float32 ``[E, n, O]``.
        """
        ...


class UpdateFn(Protocol):
    """One update of everything that learns."""

    def __call__(
        self, state: Any, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[Any, Metrics]:
        """(state, metrics).

        Args:
          state: of the learner.
          key: random key.
          batch: from the replay, or a rollout.
          count: updates before this one, int32 ``[]``.
        """
        ...


class InspectFn(Protocol):
    """What an algorithm makes of a step that nothing learns from."""

    def __call__(
        self, state: Any, obs: jax.Array, action: jax.Array, alive: jax.Array | None
    ) -> dict[str, jax.Array]:
        """Of these, what the algorithm has:

            probability     [E, n, A]     π_i(u | o_i)
            q               [E, n, A]     Q_i(o, (u, a_-i)) for every own action u; NaN of actions
                                          that an agent does not have
            value           [E, n]        V_i, what the critic expects under the own policy
            advantage       [E, n]        of the action taken
            attention       [E, n, n, K]  of the critic, of agent i (first) to j
            coordination    [E, n, n]     C_ij
            divergence      [E, n, n]     D_ij: what i expects of j against what j does now, nats
            nonstationarity [E, n]        D_i,ns
            delta           [E, n]        δ_i
            local_kl        [E, n]        KL of the policy to its old one, nats
            local_kl_predicted [E, n]     the same as TRD-Net has it

        Every step is described on its own, whatever stands beside it in the arguments: what
        training takes from a batch (statistics of its inputs, the mean score that is the unit of
        C) is a running average in the state here. Pairs are zero on the diagonal. All that would
        be said of an agent that is not alive, or of a pair with one, is NaN.

        Args:
          state: of the learner.
          obs: float32 ``[E, n, O]``.
          action: taken, int32 ``[E, n]``.
          alive: bool ``[E, n]``; None if agents never leave.
        """
        ...


class Algorithm(NamedTuple):
    """A learning rule as pure functions of its state."""

    name: str
    init: InitFn
    act: ActFn
    greedy: GreedyFn
    update: UpdateFn
    inspect: InspectFn | None = None
