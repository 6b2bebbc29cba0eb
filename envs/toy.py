"""Tiny coordination games with known returns, to test learning code on.

Two agents see the same one-hot context. Agent 0 should answer context c with action c, agent 1
with action c + 1 (modulo the number of actions); the next context is drawn anew.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from mamt_jax.envs import drawing
from mamt_jax.envs.base import EnvSpec, Field, TimeStep, check_at_least
from mamt_jax.envs.scene import Scene, Tiles

_MAX_NUMBERS = 20  # actions that still have room for their number in a picture


class ToyState(NamedTuple):
    """State of a toy game."""

    context: jax.Array  # [] int32
    time: jax.Array  # [] int32, steps since the reset
    alive: jax.Array  # [2] bool


@dataclass(frozen=True)
class _Toy:
    num_actions: int = 3
    episode_length: int = 5

    name: ClassVar[str]
    summary: ClassVar[str]
    ends_on_miss: ClassVar[bool]

    def __post_init__(self) -> None:
        check_at_least(self.name, "num_actions", self.num_actions, 2)
        check_at_least(self.name, "episode_length", self.episode_length, 1)

    @property
    def spec(self) -> EnvSpec:
        """Static description."""
        return EnvSpec(
            name=self.name,
            num_agents=2,
            obs_sizes=(self.num_actions,) * 2,
            action_counts=(self.num_actions,) * 2,
            episode_length=self.episode_length,
            summary=self.summary,
            teams=((0, 1),),
        )

    @property
    def optimal_return(self) -> float:
        """Undiscounted return of the best joint policy."""
        return float(self.episode_length)

    @property
    def hit_probability(self) -> float:
        """Probability that two uniformly random actions both match."""
        return 1.0 / self.num_actions**2

    def best_actions(self, obs: jax.Array) -> jax.Array:
        """The matching joint action: obs [..., 2, O] -> [..., 2] int32."""
        context = jnp.argmax(obs, axis=-1)
        return (context + jnp.arange(2)) % self.num_actions

    def reset(self, key: jax.Array) -> tuple[ToyState, jax.Array]:
        """Starts an episode: (state, obs [2, O])."""
        state = ToyState(self._draw_context(key), jnp.int32(0), jnp.ones(2, bool))
        return state, self._observe(state)

    def step(self, key: jax.Array, state: ToyState, actions: jax.Array) -> TimeStep:
        """Pays 1 to both agents if both actions match the context, else 0."""
        target = (state.context + jnp.arange(2)) % self.num_actions
        hit = jnp.all(actions == target)
        state = ToyState(self._draw_context(key), state.time + 1, state.alive)
        return TimeStep(
            state=state,
            obs=self._observe(state),
            reward=jnp.full(2, hit, jnp.float32),
            terminated=~hit if self.ends_on_miss else jnp.bool_(False),
            truncated=state.time >= self.episode_length,
        )

    @property
    def view_fields(self) -> dict[str, Field]:
        """Layout of what `view` returns."""
        return {
            "context": Field((), "1", "what both agents are to answer"),
            "playing": Field(("agent",), "1", "whether an agent has not left yet"),
        }

    def view(self, state: ToyState) -> dict[str, jax.Array]:
        """What wants to be seen of a state."""
        return {"context": state.context, "playing": state.alive}

    @property
    def scene(self) -> Scene:
        """How the view is drawn, see `render`; framed is the action that led there."""
        count, gap = self.num_actions, 0.3
        rows = [
            Tiles("context", count, (0.0, 2.0), "context"),
            *(
                Tiles("context", count, (0.0, 1.0 - i), f"agent {i}: best action", i, i, "playing")
                for i in range(2)
            ),
        ]
        return Scene((-gap, -gap), (count + gap, 3.0), tuple(rows))

    def render(self, state: ToyState) -> drawing.Frame:
        """Picture of a state, uint8 [H, W, 3]: the context and the actions that match it."""
        context, _, alive = jax.device_get(state)
        count = self.num_actions
        gap = 0.04 * count
        canvas = drawing.Canvas((-gap, -gap), (count + gap, 0.6 * count + gap))
        best = (int(context), (int(context) + 1) % count)
        labels = [f"agent {i}: " + ("best action" if alive[i] else "has left") for i in range(2)]
        rows = zip(("context", *labels), (best[0], *best), strict=True)
        for row, (label, chosen) in enumerate(rows):
            top = (0.6 - 0.2 * row) * count
            canvas.text((0.5 * count, top - 0.035 * count), label, 0.04 * count)
            for action in range(count):
                colour = drawing.colour_of(row) if action == chosen else drawing.FAINT
                low, high = (action + 0.05, top - 0.18 * count), (action + 0.95, top - 0.07 * count)
                canvas.rectangle(low, high, colour, roundness=0.05)
                if count <= _MAX_NUMBERS:
                    middle = (action + 0.5, top - 0.125 * count)
                    canvas.text(middle, str(action), 0.05 * count)
        return canvas.array()

    def _draw_context(self, key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, self.num_actions, jnp.int32)

    def _observe(self, state: ToyState) -> jax.Array:
        one_hot = jax.nn.one_hot(state.context, self.num_actions, dtype=jnp.float32)
        return jnp.broadcast_to(one_hot, (2, self.num_actions))


@dataclass(frozen=True)
class ToyMatching(_Toy):
    """Every episode runs its full length; a hit pays 1."""

    name: ClassVar[str] = "toy_matching"
    summary: ClassVar[str] = "Test game: both agents answer a context; episodes are truncated."
    ends_on_miss: ClassVar[bool] = False

    @property
    def random_return(self) -> float:
        """Expected undiscounted return of uniformly random actions."""
        return self.episode_length * self.hit_probability


@dataclass(frozen=True)
class ToySurvival(_Toy):
    """The first miss *terminates* the episode, so nothing may be bootstrapped after it.

    The value of a wrong joint action is exactly 0. Code that confuses termination with
    truncation learns a positive one.
    """

    name: ClassVar[str] = "toy_survival"
    summary: ClassVar[str] = "Test game: both agents answer a context; a miss terminates."
    ends_on_miss: ClassVar[bool] = True

    @property
    def random_return(self) -> float:
        """Expected undiscounted return of uniformly random actions."""
        return sum(self.hit_probability**k for k in range(1, self.episode_length + 1))


@dataclass(frozen=True)
class ToyElimination(_Toy):
    """Each agent plays for itself, and leaves with its first miss; the other plays on."""

    name: ClassVar[str] = "toy_elimination"
    summary: ClassVar[str] = "Test game: both agents answer a context; who misses leaves."
    ends_on_miss: ClassVar[bool] = True

    @property
    def spec(self) -> EnvSpec:
        """Static description."""
        return replace(super().spec, agents_may_leave=True, teams=((0,), (1,)))

    @property
    def random_return(self) -> float:
        """Expected undiscounted return of uniformly random actions."""
        return sum(self.num_actions**-k for k in range(1, self.episode_length + 1))

    def step(self, key: jax.Array, state: ToyState, actions: jax.Array) -> TimeStep:
        """Pays 1 to each agent whose action matches the context; the others are out."""
        hit = state.alive & (actions == (state.context + jnp.arange(2)) % self.num_actions)
        following = ToyState(self._draw_context(key), state.time + 1, hit)
        return TimeStep(
            state=following,
            obs=self._observe(following),
            reward=hit.astype(jnp.float32),
            terminated=state.alive & ~hit,
            truncated=following.time >= self.episode_length,
            alive=hit,
        )
