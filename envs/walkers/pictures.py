"""Pictures of Multi-Walker, for recordings and the page that plays them.

Shape legend: n walkers, 2n legs (left ones first), L points of the ground.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs import drawing
from mamt_jax.envs.base import Field
from mamt_jax.envs.rigid.polygons import Pose, placed
from mamt_jax.envs.scene import INK, PLAIN, At, Links, Marks, Scene
from mamt_jax.envs.walkers.parts import HIP, HULL, LEG, STRIDE, WalkerState

LOW, HIGH = (0.0, 0.5), (24.0, 8.5)
"""What a picture shows: the start, and as much again to walk to."""

FIELDS = {
    "position": Field(("agent", "xy"), "m", "centre of each hull"),
    "hip": Field(("leg", "xy"), "m", "upper end of each leg, all left ones first"),
    "knee": Field(("leg", "xy"), "m", "knee of each leg"),
    "foot": Field(("leg", "xy"), "m", "lower end of each leg"),
    "package": Field(("end", "xy"), "m", "ends of the package"),
    "ground": Field(("point", "xy"), "m", "points of the ground"),
    "walking": Field(("agent",), "1", "whether a walker has not been removed"),
    "centre": Field(("body", "xy"), "m", "of hulls, upper legs, lower legs, package"),
    "angle": Field(("body",), "rad", "of the same"),
}


def view(env: Any, state: WalkerState) -> dict[str, jax.Array]:
    """What wants to be seen of a state."""
    n, motion = env.n_walkers, state.motion
    at = motion.pose
    hull, upper, lower = (
        Pose(*(part[a:b] for part in at)) for a, b in ((0, n), (n, 3 * n), (3 * n, 5 * n))
    )
    half = env.package_length / 2
    ends = [
        Pose(*(part[-1] for part in at)).out(jnp.float32(side * half), jnp.float32(0.0))
        for side in (-1, 1)
    ]
    x = jnp.arange(env.terrain_length, dtype=jnp.float32) * np.float32(STRIDE)

    def points(x: jax.Array, y: jax.Array) -> jax.Array:
        return jnp.stack([x, y], axis=-1)

    return {
        "position": points(hull.x, hull.y),
        "hip": jnp.tile(points(*hull.out(-HULL.centre[0], HIP - HULL.centre[1])), (2, 1)),
        "knee": points(*upper.out(0.0, -LEG / 2)),
        "foot": points(*lower.out(0.0, -LEG / 2)),
        "package": jnp.stack([points(*end) for end in ends]),
        "ground": points(x, state.ground),
        "walking": ~state.gone,
        "centre": points(motion.x, motion.y),
        "angle": motion.angle,
    }


def scene(env: Any) -> Scene:
    """How the view is drawn: bodies as lines and disks."""
    points = env.terrain_length - 1
    ground = Links(At("ground", 0, points), At("ground", 1, points), name="ground")
    package = Links(At("package", 0, 1), At("package", 1, 1), name="package")
    return Scene(
        LOW,
        HIGH,
        (
            *((ground,) if points else ()),
            Links(At("hip"), At("knee"), name="leg"),
            Links(At("knee"), At("foot")),
            Marks(At("foot"), 0.1, colour=PLAIN),
            Marks(At("position"), 0.45, name="hull", agents=True, label=True, rim=True),
            package,
            Marks(At("package"), 0.12, "square", colour=INK),
        ),
    )


def render(env: Any, state: WalkerState) -> drawing.Frame:
    """Picture of a state, uint8 [H, W, 3]; the camera stays at the start."""
    state = jax.device_get(state)
    n, motion = env.n_walkers, state.motion
    at = Pose(motion.x, motion.y, motion.angle, np.cos(motion.angle), np.sin(motion.angle))
    at = Pose(*(part[:, None] for part in at))
    shown = placed(env.world.faces, at)
    canvas = drawing.Canvas(LOW, HIGH, side=960)
    x = STRIDE * np.arange(env.terrain_length)
    soil = [(x[0], LOW[1]), *zip(x, state.ground, strict=True), (x[-1], LOW[1])]
    canvas.polygon(soil, drawing.FAINT, drawing.INK)
    order = [5 * n, *range(n, 5 * n), *range(n)]
    for body in order:
        walker = body % n
        if body < 5 * n and state.gone[walker]:
            continue
        colour = drawing.dark(drawing.FAINT) if body == 5 * n else drawing.colour_of(walker)
        right = 2 * n <= body < 3 * n or body >= 4 * n
        if n <= body < 5 * n:
            colour = drawing.mix(colour, drawing.WHITE, 0.25 if right else 0.5)
        corners = list(zip(shown.x[:, body, 0], shown.y[:, body, 0], strict=True))
        canvas.polygon(corners, colour, drawing.dark(colour))
        if body < n:
            canvas.text((motion.x[body], motion.y[body]), str(walker), 0.4, drawing.WHITE)
    return canvas.array()
