"""Multi-Walker: bipedal robots carry a package together over uneven ground, in JAX.

The rules are those of PettingZoo's `multiwalker_v9` (SISL; Gupta et al., 2017), whose bodies move
in Box2D; here they move in `mamt_jax.envs.rigid.bodies`.

Shape legend: n walkers, O numbers of an observation, L points of the ground.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.base import EnvSpec, Field, TimeStep, check_flag
from mamt_jax.envs.drawing import Frame
from mamt_jax.envs.rigid import bodies
from mamt_jax.envs.rigid.joints import Joints
from mamt_jax.envs.rigid.lanes import lanes
from mamt_jax.envs.rigid.polygons import Shape
from mamt_jax.envs.rigid.world import Motion, World
from mamt_jax.envs.scene import Scene
from mamt_jax.envs.walkers import pictures
from mamt_jax.envs.walkers.options import NUM_JOINTS, Walkers, torques
from mamt_jax.envs.walkers.parts import (
    APART,
    END,
    FIRST_PUSH,
    FPS,
    GRIP,
    GROUND,
    HIP,
    HULL,
    HULL_EDGES,
    LEG,
    LEG_EDGES,
    LOWER,
    PAD,
    RAYS,
    STRIDE,
    TILT,
    UNIT,
    UPPER,
    WalkerState,
    box,
)
from mamt_jax.envs.walkers.rules import advance, carried
from mamt_jax.envs.walkers.senses import observe


@dataclass(frozen=True)
class MultiWalker(Walkers):
    """Walkers are paid for carrying a package forward, and for keeping their hulls level.

    A walker has four motors. An action in 0..15 moves each torque by 0.2 up or down from where it
    was, see `mamt_jax.envs.walkers.options.torques`; all are 0 at the start. A walker falls when
    its hull touches anything but the package; when the package touches anything but a hull, the
    episode is over. It is truncated after `max_cycles` steps, and terminates when the package is at
    the end of the ground.

    An observation has, of the walker itself: angle and turning of the hull, its velocity (2), for
    each leg the angles and speeds of hip and knee and whether it touches, and how far ten rays go
    before they meet ground, a leg (its own, too) or another hull; then the places of both
    neighbours and of the package against its own, in lengths of the package, and the package's
    angle, all with noise.

    Attributes:
      continuous: torques in [-1, 1] [n, 4] in place of actions, for users of the environment;
        algorithms choose among actions.
    """

    name: ClassVar[str] = "multiwalker"
    summary: ClassVar[str] = "Multi-Walker: bipedal robots carry a package over uneven ground."

    continuous: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_flag(self.name, "continuous", self.continuous)

    @property
    def spec(self) -> EnvSpec:
        """Static description."""
        n = self.n_walkers
        return EnvSpec(
            name=self.name,
            num_agents=n,
            obs_sizes=(14 + RAYS + 7,) * n,
            action_counts=(0 if self.continuous else 2**NUM_JOINTS,) * n,
            episode_length=self.max_cycles,
            summary=self.summary,
            agents_may_leave=not self.terminate_on_fall,
            agents=tuple(f"walker_{i}" for i in range(n)),
        )

    @property
    def package(self) -> Shape:
        """Long enough to lie on all walkers."""
        return box(120 * UNIT * self.n_walkers / 1.75, 5 * UNIT, 1.0, 0.5)

    @property
    def package_length(self) -> float:
        """In m."""
        return 240 * UNIT * self.n_walkers / 1.75

    @property
    def stays(self) -> bool:
        """Whether the bodies of fallen walkers lie about while others go on."""
        return not (self.terminate_on_fall or self.remove_on_fall)

    @cached_property
    def world(self) -> World:
        """Bodies, joints, and what may touch what."""
        n = self.n_walkers
        hip, knee = (0.0, HIP), (0.0, -LEG / 2)
        top, package = (0.0, LEG / 2), 5 * n
        return World(
            shapes=(HULL,) * n + (UPPER,) * 2 * n + (LOWER,) * 2 * n + (self.package,),
            # In Box2D's order, which tells while bodies are far from their joints, as at the start.
            # The angle of a hip counts from where it starts.
            joints=(
                Joints(2 * n, 4 * n, n, knee, top, -1.6, -0.1),
                Joints(0, 2 * n, n, hip, top, -0.8 + TILT, 1.1 + TILT),
                Joints(0, n, n, hip, top, -0.8 - TILT, 1.1 - TILT),
                Joints(n, 3 * n, n, knee, top, -1.6, -0.1),
            ),
            meetings=tuple((package, i) for i in range(n)),
            grounded=(0, 5 * n) if self.stays else (n, 4 * n),
            ground_friction=GRIP,
            dt=1.0 / FPS,
        )

    @property
    def edges(self) -> int:
        """Edges of the ground that a body may touch."""
        return HULL_EDGES if self.stays else LEG_EDGES

    def reset(self, key: jax.Array) -> tuple[WalkerState, jax.Array]:
        """Starts an episode: (state, obs [n, O])."""
        return _reset(self, key)

    def step(self, key: jax.Array, state: WalkerState, actions: jax.Array) -> TimeStep:
        """Moves all walkers once; `actions` is [n], or with `continuous` [n, 4]."""
        return _step(self, key, state, actions)

    @property
    def view_fields(self) -> Mapping[str, Field]:
        """Layout of what `view` returns."""
        return pictures.FIELDS

    def view(self, state: WalkerState) -> dict[str, jax.Array]:
        """What wants to be seen of a state."""
        return pictures.view(self, state)

    @property
    def scene(self) -> Scene:
        """How the view is drawn."""
        return pictures.scene(self)

    def render(self, state: WalkerState) -> Frame:
        """Picture of a state, uint8 [H, W, 3]."""
        return pictures.render(self, state)

    def draw_ground(self, key: jax.Array) -> jax.Array:
        """Heights [L]: a walk whose steps change smoothly, with level places, after flat ground."""
        count_key, slope_key = jax.random.split(key)
        length = self.terrain_length
        gaps = jax.random.randint(count_key, (length // (END // 2) + 1,), END // 2, END, jnp.int32)
        level_at = PAD + jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(gaps)])
        index = jnp.arange(length, dtype=jnp.int32)
        level = jnp.zeros(length, bool).at[level_at].set(True, mode="drop")
        slope = jax.random.uniform(slope_key, (length,), jnp.float32, -UNIT, UNIT)
        slope = jnp.where(index > PAD, slope, 0.0)

        def point(carry: Any, drawn: Any) -> Any:
            y, rise = carry
            slope, level = drawn
            new = 0.8 * rise + 0.01 * jnp.sign(GROUND - y) + slope
            rise = jnp.where(level, rise, new)
            y = jnp.where(level, y, y + new)
            return (y, rise), y

        begin = jnp.float32(GROUND), jnp.float32(0.0)
        return jax.lax.scan(point, begin, (slope, level))[1]

    @cached_property
    def _start(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places (of the centres of mass) and angles of all bodies at the start, each [5n + 1]."""
        n, y = self.n_walkers, GROUND + 2 * LEG
        first = STRIDE * PAD / 2
        x = first + APART * STRIDE * np.arange(n)
        upper, lower = y - LEG / 2 - HIP, y - LEG * 3 / 2 - HIP
        places = [(x + HULL.centre[0], y + HULL.centre[1], 0.0)]
        places += [(x, height, side * TILT) for height in (upper, lower) for side in (-1, 1)]
        rows = [np.broadcast_arrays(px, py, angle) for px, py, angle in places]
        rows.append((np.array([x.mean()]), np.array([GROUND + 3 * LEG]), np.array([0.0])))
        px, py, angle = (
            np.concatenate(part).astype(np.float32) for part in zip(*rows, strict=True)
        )
        return px, py, angle


@partial(jax.jit, static_argnums=0)
def _reset(env: MultiWalker, key: jax.Array) -> tuple[WalkerState, jax.Array]:
    ground_key, push_key, noise_key = jax.random.split(key, 3)
    n, k = env.n_walkers, env.world.grounded[1]
    x, y, angle = map(jnp.asarray, env._start)
    still = jnp.zeros_like(x)
    impulses = bodies.no_impulses(env.world)
    state = WalkerState(
        motion=Motion(x, y, angle, still, still, still),
        impulses=impulses,
        ground=env.draw_ground(ground_key),
        torque=jnp.zeros((n, NUM_JOINTS), jnp.float32),
        edge=jnp.full((env.edges, k), -1, jnp.int32),
        touching=jnp.zeros((env.edges, k), bool),
        contact=jnp.zeros((n, 2), bool),
        # One draw for all: PettingZoo gives every walker the same seed.
        push=jax.random.uniform(push_key, (), jnp.float32, -FIRST_PUSH, FIRST_PUSH),
        fallen=jnp.zeros(n, bool),
        gone=jnp.zeros(n, bool),
        upright=jnp.zeros(n, jnp.float32),
        carried=carried(env, x[-1]),
        time=jnp.int32(0),
    )
    return state, lanes(partial(observe, env))(state, _noise(env, noise_key))


def _noise(env: MultiWalker, key: jax.Array) -> jax.Array:
    """On what is seen of others, [n, 7]."""
    scale = np.array([env.position_noise] * 6 + [env.angle_noise], np.float32)
    return jnp.asarray(scale) * jax.random.normal(key, (env.n_walkers, 7), jnp.float32)


@partial(jax.jit, static_argnums=0)
def _step(env: MultiWalker, key: jax.Array, state: WalkerState, actions: jax.Array) -> TimeStep:
    if env.continuous:
        torque = jnp.clip(actions.astype(jnp.float32), -1.0, 1.0)
    else:
        torque = torques(actions.astype(jnp.int32), state.torque)
    state = state._replace(torque=torque)
    state, obs, reward, done, over = lanes(partial(advance, env))(state, _noise(env, key))
    truncated = state.time >= env.max_cycles
    if env.terminate_on_fall:
        return TimeStep(state, obs, reward, over, truncated)
    return TimeStep(state, obs, reward, done, truncated, ~state.fallen)
