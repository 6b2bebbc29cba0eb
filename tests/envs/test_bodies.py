"""The rigid bodies, mechanism by mechanism, against Box2D.

One world of three bodies, of which two are hinged; every scene is a lane of the same compiled step.
Without contacts both do the same arithmetic, so they agree to rounding. With contacts the order of
constraints and the number of iterations differ: places may differ by a fraction of the slop of
0.005 that contacts have anyway. In the last scene a loose leg rattles between ground and limit,
which multiplies such a difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.envs.rigid import bodies
from mamt_jax.envs.rigid.joints import Joints
from mamt_jax.envs.rigid.rays import ray_to_edge, ray_to_polygon
from mamt_jax.envs.rigid.world import Motion, World
from mamt_jax.envs.walkers.parts import box

SHAPES = (box(0.5, 0.2, 5.0, 0.8), box(0.1, 0.4, 1.0), box(1.0, 0.1, 1.0, 0.5))
GRIP = 2.5
WORLD = World(
    SHAPES,
    joints=(Joints(0, 1, 1, (0.6, 0.0), (0.0, 0.4), -0.8, 1.1),),
    meetings=((2, 0),),
    grounded=(0, 3),
    ground_friction=GRIP,
)
FAR = (0.0, 50.0, 0.0, 0.0, 0.0, 0.0)
STEPS = 50


@dataclass(frozen=True)
class Case:
    """Places with velocities (x, y, angle, vx, vy, spin), motor (speed, torque), ground."""

    name: str
    arm: tuple[float, ...]  # of body 0; body 1 hangs on it
    plank: tuple[float, ...] = FAR
    hang: float = 0.0  # angle of body 1
    motor: tuple[float, float] = (0.0, 0.0)
    slope: float = 0.0
    tolerance: float = 1e-3


CASES = (
    Case("fall and spin, a chain under gravity", (0.0, 60.0, 0.3, 1.0, 2.0, 3.0), tolerance=2e-3),
    Case("motor against its torque", (0.0, 60.0, 0.0, 0.0, 0.0, 0.0), motor=(4.0, 0.5)),
    Case("motor against the upper limit", (0.0, 60.0, 0.0, 0.0, 0.0, 0.0), motor=(4.0, 80.0)),
    Case("motor against the lower limit", (0.0, 60.0, 0.0, 0.0, 0.0, 0.0), motor=(-4.0, 80.0)),
    Case("rest on flat ground", (0.0, 60.0, 0, 0, 0, 0), (0.0, 0.119, 0.0, 0.0, 0.0, 0.0)),
    Case("slide on flat ground", (0.0, 60.0, 0, 0, 0, 0), (-0.5, 0.119, 0.0, 2.0, 0.0, 0.0)),
    Case("fall on flat ground", (0.0, 60.0, 0, 0, 0, 0), (0.0, 0.8, 0.2, 0.0, -2.0, 0.0),
         tolerance=3e-3),
    Case("hold on a slope", (0.0, 60.0, 0, 0, 0, 0), (0.0, 0.13, 0.4, 0, 0, 0), slope=0.4),
    Case("slide down a slope", (0.0, 60.0, 0, 0, 0, 0), (0.5, 0.16, 0.9, 0, 0, 0), slope=0.9),
    Case("a plank on a body on the ground", (0.0, 0.22, 0, 0, 0, 0), (0.1, 0.53, 0, 0, 0, 0),
         hang=1.0, tolerance=2e-2),
)  # fmt: skip


def start(case: Case) -> np.ndarray:
    """Places and velocities of the three bodies, [3, 6]."""
    x, y, angle, vx, vy, spin = case.arm
    cos, sin = np.cos(angle), np.sin(angle)
    joint = np.array([x + 0.6 * cos, y + 0.6 * sin])
    turned = angle + case.hang
    leg = joint + 0.4 * np.array([np.sin(turned), -np.cos(turned)])
    at = joint - (x, y)
    v = np.array([vx - spin * at[1], vy + spin * at[0]])
    at = leg - joint
    v = v + spin * np.array([-at[1], at[0]])
    return np.array([case.arm, (*leg, turned, *v, spin), case.plank])


def ground(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """Points of four edges."""
    x = np.linspace(-6.0, 6.0, 5)
    return x * np.cos(case.slope), x * np.sin(case.slope)


def theirs(case: Case) -> np.ndarray:
    """Motion in Box2D, [STEPS, 3, 6]."""
    b2 = pytest.importorskip("Box2D").b2
    world = b2.world(gravity=(0, -10), doSleep=False)
    points = list(zip(*ground(case), strict=True))
    for ends in zip(points[:-1], points[1:], strict=True):
        edge = b2.edgeShape(vertices=ends)
        world.CreateStaticBody(fixtures=b2.fixtureDef(shape=edge, friction=GRIP))
    made = []
    for shape, (x, y, angle, vx, vy, spin) in zip(SHAPES, start(case), strict=True):
        polygon = b2.polygonShape(vertices=list(shape.corners))
        fixture = b2.fixtureDef(shape=polygon, density=shape.density, friction=shape.friction)
        body = world.CreateDynamicBody(position=(x, y), angle=angle, fixtures=fixture)
        body.linearVelocity, body.angularVelocity = (vx, vy), spin
        made.append(body)
    hinge = b2.revoluteJointDef(
        bodyA=made[0], bodyB=made[1], localAnchorA=(0.6, 0), localAnchorB=(0, 0.4),
        enableMotor=True, enableLimit=True, maxMotorTorque=case.motor[1],
        motorSpeed=case.motor[0], lowerAngle=-0.8, upperAngle=1.1,
    )  # fmt: skip
    hinge.referenceAngle = 0.0
    world.CreateJoint(hinge)
    seen = []
    for _ in range(STEPS):
        world.Step(0.02, 180, 60)
        seen.append([(*b.worldCenter, b.angle, *b.linearVelocity, b.angularVelocity) for b in made])
    return np.array(seen)


@pytest.fixture(scope="module")
def ours() -> np.ndarray:
    """Motion of all cases, [STEPS, 3, 6, cases]."""
    first = jnp.asarray(np.stack([start(case) for case in CASES], axis=-1), jnp.float32)
    points = np.stack([np.stack(ground(case)) for case in CASES], axis=-1)  # [2, 5, cases]
    x, y = (np.repeat(part[:, None], 3, axis=1).astype(np.float32) for part in points)
    ends = tuple(map(jnp.asarray, (x[:-1], y[:-1], x[1:], y[1:])))
    edge = jnp.broadcast_to(jnp.arange(4, dtype=jnp.int32)[:, None, None], ends[0].shape)
    motor = np.array([case.motor for case in CASES], np.float32).T[:, None]
    step = partial(bodies.step, WORLD)

    def body(carry: Any, _: None) -> Any:
        motion, impulses = carry
        motion, impulses, _ = step(motion, impulses, [tuple(motor)], 0.0, (ends, edge))
        return (motion, impulses), jnp.stack(motion, axis=1)

    begin = Motion(*first.swapaxes(0, 1)), bodies.no_impulses(WORLD, len(CASES))
    return np.asarray(jax.jit(lambda c: jax.lax.scan(body, c, length=STEPS))(begin)[1])


@pytest.mark.parametrize("number", range(len(CASES)), ids=[case.name for case in CASES])
def test_bodies_move_as_in_box2d(number: int, ours: np.ndarray) -> None:
    case = CASES[number]
    expected, found = theirs(case), ours[..., number]
    moved = np.abs(expected[-1, :, :3] - expected[0, :, :3]).max()
    assert moved > 0.01
    np.testing.assert_allclose(found[..., :3], expected[..., :3], atol=case.tolerance, rtol=2e-5)


def test_rays_go_as_far_as_in_box2d() -> None:
    b2 = pytest.importorskip("Box2D").b2
    world, random = b2.world(), np.random.default_rng(0)
    shape = SHAPES[0]
    polygon = b2.polygonShape(vertices=list(shape.corners))
    body = world.CreateDynamicBody(
        position=(0.3, 1.0), angle=0.4, fixtures=b2.fixtureDef(shape=polygon)
    )
    world.CreateStaticBody(fixtures=b2.fixtureDef(shape=b2.edgeShape(vertices=[(-2, 0), (2, 0.3)])))
    start_at = random.uniform(-2, 2, (200, 2)) + (0.0, 1.5)
    end_at = start_at + random.uniform(-3, 3, (200, 2))

    class Nearest(b2.rayCastCallback):
        fraction = 1.0

        def ReportFixture(self, fixture: Any, point: Any, normal: Any, fraction: float) -> float:  # noqa: N802
            self.fraction = fraction
            return fraction

    expected = []
    for a, b in zip(start_at, end_at, strict=True):
        ray = Nearest()
        world.RayCast(ray, tuple(a), tuple(b))
        expected.append(ray.fraction)
    still = Motion(*(jnp.full((3, 1), value, jnp.float32) for value in (0.3, 1.0, 0.4, 0, 0, 0)))
    shown = WORLD.placed(still.pose).of(0)
    x, y = start_at.T.astype(np.float32)
    dx, dy = (end_at - start_at).T.astype(np.float32)
    edge = tuple(np.float32(value) for value in (-2, 0, 2, 0.3))
    found = jnp.minimum(ray_to_polygon(shown, x, y, dx, dy), ray_to_edge(edge, x, y, dx, dy))
    assert 20 < np.sum(np.array(expected) < 1) < 180
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert body.awake
