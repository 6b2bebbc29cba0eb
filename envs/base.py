"""What every environment looks like from outside.

Shape legend: E parallel environments, n agents, O observation size of the widest agent.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from mamt_jax.envs.scene import Scene

if TYPE_CHECKING:  # worker processes of host environments do without JAX
    import jax


@dataclass(frozen=True)
class EnvSpec:
    """Static description of an environment.

    Attributes:
      name: registered name.
      num_agents: number of agents n.
      obs_sizes: observation size of each agent, length n.
      action_counts: number of discrete actions of each agent, length n; 0 of one whose actions are
        no choices, for which there is no algorithm.
      episode_length: environment steps after which an episode is truncated; of an environment on
        the host that ends its episodes by itself, those of a typical one.
      summary: one line for people.
      obs_bounds: smallest and largest number that an observation may hold.
      obs_dtype: smallest type that holds every observation exactly, "float32" or "uint8": what a
        replay stores. Environments return float32 whatever it is.
      agents_may_leave: whether an agent may be out of an episode that goes on without it.
      teams: the agents, divided into groups whose rewards do not depend on one another; None if
        that is not known.
      agents: names of the agents; agent_0, agent_1, ... where none are given.
      action_names: a short word for each action of each agent, for people; None where they have
        only numbers.
    """

    name: str
    num_agents: int
    obs_sizes: tuple[int, ...]
    action_counts: tuple[int, ...]
    episode_length: int
    summary: str = ""
    obs_bounds: tuple[float, float] = (-math.inf, math.inf)
    obs_dtype: str = "float32"
    agents_may_leave: bool = False
    teams: tuple[tuple[int, ...], ...] | None = None
    agents: tuple[str, ...] = ()
    action_names: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        if not self.agents:
            object.__setattr__(self, "agents", tuple(f"agent_{i}" for i in range(self.num_agents)))
        names = self.action_names
        if names is not None and tuple(map(len, names)) != tuple(self.action_counts):
            raise ValueError(
                f"{self.name}: action_names must be one word for each of {self.action_counts} "
                f"actions, got {names}."
            )

    @property
    def obs_size(self) -> int:
        """Observation size O of the widest agent; narrower agents are zero-padded to it."""
        return max(self.obs_sizes)

    @property
    def num_actions(self) -> int:
        """Largest number of actions of any agent."""
        return max(self.action_counts)


class TimeStep(NamedTuple):
    """Result of one environment step, with nothing reset.

    `terminated` means that no return follows, `truncated` that the episode was cut at
    `episode_length` and its value may still be bootstrapped from `obs`.

    Where the spec says `agents_may_leave`, `alive` says who is left to act in the next step, and
    `terminated` may be each agent's own. All are there at the start; who has left stays away; one
    that leaves without being terminated was cut off. The episode ends with its last agent.
    Observations, rewards and ends of agents that had left before the step mean nothing.
    """

    state: Any
    obs: jax.Array  # [n, O] float32
    reward: jax.Array  # [n] float32
    terminated: jax.Array  # [] bool, of all agents; where they may leave also [n], of each
    truncated: jax.Array  # [] bool
    alive: jax.Array | None = None  # [n] bool where agents may leave, else None

    @property
    def finished(self) -> jax.Array:
        """Whether the episode has ended, bool []."""
        if self.alive is None:
            return self.terminated | self.truncated
        return self.truncated | (self.terminated | ~self.alive).all(axis=-1)


class Field(NamedTuple):
    """How one named array is laid out and read.

    Attributes:
      dims: a name for each dimension; those of one name are of one size. `agent` counts the agents,
        `xy` has two entries.
      unit: of its numbers, "1" where they have none.
      description: one line for people.
      still: the array itself where it is the same in all states of an environment, else None.
    """

    dims: tuple[str, ...]
    unit: str
    description: str
    still: NDArray[Any] | None = None


class Environment(Protocol):
    """A hashable, immutable record of pure functions; safe to close over in `jit` and `vmap`."""

    @property
    def spec(self) -> EnvSpec:
        """Static description."""
        ...

    def reset(self, key: jax.Array) -> tuple[Any, jax.Array]:
        """Starts an episode: (state, obs [n, O])."""
        ...

    def step(self, key: jax.Array, state: Any, actions: jax.Array) -> TimeStep:
        """Moves all agents once; `actions` is [n] of integers. Never resets by itself."""
        ...

    def render(self, state: Any) -> NDArray[np.uint8]:
        """Picture of a state, uint8 [H, W, 3]: the same size and the same view for all states.

        On the host, never traced. Training does without it; only animations of episodes need it.
        """
        ...


class Viewed(Environment, Protocol):
    """An environment that says what wants to be seen of its states; training does without it."""

    @property
    def view_fields(self) -> Mapping[str, Field]:
        """Layout of every array of `view`, and arrays that are the same in all states."""
        ...

    def view(self, state: Any) -> dict[str, jax.Array]:
        """What wants to be seen of a state, by the names of `view_fields` that are not still.

        Pure and traced. All that moves in a picture of the state is told by it.
        """
        ...

    @property
    def scene(self) -> Scene:
        """How that is drawn; an environment may leave it out."""
        ...


def view_fields(env: Any) -> dict[str, Field]:
    """`env.view_fields`; nothing where it does not say what wants to be seen."""
    return dict(getattr(env, "view_fields", {}))


def view(env: Any, state: Any) -> dict[str, jax.Array]:
    """`env.view(state)`; nothing where it does not say what wants to be seen.

    Raises:
      ValueError: the arrays are not those of `env.view_fields`.
    """
    fields = view_fields(env)
    seen: dict[str, jax.Array] = env.view(state) if fields else {}
    wanted = {name: len(field.dims) for name, field in fields.items() if field.still is None}
    found = {name: array.ndim for name, array in seen.items()}
    if found != wanted:
        raise ValueError(
            f"{env.spec.name}: view must return the arrays of view_fields with as many dimensions "
            f"({wanted}), got {found}."
        )
    return seen


def check_at_least(env_name: str, option: str, value: object, minimum: int) -> None:
    """Raises ValueError unless `value` is an integer of at least `minimum`."""
    is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_integer or int(value) < minimum:  # type: ignore[call-overload]
        raise ValueError(
            f"{env_name}: {option} must be an integer of at least {minimum}, got {value!r}."
        )


def check_flag(env_name: str, option: str, value: object) -> None:
    """Raises ValueError unless `value` is True or False."""
    if not isinstance(value, bool):
        raise ValueError(f"{env_name}: {option} must be True or False, got {value!r}.")


def check_number(env_name: str, option: str, value: object) -> None:
    """Raises ValueError unless `value` is a finite number."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{env_name}: {option} must be a finite number, got {value!r}.")
