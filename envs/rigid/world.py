"""Bodies, how they move, and what may touch what.

Units are m, kg, s and rad.

Shape legend: F faces of a polygon, B bodies, k those that are treated alike, P pairs of
neighbours, E environments.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.rigid.contacts import Masses
from mamt_jax.envs.rigid.joints import Joints
from mamt_jax.envs.rigid.polygons import Faces, Pose, Shape, faces, placed

Array = Any


class Motion(NamedTuple):
    """Where bodies are and how they move; each [B, E]."""

    x: Array  # of the centre of mass
    y: Array
    angle: Array
    vx: Array
    vy: Array
    spin: Array

    @property
    def pose(self) -> Pose:
        """Where bodies are."""
        return Pose(self.x, self.y, self.angle, jnp.cos(self.angle), jnp.sin(self.angle))


@dataclass(frozen=True)
class World:
    """What there is and what may touch what.

    Attributes:
      shapes: of the B bodies.
      joints: groups that are solved one after another.
      meetings: pairs of bodies that may touch, solved one after another.
      grounded: first and number of the bodies that may touch the ground.
      ground_friction: as a `Shape`'s.
      restitution: of all contacts: share of a speed above 1 that remains.
      gravity: along y.
      dt: of a step.
      iterations: of the impulses.
      corrections: of positions, at most.
      impacts: stops that a body may make on the ground within a step, and iterations of each.
    """

    shapes: tuple[Shape, ...]
    joints: tuple[Joints, ...] = ()
    meetings: tuple[tuple[int, int], ...] = ()
    grounded: tuple[int, int] = (0, 0)
    ground_friction: float = 0.2
    restitution: float = 0.0
    gravity: float = -10.0
    dt: float = 0.02
    iterations: int = 60
    corrections: int = 60
    impacts: tuple[int, int] = (2, 15)

    @cached_property
    def faces(self) -> Faces:
        """About the centres of mass, [F, B, 1]."""
        return faces(self.shapes)

    @cached_property
    def inverse(self) -> tuple[Array, Array]:
        """Inverse masses and inertias, float32 [B, 1]."""
        of = [(1.0 / shape.mass, 1.0 / shape.inertia) for shape in self.shapes]
        mass, inertia = np.array(of, np.float32).T[..., None]
        return mass, inertia

    def placed(self, at: Pose) -> Faces:
        """Faces of all bodies, [F, B, E]."""
        return placed(self.faces, at)

    def masses(self, a: int, b: int, count: int = 1) -> Masses:
        """Of two groups of bodies."""
        mass, inertia = self.inverse
        one, other = slice(a, a + count), slice(b, b + count)
        return Masses(mass[one], inertia[one], mass[other], inertia[other])

    @cached_property
    def ground_masses(self) -> Masses:
        """Of the ground and the bodies that may touch it."""
        first, count = self.grounded
        return self.masses(first, first, count)._replace(ma=0.0, ia=0.0)

    @cached_property
    def pair_masses(self) -> Masses:
        """Of all pairs that may meet."""
        each = [self.masses(a, b) for a, b in self.meetings] or [self.masses(0, 0, 0)]
        return Masses(*(np.concatenate(part) for part in zip(*each, strict=True)))

    @cached_property
    def pair_friction(self) -> Array:
        """Of all pairs that may meet, float32 [P, 1]."""
        of = [self.shapes[a].friction * self.shapes[b].friction for a, b in self.meetings]
        return np.sqrt(np.array(of, np.float32))[:, None]

    @cached_property
    def ground_grip(self) -> Array:
        """Friction of these bodies on the ground, float32 [k, 1]."""
        first, count = self.grounded
        of = [shape.friction for shape in self.shapes[first : first + count]]
        return np.sqrt(np.array(of, np.float32) * np.float32(self.ground_friction))[:, None]

    @cached_property
    def islands(self) -> Array:
        """Of each body, the number of what is joined to it, int [B]."""
        island = np.arange(len(self.shapes))
        for joint in self.joints:
            for a, b in zip(
                range(joint.a, joint.a + joint.count),
                range(joint.b, joint.b + joint.count),
                strict=True,
            ):
                island[island == island[b]] = island[a]
        return np.unique(island, return_inverse=True)[1]

    def arms(self, joint: Joints) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        """From the centres of the bodies to a joint, in their frames."""
        sides = ((joint.anchor_a, self.shapes[joint.a]), (joint.anchor_b, self.shapes[joint.b]))
        (ax, ay), (bx, by) = (
            (p[0] - shape.centre[0], p[1] - shape.centre[1]) for p, shape in sides
        )
        return (ax, ay), (bx, by)
