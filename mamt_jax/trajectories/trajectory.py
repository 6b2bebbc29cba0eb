"""A trajectory: what happened in some episodes, as named arrays, and one table of what they are.

The stages of training play episodes and return it. Two time axes:

    step     T, one entry for each step of the longest episode
    moment   T + 1: the start, and what every step led to; step t leads from moment t to t + 1

Shape legend: E episodes, n agents, O observation size, A actions, K attention heads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mamt_jax.envs.base import EnvSpec, Field, view_fields

_STEP, _MOMENT = ("step", "episode"), ("moment", "episode")
_AGENT = (*_STEP, "agent")
FIELDS: dict[str, Field] = {
    "obs": Field((*_MOMENT, "agent", "obs"), "1", "observation, as the policy was given it"),
    "action": Field(_AGENT, "1", "number of the action taken, -1 of agents that took none"),
    "reward": Field(_AGENT, "reward", "reward of the step, 0 of agents that took no part"),
    "alive": Field(_AGENT, "1", "whether the agent acted in the step"),
    "terminated": Field(_AGENT, "1", "whether nothing follows for the agent after the step"),
    "truncated": Field(_STEP, "1", "whether the episode was cut off after the step"),
    "return_so_far": Field(
        _STEP, "reward", "sum of rewards to this step and with it, averaged over all agents"
    ),
    "length": Field(("episode",), "step", "steps of the episode"),
}
"""What every trajectory has."""

INSPECTED: dict[str, Field] = {
    "probability": Field((*_AGENT, "action"), "1", "probability of each action"),
    "q": Field((*_AGENT, "action"), "standardised reward", "Q of each own action"),
    "value": Field(_AGENT, "standardised reward", "value under the own policy"),
    "advantage": Field(_AGENT, "standardised reward", "advantage of the action taken"),
    "attention": Field((*_AGENT, "opponent", "head"), "1", "the critic's attention to the others"),
    "coordination": Field((*_AGENT, "opponent"), "1", "coordination C_ij (Eq. 5)"),
    "divergence": Field((*_AGENT, "opponent"), "nat", "D_ij: what was expected against what is"),
    "nonstationarity": Field(_AGENT, "nat", "non-stationarity D_i,ns (Eq. 6)"),
    "delta": Field(_AGENT, "nat", "local trust region δ_i"),
    "local_kl": Field(_AGENT, "nat", "KL of the policy to its old one"),
    "local_kl_predicted": Field(_AGENT, "nat", "the same as TRD-Net has it"),
}
"""What an algorithm may say of each step, see ``Algorithm.inspect``."""


class Played(NamedTuple):
    """Episodes as a stage plays them; what lies behind the end of one means nothing."""

    obs: Any
    """[T + 1, E, n, O] float32."""
    action: Any
    """[T, E, n] int32, -1 where the policy is not finite."""
    reward: Any
    """[T, E, n] float32."""
    alive: Any
    """[T, E, n] bool."""
    terminated: Any
    """[T, E, n] bool."""
    finished: Any
    """[T, E] bool; only the first True of an episode counts."""
    return_so_far: Any
    """[T, E] float32."""
    view: dict[str, Any]
    """Leaves ``[T + 1, E, ...]``."""
    inspected: dict[str, Any]
    """Leaves ``[T, E, n, ...]``."""


@dataclass(frozen=True, eq=False, repr=False)
class Trajectory:
    """Episodes side by side, NumPy arrays. :data:`FIELDS` has their dimensions and units.

    After the end of an episode numbers are NaN, integers -1, and flags False. So is what the
    algorithm says of agents that are out.

    Attributes:
        obs: float32 ``[T + 1, E, n, O]``, zeros of agents that are out.
        action: int32 ``[T, E, n]``.
        reward: float32 ``[T, E, n]``.
        alive: bool ``[T, E, n]``.
        terminated: bool ``[T, E, n]``.
        truncated: bool ``[T, E]``: the episode ended with somebody who was not terminated.
        return_so_far: float32 ``[T, E]``, undiscounted.
        length: int32 ``[E]``.
        view: What the environment wants seen, ``[T + 1, E, ...]`` each, by name; nothing of host
            environments.
        inspected: What the algorithm says of each step, ``[T, E, n, ...]`` each; see
            :data:`INSPECTED`.
        spec: The environment's description: its name, and those of its agents and actions.
        view_fields: Dimensions, after moment and episode, and units of ``view``; and arrays that
            are the same at all moments.
    """

    obs: NDArray[np.float32]
    action: NDArray[np.int32]
    reward: NDArray[np.float32]
    alive: NDArray[np.bool_]
    terminated: NDArray[np.bool_]
    truncated: NDArray[np.bool_]
    return_so_far: NDArray[np.float32]
    length: NDArray[np.int32]
    view: dict[str, NDArray[Any]]
    inspected: dict[str, NDArray[Any]]
    spec: EnvSpec
    view_fields: Mapping[str, Field] = field(default_factory=dict)

    @property
    def returns(self) -> NDArray[np.float32]:
        """Undiscounted return of each episode, averaged over agents, float32 ``[E]``."""
        return self.return_so_far[self.length - 1, np.arange(len(self.length))]

    @property
    def undecided(self) -> bool:
        """Whether an action was asked of a policy that is not finite."""
        return bool((self.alive & (self.action < 0)).any())

    @property
    def fields(self) -> dict[str, Field]:
        """Layout of every array, those of ``view`` and ``inspected`` included."""
        seen = {
            name: one._replace(dims=(*_MOMENT, *one.dims)) if one.still is None else one
            for name, one in self.view_fields.items()
        }
        other = {
            name: Field((*_AGENT, *(f"{name}_{k}" for k in range(3, array.ndim))), "", "")
            for name, array in self.inspected.items()
        }
        return FIELDS | seen | {name: INSPECTED.get(name, one) for name, one in other.items()}

    def __repr__(self) -> str:
        steps = ", ".join(map(str, self.length[:8])) + (", ..." if len(self.length) > 8 else "")
        said = ", ".join((*self.view, *self.inspected)) or "nothing more"
        return f"<Trajectory of {self.spec.name}, steps: {steps}; with {said}>"


def as_trajectory(played: Played, env: Any) -> Trajectory:
    """Cuts off what lies behind the end of every episode.

    Args:
        played: Episodes, of which each has an end.
        env: Where.
    """
    played = Played(*(_as_numpy(part) for part in played))
    length = played.finished.argmax(axis=0).astype(np.int32) + 1
    steps = int(length.max())
    running = np.arange(steps + 1)[:, None] < length
    within, reached = running[:-1], np.arange(steps + 1)[:, None] <= length
    alive = played.alive[:steps] & within[..., None]
    terminated = played.terminated[:steps] & alive
    last = np.arange(steps)[:, None] == length - 1
    return Trajectory(
        obs=_kept(played.obs[: steps + 1], reached),
        action=_kept(played.action[:steps], alive),
        reward=_kept(np.where(played.alive[:steps], played.reward[:steps], 0.0), within),
        alive=alive,
        terminated=terminated,
        truncated=last & (alive & ~terminated).any(axis=-1),
        return_so_far=_kept(played.return_so_far[:steps], within),
        length=length,
        view={name: _kept(array[: steps + 1], reached) for name, array in played.view.items()},
        inspected={name: _kept(array[:steps], alive) for name, array in played.inspected.items()},
        spec=env.spec,
        view_fields=view_fields(env),
    )


def _as_numpy(part: Any) -> Any:
    if isinstance(part, dict):
        return {name: np.asarray(array) for name, array in part.items()}
    return np.asarray(part)


def _kept(array: NDArray[Any], where: NDArray[np.bool_]) -> NDArray[Any]:
    """The array, and NaN, -1 or False where not."""
    kind = array.dtype.kind
    nothing = np.nan if kind == "f" else False if kind == "b" else -1
    if kind == "u":  # there is no -1
        array = array.astype(np.int32)
    where = where.reshape(where.shape + (1,) * (array.ndim - where.ndim))
    return np.where(where, array, np.array(nothing, array.dtype))
