"""Physics that no registered world shows by itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.envs import particles
from mamt_jax.envs.particles import Bodies, State

MIXED = Bodies(
    radius=(0.075, 0.075, 0.075),
    accel=(1.5, None, 1.5),
    max_speed=(1.0, None, 0.1),
    movable=(True, False, True),
    contacts=(),
)


def resting(position: jax.Array) -> State:
    return State(position, jnp.zeros_like(position), jnp.zeros((1, 2)), jnp.int32(0))


def test_actions_push_along_the_axes() -> None:
    bodies = particles.uniform_bodies(5, 0.15)
    force = particles.action_force(bodies, jnp.arange(5))
    np.testing.assert_array_equal(force, [[0, 0], [5, 0], [-5, 0], [0, 5], [0, -5]])


def test_accel_counts_twice_and_immovable_bodies_stay() -> None:
    """A body of accel 1.5 is pushed by 1.5², at most up to its own speed limit."""
    state = particles.step(MIXED, resting(jnp.ones((3, 2))), jnp.array([1, 1, 4]))
    np.testing.assert_allclose(state.velocity, [[0.225, 0], [0, 0], [0, -0.1]], atol=1e-7)
    np.testing.assert_allclose(state.position, [[1.0225, 1], [1, 1], [1, 0.99]], atol=1e-6)
    assert int(state.time) == 1


def test_speed_limit_keeps_the_direction() -> None:
    state = resting(jnp.zeros((3, 2)))._replace(velocity=jnp.full((3, 2), 4.0))
    after = particles.integrate(MIXED, state, jnp.zeros((3, 2)))
    np.testing.assert_allclose(after.velocity[0], [0.5**0.5] * 2, rtol=1e-6)


@pytest.mark.parametrize("gap", [0.0, 1e-20, 1e-7])
def test_agents_in_the_same_place_stay_finite(gap: float) -> None:
    bodies = particles.uniform_bodies(2, 0.15)
    position = jnp.array([[0.3, -0.2], [0.3 + gap, -0.2]])
    force = particles.contact_force(bodies, position)
    assert jnp.all(jnp.isfinite(force))
    np.testing.assert_array_equal(force[0], -force[1])
    gradient = jax.grad(lambda p: particles.contact_force(bodies, p)[0].sum())(position)
    assert jnp.all(jnp.isfinite(gradient))


def test_contact_is_soft_at_the_surface_and_absent_far_away() -> None:
    bodies = particles.uniform_bodies(2, 0.15)

    def push(distance: float) -> float:
        position = jnp.array([[distance, 0.0], [0.0, 0.0]])
        return float(particles.contact_force(bodies, position)[0, 0])

    assert push(0.3) == pytest.approx(100.0 * 1e-3 * np.log(2.0), rel=1e-3)
    assert push(0.1) == pytest.approx(100.0 * 0.2, rel=1e-4)
    assert push(2.0) == 0.0


def test_worlds_start_uniform_and_at_rest() -> None:
    keys = jax.random.split(jax.random.key(5), 2000)
    state = jax.vmap(lambda key: particles.reset(key, 2, 3))(keys)
    for places in (state.position, state.landmark):
        assert float(jnp.abs(places).max()) <= 1.0
        np.testing.assert_allclose(places.mean(axis=0), 0.0, atol=0.06)  # 4.6 standard errors
        np.testing.assert_allclose(places.var(axis=0), 1.0 / 3.0, atol=0.03)
    # agents and landmarks must not share their randomness
    both = np.concatenate([state.position, state.landmark], axis=1).reshape(2000, -1)
    off_diagonal = np.corrcoef(both.T) - np.eye(both.shape[1])
    assert np.abs(off_diagonal).max() < 0.1
    assert not state.velocity.any() and not state.time.any()
