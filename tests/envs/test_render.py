"""Pictures of every registered environment: their form, and that they show the state."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import drawing, pursuit, rover_tower, spread
from tests.envs.native import NATIVE

TABLE: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in NATIVE] + [
    ("spread", {"num_agents": 6}),
    ("pursuit", {"x_size": 9, "y_size": 4, "n_evaders": 2, "n_pursuers": 3, "obs_range": 4}),
    ("pursuit", {"x_size": 40, "y_size": 40}),
    ("toy_matching", {"num_actions": 50}),
]
over_all = pytest.mark.parametrize(
    ("name", "options"), TABLE, ids=[f"{n}-{i}" for i, (n, _) in enumerate(TABLE)]
)


def shows(frame: drawing.Frame, colour: drawing.Colour) -> int:
    """Number of pixels of exactly this colour."""
    return int((frame == np.array(colour)).all(axis=-1).sum())


@over_all
def test_pictures_have_one_form_and_follow_the_state(name: str, options: dict[str, Any]) -> None:
    env = envs.make(name, **options)
    reset = jax.jit(env.reset)
    state, seen = reset(jax.random.key(0))
    actions = jnp.ones(env.spec.num_agents, jnp.int32)
    moved = jax.jit(env.step)(jax.random.key(1), state, actions)
    others = [(moved.state, moved.obs), *map(reset, jax.random.split(jax.random.key(2), 5))]
    first = env.render(state)
    np.testing.assert_array_equal(first, env.render(state))
    assert first.dtype == np.uint8 and first.ndim == 3 and first.shape[2] == 3
    assert max(first.shape[:2]) <= 450 and not any(side % 2 for side in first.shape[:2])
    above = -drawing._STRIP  # the caption tells steps apart whatever is drawn above it
    changes = 0
    for other, obs in others:
        frame = env.render(other)
        assert frame.shape == first.shape
        changed = bool((obs != seen).any())
        assert bool((frame[:above] != first[:above]).any()) == changed
        changes += changed
    assert changes >= 1


def test_importing_environments_does_not_load_pillow() -> None:
    code = "import sys, envs; print(sorted({'PIL', 'pettingzoo', 'gymnasium'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_agents_that_leave_stay_in_the_picture() -> None:
    env = spread.Spread()
    state, _ = env.reset(jax.random.key(0))
    landmark = jnp.zeros((2, 2))
    near = state._replace(position=jnp.array([[0.9, 0.9], [-0.9, -0.9]]), landmark=landmark)
    far = near._replace(position=jnp.array([[30.0, 0.9], [-0.9, -0.9]]))
    outline = drawing.dark(drawing.colour_of(0))
    assert shows(env.render(near), drawing.WHITE) > 20 * shows(env.render(far), drawing.WHITE)
    right = env.render(far)[:, 370:]
    assert shows(right, drawing.PAPER) < right.shape[0] * right.shape[1]
    assert shows(env.render(near), outline) > 0


@pytest.mark.parametrize(("name", "pairs_that_bump"), [("spread3_mix", 1), ("spread3_sep", 0)])
def test_bumps_are_red_where_they_count(name: str, pairs_that_bump: int) -> None:
    env = envs.make(name)
    state, _ = env.reset(jax.random.key(0))
    apart = jnp.array([[0.0, 0.0], [0.9, 0.9], [-0.9, -0.9]])
    for i, j, bump in ((0, 2, pairs_that_bump), (0, 1, 0), (1, 2, 0)):
        touching = state._replace(position=apart.at[j].set(apart[i] + 0.1))
        assert (shows(env.render(touching), drawing.ALERT) > 20) == bool(bump)
    assert shows(env.render(state._replace(position=apart)), drawing.ALERT) == 0


def test_rover_tower_shows_pairs_messages_and_bonus() -> None:
    env = rover_tower.RoverTower()
    state, _ = env.reset(jax.random.key(1))
    picture = env.render(state)
    others = {
        "message": state._replace(message=state.message.at[2].set(3)),
        "goal": state._replace(goal=(state.goal + 1) % rover_tower.NUM_LANDMARKS),
        "pairs": state._replace(tower_of=jnp.roll(state.tower_of, 1)),
    }
    for what, other in others.items():
        assert (env.render(other) != picture).any(), what
    shared = env.render(state._replace(goal=jnp.array([2, 2, 2, 5])))
    for i in range(rover_tower.NUM_PAIRS):
        assert shows(shared, drawing.dark(drawing.colour_of(i))) > 10


def test_pursuit_hides_the_caught_and_counts_crowds() -> None:
    env = pursuit.Pursuit(n_pursuers=3, n_evaders=2)
    state = pursuit.PursuitState(
        pursuer=jnp.array([[0, 0], [15, 0], [0, 15]], jnp.int32),
        evader=jnp.array([[2, 0], [15, 15]], jnp.int32),
        alive=jnp.array([True, True]),
        time=jnp.int32(0),
    )
    of_evaders, of_pursuers = pursuit._EVADER_COLOUR, pursuit._PURSUER_COLOUR
    both = env.render(state)
    one = env.render(state._replace(alive=jnp.array([False, True])))
    assert shows(one, of_evaders) * 2 == pytest.approx(shows(both, of_evaders), rel=0.1)
    assert shows(both[:200, :200], of_pursuers) > 100  # y points upwards: (0, 15) is top left
    assert shows(both[:200, 200:], of_pursuers) == 0
    crowd = env.render(state._replace(pursuer=jnp.zeros((3, 2), jnp.int32)))
    pair = env.render(state._replace(pursuer=state.pursuer.at[:2].set(0)))
    corner = slice(-60, -drawing._STRIP), slice(0, 60)
    assert (crowd[corner] != pair[corner]).any()


def test_time_of_a_picture() -> None:
    assert [drawing.milliseconds_per_frame(steps) for steps in (1, 5, 25, 500)] == [
        500,
        500,
        100,
        60,
    ]
