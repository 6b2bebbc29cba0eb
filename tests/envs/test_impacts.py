"""When a body hits the ground within a step, against Box2D, and both points of a face at once."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.envs.rigid import contacts
from mamt_jax.envs.rigid.contacts import Both, Contact
from mamt_jax.envs.rigid.impacts import TOLERANCE, Flight, time_of_impact
from mamt_jax.envs.rigid.polygons import Pose, faces
from mamt_jax.envs.walkers.parts import LOWER

E = 200


def pose(x: Any, y: Any, angle: Any) -> Pose:
    rows = [np.asarray(part, np.float32)[None] for part in (x, y, angle)]
    return Pose(*map(jnp.asarray, (*rows, np.cos(rows[2]), np.sin(rows[2]))))


def test_bodies_are_stopped_when_they_are_in_box2d() -> None:
    """Legs that fall and turn on an edge; also past it, beside it, and from within its reach.

    Times agree where both follow the same corner. Elsewhere (a leg beside the end of the edge,
    where Box2D measures from corner to corner) they may find a different moment within the
    tolerance, or an earlier one.
    """
    box2d = pytest.importorskip("Box2D")
    draw = np.random.default_rng(0)
    x, y, angle = draw.uniform(-1.2, 1.2, E), draw.uniform(0.4, 1.3, E), draw.uniform(-0.8, 0.8, E)
    dx, dy, turn = (
        draw.uniform(-0.4, 0.4, E),
        draw.uniform(-0.8, 0.1, E),
        draw.uniform(-0.5, 0.5, E),
    )
    ends = (-0.8, 0.0, 0.7, 0.2)
    leg = box2d.b2PolygonShape(vertices=list(LOWER.corners))
    edge = box2d.b2EdgeShape(vertices=[ends[:2], ends[2:]])
    still = box2d.b2Sweep(localCenter=(0, 0), c0=(0, 0), c=(0, 0), a0=0, a=0, alpha0=0)
    expected = []
    for i in range(E):
        start, end = (x[i], y[i]), (x[i] + dx[i], y[i] + dy[i])
        sweep = box2d.b2Sweep(
            localCenter=(0, 0), c0=start, c=end, a0=angle[i], a=angle[i] + turn[i], alpha0=0
        )
        state, share = box2d.b2TimeOfImpact(
            shapeA=edge, shapeB=leg, sweepA=still, sweepB=sweep, tMax=1.0
        )
        expected.append(share if state == box2d.b2TOIOutput.e_touching else 2.0)
    flight = Flight(
        pose(x, y, angle), pose(x + dx, y + dy, angle + turn), (0.0, 0.0, 0.0), jnp.zeros((1, E))
    )
    wide = tuple(jnp.full((1, 1, E), part, jnp.float32) for part in ends)
    found = np.asarray(jax.jit(lambda: time_of_impact(faces((LOWER,)), flight, wide))())[0, 0]
    hit, stopped = np.array(expected) < 1, found < 1
    assert 40 < hit.sum() < 160
    assert (hit == stopped).mean() > 0.97
    apart = np.abs(found - expected)[hit & stopped] * np.hypot(dx, dy)[hit & stopped]
    assert np.quantile(apart, 0.8) < 1e-5 and apart.max() < 2 * TOLERANCE


def test_both_points_of_a_face_are_solved_at_once() -> None:
    """The impulses of a linear complementarity problem: none pulls, none lets a point approach."""
    draw = np.random.default_rng(1)
    arms = draw.normal(size=(2, 500))
    matrix = 1.0 + 0.5 * arms[:, None] * arms[None]  # as of a body of mass 1 and inertia 2
    matrix[[0, 1], [0, 1]] += 0.05
    k11, k12, k22 = matrix[0, 0], matrix[0, 1], matrix[1, 1]
    det = k11 * k22 - k12 * k12
    both = Both(*(part[None] for part in (k12, k22, k22 / det, -k12 / det, k11 / det)))
    contact = Contact(*[None] * 6, np.stack([1 / k11, 1 / k22]), *[None] * 3, both)  # type: ignore[arg-type]
    old, speeds = np.abs(draw.normal(size=(2, 500))), draw.normal(size=(2, 500))
    new = np.array(contacts._both_normals(contact, list(old), list(speeds)))
    after = speeds + np.einsum("ije,je->ie", matrix, new - old)
    assert new.min() >= 0 and after.min() > -1e-4
    np.testing.assert_allclose(new * after, 0.0, atol=1e-4)
    kinds = {tuple(row) for row in (new > 0).T.tolist()}
    assert len(kinds) == 4  # both, either, none
