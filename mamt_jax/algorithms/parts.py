"""What the parts of an actor-critic are to one another: one view of a batch, records of functions.

A part is passed in where an algorithm is composed (``registry.py``); one that is written elsewhere
is as good as ours. All arrays are agent-major, ``[n, B, ...]`` or ``[n, n, B, ...]``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from mamt_jax.networks.layers import NormState, apply_norm
from mamt_jax.types import Metrics, Params


class Trace(Protocol):
    """What a critic computed: any pytree with ``q`` whose leaves are ``[..., B, features]``."""

    @property
    def q(self) -> jax.Array:
        """[n, B, A]: Q_i(o, (u, a_{-i})) for every own action u; or [n, B, 1], the value of
        (o, a_{-i}) with the own action left out."""
        ...


class Samples(NamedTuple):
    """What agents saw and did."""

    x: jax.Array
    """[n, B, O] normalised observations."""
    action: jax.Array
    """int32 [n, B]."""
    alive: jax.Array | None
    """bool [n, B]; None if all are."""


class View(NamedTuple):
    """A batch as all parts of an update see it. Parts add what they find, the last fields."""

    x: jax.Array
    """[n, B, O] normalised observations."""
    action: jax.Array
    """int32 [n, B], from the replay or the rollout."""
    encoded: jax.Array
    """[n, B, A]: normalised one-hot of the same."""
    alive: jax.Array | None
    """bool [n, B]: which agents were in the episode; None if all. The others' observations and
    encoded actions are zeros."""
    log_policy: jax.Array
    """[n, B, A], current policies."""
    log_old_policy: jax.Array
    """[n, B, A], policies of the last refresh; on-policy, those that made the rollout."""
    critic_params: Params
    """Critic before its step."""
    obs_norm: NormState
    """What observations were normalised with."""
    action_norm: NormState
    """What one-hot actions were normalised with."""
    key: jax.Array
    """For what is drawn anew in every update."""
    recent: Samples | None = None
    """For the modelling policies; None if they learn from the batch itself."""
    trace: Trace | None = None
    """Critic's values and more, at the batch's actions. Added by the critic's regression."""
    coordination: jax.Array | None = None
    """[n, n, B]: C_ij, or of the batch's first samples only. Added by the trust region that needs
    it."""
    nonstationarity: jax.Array | None = None
    """[n, B]: D_i,ns, nats. Added likewise."""

    @property
    def action_encoding(self) -> jax.Array:
        """[n, A, A]: row u is how one-hot(u) is fed to networks."""
        num_agents, _, size = self.log_policy.shape
        one_hot = jnp.broadcast_to(jnp.eye(size), (num_agents, size, size))
        return apply_norm(self.action_norm, one_hot)


_VIEW_AXES: dict[str, Any] = dict.fromkeys(View._fields) | {
    "x": -2,
    "action": -1,
    "encoded": -2,
    "alive": -1,
    "log_policy": -2,
    "log_old_policy": -2,
    "trace": -2,
    "coordination": -1,
    "nonstationarity": -1,
}
VIEW_AXES = View(**_VIEW_AXES)
"""The batch axis of every field; None for what is no sample's."""


class CriticInit(Protocol):
    """Parameters of all agents' critics."""

    def __call__(self, key: jax.Array) -> Params:
        """Random parameters.

        Args:
          key: random key.
        """
        ...


class CriticApply(Protocol):
    """Values of all agents."""

    def __call__(
        self, params: Params, x: jax.Array, encoded: jax.Array, alive: jax.Array | None
    ) -> Trace:
        """Values, and what else of the way to them other functions of the record need.

        Args:
          params: of the critic.
          x: ``[n, B, O]`` normalised observations, zeros of agents that are not alive.
          encoded: ``[n, B, A]`` normalised one-hot actions, likewise.
          alive: bool ``[n, B]``; None if all are.
        """
        ...


class CounterfactualEffect(Protocol):
    """How much every agent's value hangs on what another does."""

    def __call__(self, view: View) -> jax.Array:
        """|Q_i(a\\j) − Q_i(a)| ``[n, n, B]``, j's action marginalised out under its policy (Eq. 5).

        Args:
          view: with the trace of ``critic_params`` at the batch's actions.

        Returns:
          Zeros on the diagonal, and where either agent is not alive.
        """
        ...


class Rescale(Protocol):
    """The same critic in other units."""

    def __call__(
        self, params: Params, old: tuple[jax.Array, jax.Array], new: tuple[jax.Array, jax.Array]
    ) -> Params:
        """Parameters under which mean + std · value has not changed (van Hasselt et al. 2016).

        Args:
          params: of the critic.
          old: mean ``[n]`` and standard deviation ``[n]`` that its values were in.
          new: those that they will be in.
        """
        ...


class Critic(NamedTuple):
    """A critic Q_i(o, a) of all agents as pure functions of its parameters."""

    init: CriticInit
    apply: CriticApply
    width: int
    """Values per sample of its widest activations, by which batches are cut into chunks."""
    effect: CounterfactualEffect | None = None
    """Where there is a faster way than to evaluate the critic n·A times."""
    attention: Callable[[Any], jax.Array] | None = None
    """trace -> weights ``[n, n, B, K]`` of agent i (first) on j, zero on the diagonal; None of a
    critic that does not attend."""
    penalty: Callable[[Any, jax.Array | None], jax.Array] | None = None
    """(trace, alive ``[n, B]`` or None) -> ``[n]``, which its loss adds."""
    balance: Callable[[Params], Params] = lambda gradient: gradient
    """gradient -> what the optimiser sees of it, for instance shared parameters' divided by n."""
    rescale: Rescale | None = None
    """PPO's critics need it, because they learn normalised returns."""


class MeasureCoordination(Protocol):
    """Coordination coefficients of a batch in training."""

    def __call__(self, state: Any, view: View) -> tuple[Any, jax.Array, Metrics]:
        """(state, C ``[n, n, B]``, metrics). C is zero on the diagonal and between agents that are
        not both alive.

        Args:
          state: of the rule.
          view: with the critic's trace.
        """
        ...


class Coordination(NamedTuple):
    """Who matters to whom, C_ij, as pure functions of a state: what one sample has to know of all.

    What is said of one step must not depend on the batch that it came in. Where training's C does,
    ``measure`` keeps an average of what it took from its batches and ``inspect`` uses that.
    """

    measure: MeasureCoordination
    inspect: Callable[[Any, View], jax.Array]
    """(state, view with the critic's trace) -> C ``[n, n, B]`` of every sample on its own."""
    init: Callable[[], Any] = lambda: ()
    """() -> state."""


class MeasureNonstationarity(Protocol):
    """D of a batch in training, and a step on what it is measured with."""

    def __call__(self, state: Any, view: View) -> tuple[Any, jax.Array, Metrics]:
        """(state after its own step, D_i ``[n, B]`` as it was before, metrics).

        Args:
          state: of the estimate.
          view: with C.
        """
        ...


class InspectNonstationarity(Protocol):
    """D of samples that nothing learns from."""

    def __call__(self, state: Any, view: View) -> tuple[jax.Array, jax.Array]:
        """(D_ij ``[n, n, B]`` with a zero diagonal, D_i ``[n, B]``), nats.

        Args:
          state: of the estimate.
          view: with C.
        """
        ...


class Nonstationarity(NamedTuple):
    """How D_i,ns is estimated, as pure functions of its state."""

    init: Callable[[jax.Array], Any]
    """key -> state."""
    measure: MeasureNonstationarity
    inspect: InspectNonstationarity


class PolicyGradients(NamedTuple):
    """What the slow step on δ may use of the policy update."""

    value_term: Callable[[], jax.Array]
    """() -> δ_i² ∂V_i/∂δ_i [n] by the next policy step. Under mirror descent that is
    ⟨g_A,i , P g_KL,i⟩. A function, because only every slow step pays for it."""
    surrogate_term: jax.Array
    """δ_i² times the derivative of the policies' surrogate objective in δ_i [n]. Under mirror
    descent that is E[log π_i · KL_i]."""


class Observe(Protocol):
    """The first of a region's two turns in an update: no network has stepped yet."""

    def __call__(self, state: Any, view: View) -> tuple[Any, View, Metrics]:
        """(state after the region's fast steps, the view with what was found, metrics).

        Args:
          state: of the region.
          view: with the critic's trace.
        """
        ...


class Adapt(Protocol):
    """The second turn: the policies' gradients are known."""

    def __call__(
        self, state: Any, view: View, gradients: PolicyGradients, count: jax.Array
    ) -> tuple[Any, Metrics]:
        """(state after the slow step, if it is due; metrics).

        Args:
          state: of the region, from ``observe``.
          view: likewise.
          gradients: of the policies.
          count: updates before this one, ``[]``.
        """
        ...


class TrustRegion(NamedTuple):
    """What keeps policies near their past: which agents have a region, and how wide it is.

    Every policy objective asks the same of it, ``constrained`` and ``delta``, and says itself what
    becomes of an agent that has no region.
    """

    constrained: tuple[bool, ...]
    """Which agents have one."""
    init: Callable[[jax.Array], Any]
    """key -> state."""
    delta: Callable[[Any], jax.Array]
    """state -> δ_i ``[n]`` as policies feel it; 1 of an agent without a region."""
    observe: Observe = lambda state, view: (state, view, {})
    adapt: Adapt = lambda state, view, gradients, count: (state, {})
    inspect: Callable[[Any, View], dict[str, jax.Array]] = lambda state, view: {}
    """(state, view with the critic's trace) -> what it can say of every sample: entries of
    ``Algorithm.inspect``, agent-major."""
