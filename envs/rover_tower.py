"""Rover-Tower: towers guide rovers, which cannot see their goals, by messages.

The environment of Iqbal & Sha (2019), "Actor-Attention-Critic for Multi-Agent Reinforcement
Learning", as used by Li et al., ICLR 2022, Appendix D.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs import drawing, particles
from mamt_jax.envs.base import EnvSpec, Field, TimeStep, check_at_least
from mamt_jax.envs.particles import Bodies
from mamt_jax.envs.scene import At, Links, Marks, Scene, Symbols

NUM_PAIRS = 4  # rovers are agents 0 to 3, towers agents 4 to 7
NUM_LANDMARKS = 6
NUM_MESSAGES = particles.NUM_ACTIONS  # the symbols of a tower; a rover has as many moves
AGENT_RADIUS = 0.075
LANDMARK_RADIUS = 0.04
ROVER_ACCEL = 1.5
ROVER_MAX_SPEED = 1.0  # lengths a second
BONUS = 10.0  # paid in every step that ends near the goal
# Compared with the *squared* distance, as the released environment does: a rover is near its goal
# within a distance of 0.415.
BONUS_SQUARED_DISTANCE = 1.5 * (AGENT_RADIUS + LANDMARK_RADIUS)
_BONUS_DISTANCE = BONUS_SQUARED_DISTANCE**0.5
_UNUSED: drawing.Colour = (170, 172, 176)  # of landmarks that are nobody's goal

_ROVER_OBS_SIZE = NUM_PAIRS + NUM_MESSAGES + 4
_TOWER_OBS_SIZE = NUM_PAIRS + 4
_SILENCE = -1
_MESSAGES = tuple(f"says {symbol}" for symbol in range(NUM_MESSAGES))

_BODIES = Bodies(
    radius=(AGENT_RADIUS,) * (2 * NUM_PAIRS),
    accel=(ROVER_ACCEL,) * NUM_PAIRS + (None,) * NUM_PAIRS,
    max_speed=(ROVER_MAX_SPEED,) * NUM_PAIRS + (None,) * NUM_PAIRS,
    movable=(True,) * NUM_PAIRS + (False,) * NUM_PAIRS,
    contacts=(),
)


class RoverTowerState(NamedTuple):
    """State of a world; pairs are numbered by their rover."""

    physics: particles.State  # 8 agents, 6 landmarks
    tower_of: jax.Array  # [4] int32, tower 0 to 3 (agent 4 to 7) of each rover
    goal: jax.Array  # [4] int32, landmark of each rover
    message: jax.Array  # [4] int32, last symbol of each *tower*, -1 before the first

    @property
    def time(self) -> jax.Array:
        """Steps since the reset, [] int32."""
        return self.physics.time


def _one_hot(index: jax.Array, size: int) -> jax.Array:
    """One-hot rows [4, size] of `index` [4]; a row of zeros where the index is negative."""
    return (index[:, None] == jnp.arange(size)).astype(jnp.float32)


def _rover_of(tower_of: jax.Array) -> jax.Array:
    """Rover of each tower, [4]: the inverse of the permutation `tower_of` [4]."""
    # Not argsort, with which a whole step takes about twice as long on the CPU.
    return jnp.argmax(tower_of[:, None] == jnp.arange(NUM_PAIRS), axis=0)


def observe(state: RoverTowerState) -> jax.Array:
    """Observations [8, 13].

    A rover sees which tower is its own (one-hot, 4), that tower's last message (one-hot, 5; zeros
    before the first), its own position and its own velocity: 13. A tower sees which rover is its
    own (one-hot, 4), that rover's position and the position of the pair's goal: 8, padded with
    zeros to 13. Positions are absolute.
    """
    physics, rover_of = state.physics, _rover_of(state.tower_of)
    rovers = [
        _one_hot(state.tower_of, NUM_PAIRS),
        _one_hot(state.message[state.tower_of], NUM_MESSAGES),
        physics.position[:NUM_PAIRS],
        physics.velocity[:NUM_PAIRS],
    ]
    towers = [
        _one_hot(rover_of, NUM_PAIRS),
        physics.position[rover_of],
        physics.landmark[state.goal[rover_of]],
        jnp.zeros((NUM_PAIRS, _ROVER_OBS_SIZE - _TOWER_OBS_SIZE), jnp.float32),
    ]
    return jnp.concatenate([jnp.concatenate(rovers, axis=1), jnp.concatenate(towers, axis=1)])


def rewards(state: RoverTowerState) -> jax.Array:
    """Rewards [8] for having arrived in `state`; rover and tower of a pair are paid the same.

    −d² + 10·[d² < 1.5·(r_agent + r_landmark)], d the distance of the rover to its goal.
    """
    gap = state.physics.position[:NUM_PAIRS] - state.physics.landmark[state.goal]
    squared = (gap * gap).sum(axis=1)
    arrived = (squared < BONUS_SQUARED_DISTANCE).astype(jnp.float32)
    of_rovers = BONUS * arrived - squared
    return jnp.concatenate([of_rovers, of_rovers[_rover_of(state.tower_of)]])


@dataclass(frozen=True)
class RoverTower:
    """Four blind rovers, each guided to its landmark by the messages of one of four towers.

    The action of a rover is its push (nothing, +x, −x, +y, −y), the action of a tower the symbol
    that its rover reads before acting at the next step. A reset pairs rovers and towers by a
    random permutation and draws a landmark for every pair, independently, so that pairs may share
    one. Nothing collides.

    Attributes:
      episode_length: steps until truncation.
    """

    name: ClassVar[str] = "rover_tower"
    summary: ClassVar[str] = "Rover-Tower: 4 towers guide 4 rovers to their goals by messages."

    episode_length: int = 25

    def __post_init__(self) -> None:
        check_at_least("rover_tower", "episode_length", self.episode_length, 1)

    @property
    def bodies(self) -> Bodies:
        """Physical properties of the agents, rovers first."""
        return _BODIES

    @property
    def spec(self) -> EnvSpec:
        """Static description."""
        return EnvSpec(
            name=self.name,
            num_agents=2 * NUM_PAIRS,
            obs_sizes=(_ROVER_OBS_SIZE,) * NUM_PAIRS + (_TOWER_OBS_SIZE,) * NUM_PAIRS,
            action_counts=(particles.NUM_ACTIONS,) * NUM_PAIRS + (NUM_MESSAGES,) * NUM_PAIRS,
            episode_length=self.episode_length,
            summary=self.summary,
            action_names=(particles.action_names(),) * NUM_PAIRS + (_MESSAGES,) * NUM_PAIRS,
        )

    def reset(self, key: jax.Array) -> tuple[RoverTowerState, jax.Array]:
        """Starts an episode: (state, obs [8, 13])."""
        place_key, pair_key, goal_key = jax.random.split(key, 3)
        state = RoverTowerState(
            physics=particles.reset(place_key, 2 * NUM_PAIRS, NUM_LANDMARKS),
            tower_of=jax.random.permutation(pair_key, jnp.arange(NUM_PAIRS, dtype=jnp.int32)),
            goal=jax.random.randint(goal_key, (NUM_PAIRS,), 0, NUM_LANDMARKS, jnp.int32),
            message=jnp.full(NUM_PAIRS, _SILENCE, jnp.int32),
        )
        return state, observe(state)

    def step(self, key: jax.Array, state: RoverTowerState, actions: jax.Array) -> TimeStep:
        """Moves the rovers and lets the towers speak by `actions` [8]; draws nothing."""
        del key
        state = state._replace(
            physics=particles.step(_BODIES, state.physics, actions),
            message=actions[NUM_PAIRS:].astype(jnp.int32),
        )
        return TimeStep(
            state=state,
            obs=observe(state),
            reward=rewards(state),
            terminated=jnp.bool_(False),
            truncated=state.time >= self.episode_length,
        )

    @property
    def view_fields(self) -> dict[str, Field]:
        """Layout of what `view` returns; pairs are numbered by their rover."""
        return particles.view_fields(_BODIES) | {
            "tower_of": Field(("pair",), "1", "tower of each rover, 0 to 3 for agents 4 to 7"),
            "goal": Field(("pair",), "1", "landmark that each rover seeks"),
            "message": Field(("tower",), "1", "last symbol of each tower, -1 before the first"),
        }

    def view(self, state: RoverTowerState) -> dict[str, jax.Array]:
        """What wants to be seen of a state."""
        pairs = {"tower_of": state.tower_of, "goal": state.goal, "message": state.message}
        return particles.view(state.physics) | pairs

    @property
    def scene(self) -> Scene:
        """How the view is drawn, see `render`."""
        rover, goal = At("position", count=NUM_PAIRS), At("landmark", index="goal")
        tower = At("position", first=NUM_PAIRS, index="tower_of")
        return particles.scene(
            Marks(goal, _BONUS_DISTANCE, "ring", name="near the goal; lit: the bonus", near=rover),
            Links(rover, tower, dotted=True, name="a rover's tower"),
            Links(rover, goal, name="a rover's goal"),
            Marks(At("landmark"), LANDMARK_RADIUS, name="landmark; grey: nobody's", owners="goal"),
            Marks(tower, AGENT_RADIUS, "square", name="tower", agents=True, label=True),
            Symbols(tower, At("message", index="tower_of"), 0.75 * AGENT_RADIUS, "its message"),
            Marks(rover, AGENT_RADIUS, name="rover", agents=True, label=True, rim=True),
        )

    def render(self, state: RoverTowerState) -> drawing.Frame:
        """Picture of a state, uint8 [H, W, 3].

        A pair has one colour: its rover a disk, its tower a square with the last message in a small
        disk at its corner, its goal a dot in a ring, which is darker while the rover in it is paid
        the bonus. Rovers and towers have their numbers as agents. Rovers outside of the picture are
        shown at its rim, with an arrow.
        """
        state = jax.device_get(state)
        physics, goal = state.physics, state.goal
        place = np.asarray(physics.position)[:NUM_PAIRS]
        rover = drawing.in_view(place, AGENT_RADIUS)
        tower = np.asarray(physics.position)[NUM_PAIRS:][state.tower_of]
        target = physics.landmark[goal]
        canvas = drawing.plane()
        for i in range(NUM_PAIRS):
            colour = drawing.colour_of(i)
            arrived = np.hypot(*(place[i] - target[i])) < _BONUS_DISTANCE
            alpha = 0.24 if arrived else 0.08
            canvas.disk(target[i], _BONUS_DISTANCE, colour, alpha, drawing.dark(colour), 0.5)
        for i in range(NUM_PAIRS):
            colour = drawing.colour_of(i)
            for end, draw in ((tower[i], canvas.dots), (target[i], canvas.line)):
                draw(drawing.edge_towards(rover[i], end, AGENT_RADIUS), end, colour, 0.8)
        for k, centre in enumerate(physics.landmark):
            seekers = [i for i in range(NUM_PAIRS) if goal[i] == k]
            shades = [drawing.dark(drawing.colour_of(i)) for i in seekers]
            canvas.shared_disk(centre, LANDMARK_RADIUS, shades or [_UNUSED])
        for i in range(NUM_PAIRS):
            _draw_tower(canvas, tower[i], drawing.colour_of(i))
        for i in range(NUM_PAIRS):
            number, shade = int(state.tower_of[i]), drawing.dark(drawing.colour_of(i))
            halo = drawing.light(drawing.colour_of(i))
            canvas.text(tower[i], str(NUM_PAIRS + number), 1.2 * AGENT_RADIUS, halo=halo)
            if state.message[number] != _SILENCE:
                corner = tower[i] + 1.35 * AGENT_RADIUS
                canvas.disk(corner, 0.75 * AGENT_RADIUS, shade)
                canvas.text(corner, str(state.message[number]), AGENT_RADIUS, drawing.WHITE)
        for i in range(NUM_PAIRS):
            colour, shade = drawing.colour_of(i), drawing.dark(drawing.colour_of(i))
            canvas.disk(rover[i], AGENT_RADIUS, colour, 0.65, shade)
            canvas.text(rover[i], str(i), 1.2 * AGENT_RADIUS, halo=drawing.light(colour))
            drawing.point_outside(canvas, rover[i], place[i], AGENT_RADIUS, shade)
        return canvas.array()


def _draw_tower(canvas: drawing.Canvas, centre: np.ndarray, colour: drawing.Colour) -> None:
    low, high = centre - AGENT_RADIUS, centre + AGENT_RADIUS
    canvas.rectangle(low, high, drawing.WHITE)
    canvas.rectangle(low, high, colour, 0.35, drawing.dark(colour), AGENT_RADIUS / 4)
