"""Point-mass physics of the multi-agent particle environments, as pure functions.

The world is a plane without walls. Units: lengths in half-widths of the start square
[-1, 1]^2, time in seconds, mass 1 for every agent. One step lasts `DT`.

Nothing here knows about rewards or observations. The functions are written for one world;
`vmap` them over worlds. Pairs of bodies are unrolled in Python: for the handful of agents in
these worlds XLA then fuses a whole step into a few elementwise loops over the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.base import Field
from mamt_jax.envs.drawing import VIEW
from mamt_jax.envs.scene import Box, Layer, Scene

LENGTH = "half-width"  # the unit of lengths, for people
DT = 0.1  # seconds a step
DAMPING = 0.25  # share of the velocity lost in a step
CONTACT_STIFFNESS = 100.0  # force per unit of penetration
CONTACT_MARGIN = 1e-3  # length over which contact sets in softly
SENSITIVITY = 5.0  # force of one action of a body without `accel`
NUM_ACTIONS = 5  # nothing, +x, -x, +y, -y

# Below this length a contact has no direction. It keeps Δ/‖Δ‖ finite: two bodies at exactly the
# same place do not push each other, where a plain division would return NaN for ever after.
_TINY_LENGTH = 1e-12


@dataclass(frozen=True)
class Bodies:
    """Static properties of the n agents of a world; every tuple has length n.

    Attributes:
      radius: radius of each agent.
      accel: acceleration of each agent, None for the default sensitivity.
      max_speed: speed limit of each agent, None for no limit.
      movable: False for an agent that never moves.
      contacts: pairs (i, j), i < j, of agents that push each other away on contact.
      mpe2_semantics: as the `mpe2` package does, swap the two directions of both axes, and
        integrate the position with the old velocity instead of with the new one.
    """

    radius: tuple[float, ...]
    accel: tuple[float | None, ...]
    max_speed: tuple[float | None, ...]
    movable: tuple[bool, ...]
    contacts: tuple[tuple[int, int], ...]
    mpe2_semantics: bool = False

    @property
    def count(self) -> int:
        """Number of agents n."""
        return len(self.radius)


def uniform_bodies(
    count: int,
    radius: float,
    contacts: Sequence[tuple[int, int]] | None = None,
    mpe2_semantics: bool = False,
) -> Bodies:
    """`count` equal movable agents; all pairs collide unless `contacts` lists those that do."""
    pairs = tuple(combinations(range(count), 2)) if contacts is None else tuple(contacts)
    return Bodies(
        radius=(radius,) * count,
        accel=(None,) * count,
        max_speed=(None,) * count,
        movable=(True,) * count,
        contacts=pairs,
        mpe2_semantics=mpe2_semantics,
    )


def action_names(mpe2_semantics: bool = False) -> tuple[str, ...]:
    """What each action does, see `Bodies`."""
    if mpe2_semantics:
        return "stay", "left", "right", "down", "up"
    return "stay", "right", "left", "up", "down"


class State(NamedTuple):
    """A world at one time."""

    position: jax.Array  # [n, 2] float32
    velocity: jax.Array  # [n, 2] float32, lengths a second
    landmark: jax.Array  # [L, 2] float32
    time: jax.Array  # [] int32, steps since the reset


def view_fields(bodies: Bodies) -> dict[str, Field]:
    """Layout of what `view` returns."""
    radius = np.array(bodies.radius, np.float32)
    return {
        "position": Field(("agent", "xy"), LENGTH, "place of each agent"),
        "velocity": Field(("agent", "xy"), f"{LENGTH}/s", "velocity of each agent"),
        "landmark": Field(("landmark", "xy"), LENGTH, "place of each landmark"),
        "radius": Field(("agent",), LENGTH, "radius of each agent", radius),
    }


def scene(*layers: Layer) -> Scene:
    """A world of particles: the start square [-1, 1]^2 and what is around it, below the layers."""
    start = Box((-1.0, -1.0), (1.0, 1.0), spacing=0.5)
    return Scene((-VIEW, -VIEW), (VIEW, VIEW), (start, *layers))


def view(state: State) -> dict[str, jax.Array]:
    """What wants to be seen of a world."""
    return {
        "position": state.position,
        "velocity": state.velocity,
        "landmark": state.landmark,
    }


def reset(key: jax.Array, num_agents: int, num_landmarks: int) -> State:
    """Agents at rest and landmarks, all uniform in [-1, 1]^2."""
    shape = (num_agents + num_landmarks, 2)
    places = jax.random.uniform(key, shape, jnp.float32, minval=-1.0, maxval=1.0)
    return State(
        position=places[:num_agents],
        velocity=jnp.zeros((num_agents, 2), jnp.float32),
        landmark=places[num_agents:],
        time=jnp.int32(0),
    )


def length(vector: jax.Array) -> jax.Array:
    """Euclidean length over the last axis, [..., 2] -> [...], with a finite gradient at 0."""
    x, y = vector[..., 0], vector[..., 1]
    return jnp.sqrt(jnp.maximum(x * x + y * y, _TINY_LENGTH**2))


def action_force(bodies: Bodies, actions: jax.Array) -> jax.Array:
    """Force [n, 2] of the discrete `actions` [n].

    A body with `accel` is pushed with accel squared: MPE scales the action by it, and again when
    it turns the action into a force.
    """
    gain = np.array([SENSITIVITY if a is None else a * a for a in bodies.accel], np.float32)
    if bodies.mpe2_semantics:
        gain = -gain
    # Comparisons instead of a look-up in a table of directions: a gather would not fuse.
    x = (actions == 1).astype(jnp.float32) - (actions == 2).astype(jnp.float32)
    y = (actions == 3).astype(jnp.float32) - (actions == 4).astype(jnp.float32)
    return jnp.stack([x * gain, y * gain], axis=-1)


def contact_force(bodies: Bodies, position: jax.Array) -> jax.Array:
    """Force [n, 2] by which touching bodies push each other apart.

    f = stiffness · Δ/‖Δ‖ · k·softplus((r_i + r_j − ‖Δ‖)/k), equal and opposite.
    """
    total = [jnp.zeros(2, jnp.float32)] * bodies.count
    for i, j in bodies.contacts:
        delta = position[i] - position[j]
        distance = length(delta)
        depth = (bodies.radius[i] + bodies.radius[j] - distance) / CONTACT_MARGIN
        # softplus that neither overflows for deep contacts nor evaluates exp of large numbers
        softplus = jnp.maximum(depth, 0.0) + jnp.log1p(jnp.exp(-jnp.abs(depth)))
        push = CONTACT_STIFFNESS * CONTACT_MARGIN * softplus / distance * delta
        total[i] = total[i] + push
        total[j] = total[j] - push
    return jnp.stack(total)


def _limit_speed(bodies: Bodies, velocity: jax.Array) -> jax.Array:
    """Shortens velocities [n, 2] above their body's `max_speed`."""
    if all(limit is None for limit in bodies.max_speed):
        return velocity
    limits = np.array([np.inf if m is None else m for m in bodies.max_speed], np.float32)
    speed = length(velocity)
    return velocity * jnp.where(speed > limits, limits / speed, 1.0)[:, None]


def integrate(bodies: Bodies, state: State, force: jax.Array) -> State:
    """One step of damped semi-implicit Euler under `force` [n, 2]; bodies have mass 1."""
    velocity = state.velocity * (1.0 - DAMPING) + force * DT
    velocity = _limit_speed(bodies, velocity)
    if not all(bodies.movable):
        velocity = velocity * np.array(bodies.movable, np.float32)[:, None]
    moving = state.velocity if bodies.mpe2_semantics else velocity
    return state._replace(
        position=state.position + moving * DT, velocity=velocity, time=state.time + 1
    )


def step(bodies: Bodies, state: State, actions: jax.Array) -> State:
    """Moves the world on by `DT` seconds under `actions` [n]."""
    force = action_force(bodies, actions) + contact_force(bodies, state.position)
    return integrate(bodies, state, force)
