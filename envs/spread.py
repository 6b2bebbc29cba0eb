"""Cooperative navigation: n agents cover n landmarks without bumping into each other.

`spread` is MPE's simple spread (Lowe et al., 2017). The three `spread3_*` worlds change who
shares a reward and who can collide, so that the joint policy factorises over different Markov
random fields (Li et al., ICLR 2022, Appendix D, Figure 7).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs import drawing, particles
from mamt_jax.envs.base import EnvSpec, Field, TimeStep, check_at_least
from mamt_jax.envs.particles import Bodies, State
from mamt_jax.envs.scene import INK, At, Links, Marks, Scene

AGENT_RADIUS = 0.15
_LANDMARK_RADIUS = 0.045  # as drawn; nothing touches a landmark
MAX_AGENTS = 100  # collisions are pairwise, written out when the program is traced
_VARIANTS = ("paper", "mpe2")
_MESSAGE_SIZE = 2  # agents are silent: their messages are observed as zeros


def observe(state: State) -> jax.Array:
    """Observations [n, 4 + 2n + 4(n-1)].

    Own velocity, own position, landmarks relative to the agent, other agents relative to it
    (in order of their index), then 2 zeros for the message of each other agent.
    """
    count = state.position.shape[0]
    silence = jnp.zeros(_MESSAGE_SIZE * (count - 1), jnp.float32)
    rows = []
    for i in range(count):
        own = state.position[i]
        landmarks = [state.landmark[k] - own for k in range(state.landmark.shape[0])]
        others = [state.position[j] - own for j in range(count) if j != i]
        rows.append(jnp.concatenate([state.velocity[i], own, *landmarks, *others, silence]))
    return jnp.stack(rows)


def coverage_cost(state: State, agents: tuple[int, ...], landmarks: tuple[int, ...]) -> jax.Array:
    """Sum over `landmarks` of the distance to the nearest of `agents`, a scalar."""
    cost = jnp.float32(0.0)
    for k in landmarks:
        nearest = jnp.float32(jnp.inf)
        for i in agents:
            distance = particles.length(state.position[i] - state.landmark[k])
            nearest = jnp.minimum(nearest, distance)
        cost = cost + nearest
    return cost


def collisions(bodies: Bodies, position: jax.Array) -> jax.Array:
    """Number of agents that each agent overlaps, [n] float32, itself not counted."""
    counts = [jnp.float32(0.0)] * bodies.count
    for i, j in bodies.contacts:
        distance = particles.length(position[i] - position[j])
        hit = (distance < bodies.radius[i] + bodies.radius[j]).astype(jnp.float32)
        counts[i] = counts[i] + hit
        counts[j] = counts[j] + hit
    return jnp.stack(counts)


class _SpreadWorld(ABC):
    """What all spread worlds share; subclasses are frozen dataclasses of their options."""

    name: ClassVar[str]
    summary: ClassVar[str]
    episode_length: int

    @property
    @abstractmethod
    def bodies(self) -> Bodies:
        """Physical properties of the agents."""

    @abstractmethod
    def _reward(self, state: State) -> jax.Array:
        """Rewards [n] for having arrived in `state`."""

    @property
    def teams(self) -> tuple[tuple[int, ...], ...]:
        """Agents that are paid together for covering the landmarks of the same numbers.

        What one team does changes nothing for another.
        """
        return (tuple(range(self.bodies.count)),)

    @property
    def spec(self) -> EnvSpec:
        """Static description."""
        count = self.bodies.count
        obs_size = 4 + 2 * count + (2 + _MESSAGE_SIZE) * (count - 1)
        return EnvSpec(
            name=self.name,
            num_agents=count,
            obs_sizes=(obs_size,) * count,
            action_counts=(particles.NUM_ACTIONS,) * count,
            episode_length=self.episode_length,
            summary=self.summary,
            action_names=(particles.action_names(self.bodies.mpe2_semantics),) * count,
            teams=self.teams,
        )

    def reset(self, key: jax.Array) -> tuple[State, jax.Array]:
        """Starts an episode: (state, obs [n, O])."""
        count = self.bodies.count
        state = particles.reset(key, num_agents=count, num_landmarks=count)
        return state, observe(state)

    def step(self, key: jax.Array, state: State, actions: jax.Array) -> TimeStep:
        """Moves all agents once by `actions` [n]; a step draws no random numbers."""
        del key
        state = particles.step(self.bodies, state, actions)
        return TimeStep(
            state=state,
            obs=observe(state),
            reward=self._reward(state),
            terminated=jnp.bool_(False),
            truncated=state.time >= self.episode_length,
        )

    @property
    def view_fields(self) -> dict[str, Field]:
        """Layout of what `view` returns."""
        return particles.view_fields(self.bodies)

    def view(self, state: State) -> dict[str, jax.Array]:
        """What wants to be seen of a state."""
        return particles.view(state)

    @property
    def scene(self) -> Scene:
        """How the view is drawn, see `render`; here every agent has a colour of its own."""
        of_landmark = [next(team for team in self.teams if k in team) for k in self._landmarks]
        alone = len(self.teams) == 1
        return particles.scene(
            Links(
                At("landmark"),
                At("position"),
                dotted=True,
                nearest=of_landmark,
                name="from a landmark to the nearest agent" + ("" if alone else " of its team"),
            ),
            Marks(
                At("landmark"),
                _LANDMARK_RADIUS,
                colour=INK,
                name="landmark" if alone else "landmark, in the colours of its team",
                owners=() if alone else of_landmark,
            ),
            Marks(
                At("position"),
                AGENT_RADIUS,
                name="agent" + ("; red rim: bumps into another" if self.bodies.contacts else ""),
                agents=True,
                label=True,
                bumps=self.bodies.contacts,
                rim=True,
            ),
        )

    @property
    def _landmarks(self) -> range:
        return range(self.bodies.count)

    def render(self, state: State) -> drawing.Frame:
        """Picture of a state, uint8 [H, W, 3].

        A team has one colour; a line leads from each of its landmarks to the nearest of its agents.
        Agents that bump into each other have a red outline. Those outside of the picture are shown
        at its rim, with an arrow.
        """
        position, landmark = jax.device_get((state.position, state.landmark))
        canvas, colours = drawing.plane(), _team_colours(self.teams)
        shown = drawing.in_view(position, AGENT_RADIUS)
        for team in self.teams:
            for k in team:
                distance = np.linalg.norm(position[list(team)] - landmark[k], axis=-1)
                nearest = shown[team[int(distance.argmin())]]
                end = drawing.edge_towards(nearest, landmark[k], AGENT_RADIUS)
                canvas.dots(landmark[k], end, colours[k], 0.7)
        for k, centre in enumerate(landmark):
            shade = drawing.INK if len(self.teams) == 1 else drawing.dark(colours[k])
            canvas.disk(centre, _LANDMARK_RADIUS, shade)
        bumped = _bumped(self.bodies, position)
        for i, centre in enumerate(shown):
            outline = drawing.ALERT if i in bumped else drawing.dark(colours[i])
            width = 3.0 if i in bumped else 1.5
            canvas.disk(centre, AGENT_RADIUS, colours[i], 0.55, outline, width)
            drawing.point_outside(canvas, centre, position[i], AGENT_RADIUS, outline)
        for i, centre in enumerate(shown):
            canvas.text(centre, str(i), AGENT_RADIUS, halo=drawing.light(colours[i]))
        return canvas.array()


def _bumped(bodies: Bodies, position: np.ndarray) -> set[int]:
    """Agents that overlap one they can collide with, as `collisions` counts them."""
    bumped: set[int] = set()
    for i, j in bodies.contacts:
        if np.hypot(*(position[i] - position[j])) < bodies.radius[i] + bodies.radius[j]:
            bumped |= {i, j}
    return bumped


def _team_colours(teams: tuple[tuple[int, ...], ...]) -> dict[int, drawing.Colour]:
    """Colour of each agent, its team's."""
    return {i: drawing.colour_of(number) for number, team in enumerate(teams) for i in team}


def _standard_reward(bodies: Bodies, state: State) -> jax.Array:
    """−coverage − (number of agents overlapped, itself included), [n]."""
    everyone = tuple(range(bodies.count))
    return -coverage_cost(state, everyone, everyone) - (collisions(bodies, state.position) + 1.0)


@dataclass(frozen=True)
class Spread(_SpreadWorld):
    """Simple spread in two variants.

    "paper" moves with the new velocity and pays every agent −Σ_landmarks (distance to the
    nearest agent) − (number of agents it overlaps, itself included). The constant −1 is what
    puts returns on the scale of Li et al., ICLR 2022, Table 10.

    "mpe2" follows `mpe2.simple_spread_v3`: it moves with the old velocity, has the opposite
    action signs, and pays (1 − local_ratio)·coverage − local_ratio·(number of other agents that
    the agent overlaps).

    Attributes:
      num_agents: number of agents, and of landmarks; at least 2.
      variant: "paper" or "mpe2".
      local_ratio: weight of an agent's own collisions, in [0, 1]; for "mpe2" only.
      episode_length: steps until truncation.
    """

    name: ClassVar[str] = "spread"
    summary: ClassVar[str] = "Simple spread: n agents cover n landmarks and avoid each other."

    num_agents: int = 2
    variant: str = "paper"
    local_ratio: float = 0.5
    episode_length: int = 25

    def __post_init__(self) -> None:
        check_at_least("spread", "num_agents", self.num_agents, 2)
        if self.num_agents > MAX_AGENTS:
            raise ValueError(
                f"spread: num_agents must be at most {MAX_AGENTS}, got {self.num_agents}."
            )
        check_at_least("spread", "episode_length", self.episode_length, 1)
        if self.variant not in _VARIANTS:
            accepted = " or ".join(repr(v) for v in _VARIANTS)
            raise ValueError(f"spread: variant must be {accepted}, got {self.variant!r}.")
        is_number = isinstance(self.local_ratio, int | float)
        if not is_number or not 0.0 <= self.local_ratio <= 1.0:
            raise ValueError(
                f"spread: local_ratio must be a number in [0, 1], got {self.local_ratio!r}."
            )
        if self.variant != "mpe2" and self.local_ratio != Spread.local_ratio:
            raise ValueError(
                f"spread: local_ratio is an option of variant='mpe2' only, "
                f"and variant is {self.variant!r}."
            )

    @property
    def bodies(self) -> Bodies:
        """Physical properties of the agents."""
        return particles.uniform_bodies(
            self.num_agents, AGENT_RADIUS, mpe2_semantics=self.variant == "mpe2"
        )

    def _reward(self, state: State) -> jax.Array:
        if self.variant == "paper":
            return _standard_reward(self.bodies, state)
        everyone = tuple(range(self.num_agents))
        shared = (1.0 - self.local_ratio) * coverage_cost(state, everyone, everyone)
        return -shared - self.local_ratio * collisions(self.bodies, state.position)


@dataclass(frozen=True)
class _Spread3(_SpreadWorld):
    """Three agents and landmarks; subclasses say who can collide and how rewards are shared."""

    contacts: ClassVar[tuple[tuple[int, int], ...]]

    episode_length: int = 25

    def __post_init__(self) -> None:
        check_at_least(self.name, "episode_length", self.episode_length, 1)

    @property
    def bodies(self) -> Bodies:
        """Physical properties of the agents."""
        return particles.uniform_bodies(3, AGENT_RADIUS, self.contacts)


@dataclass(frozen=True)
class Spread3Sep(_Spread3):
    """Every agent is paid −(distance to its own landmark); agents pass through each other."""

    name: ClassVar[str] = "spread3_sep"
    summary: ClassVar[str] = "Spread-3 without interaction: each agent seeks its own landmark."
    contacts: ClassVar[tuple[tuple[int, int], ...]] = ()

    @property
    def teams(self) -> tuple[tuple[int, ...], ...]:
        """Everyone is alone."""
        return (0,), (1,), (2,)

    def _reward(self, state: State) -> jax.Array:
        return -particles.length(state.position - state.landmark)


@dataclass(frozen=True)
class Spread3Mix(_Spread3):
    """Agents 0 and 2 share landmarks 0 and 2 and collide; agent 1 is alone with landmark 1.

    The pair's collision penalty is 1 while the two overlap and 0 otherwise: Appendix D speaks of
    "whether the two collide", so an agent is not counted as colliding with itself here.
    """

    name: ClassVar[str] = "spread3_mix"
    summary: ClassVar[str] = "Spread-3 where agents 0 and 2 interact and agent 1 is alone."
    contacts: ClassVar[tuple[tuple[int, int], ...]] = ((0, 2),)

    @property
    def teams(self) -> tuple[tuple[int, ...], ...]:
        """The pair, and agent 1 alone."""
        return (0, 2), (1,)

    def _reward(self, state: State) -> jax.Array:
        alone = particles.length(state.position[1] - state.landmark[1])
        bumps = collisions(self.bodies, state.position)
        pair = coverage_cost(state, (0, 2), (0, 2)) + bumps[0]
        return -jnp.stack([pair, alone, pair])


@dataclass(frozen=True)
class Spread3Ful(_Spread3):
    """The "paper" variant of `spread` with three agents: everyone interacts with everyone."""

    name: ClassVar[str] = "spread3_ful"
    summary: ClassVar[str] = "Spread-3 where all agents interact: spread with num_agents=3."
    contacts: ClassVar[tuple[tuple[int, int], ...]] = ((0, 1), (0, 2), (1, 2))

    def _reward(self, state: State) -> jax.Array:
        return _standard_reward(self.bodies, state)
