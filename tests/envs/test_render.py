"""Pictures of every registered environment: their form, and that they show the state."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs import drawing, pursuit, rover_tower, spread
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
    assert max(first.shape[:2]) <= 1000 and not any(side % 2 for side in first.shape[:2])
    changes = 0
    for other, obs in others:
        frame = env.render(other)
        assert frame.shape == first.shape
        changed = bool((obs != seen).any())
        if name == "toy_elimination":
            changed |= bool((other.alive != state.alive).any())
        assert bool((frame != first).any()) == changed
        changes += changed
    assert changes >= 1


def test_importing_environments_does_not_load_pillow() -> None:
    code = (
        "import sys, mamt_jax.envs\n"
        "print(sorted({'PIL', 'pettingzoo', 'gymnasium'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["spread", "spread3_mix", "rover_tower"])
def test_the_view_stays_when_agents_run_away(name: str) -> None:
    """The square and its grid are where they were, and the runner is at the rim."""
    env = envs.make(name)
    state, _ = env.reset(jax.random.key(0))
    physics = state if name != "rover_tower" else state.physics
    runner = np.zeros_like(physics.position, bool)
    runner[0] = True

    def at(place: tuple[float, float]) -> drawing.Frame:
        moved = physics._replace(position=jnp.where(runner, jnp.array(place), physics.position))
        return env.render(moved if name != "rover_tower" else state._replace(physics=moved))

    near, colour = at((1.3, 0.3)), drawing.dark(drawing.colour_of(0))
    for far in ((1.6, 0.3), (30.0, 0.3), (-7.0, 0.3), (0.3, 4.0), (0.3, -9.0), (50.0, -50.0)):
        away = at(far)
        grid = (near == drawing.FAINT).all(axis=-1) & (away == drawing.FAINT).all(axis=-1)
        assert grid.sum() > 0.8 * shows(near, drawing.FAINT)
        others = away.shape[0] // 8, -away.shape[0] // 8  # the rim, where the runner is
        rim = away.copy()
        rim[slice(*others), slice(*others)] = drawing.PAPER
        assert shows(rim, colour) > 40


def test_agents_at_the_rim_say_where_they_are() -> None:
    env = spread.Spread()
    state, _ = env.reset(jax.random.key(0))

    def at(x: float, y: float) -> drawing.Frame:
        place = jnp.array([[x, y], [-0.9, -0.9]])
        return env.render(state._replace(position=place, landmark=jnp.zeros((2, 2))))

    assert (at(3.0, 0.2) == at(30.0, 0.2)).mean() > 0.99
    assert (at(3.0, 3.0) != at(3.0, 30.0)).any()  # the arrow


def test_every_agent_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, options in TABLE[: len(NATIVE)]:
        env = envs.make(name, **options)
        written: list[str] = []
        text = drawing.Canvas.text

        def spy(self: Any, centre: Any, what: str, *args: Any, **more: Any) -> None:
            written.append(what)  # noqa: B023
            text(self, centre, what, *args, **more)  # noqa: B023

        pursuit._cell.cache_clear()
        with monkeypatch.context() as patch:
            patch.setattr(drawing.Canvas, "text", spy)
            env.render(env.reset(jax.random.key(1))[0])
        said = " ".join(written).replace(":", " ").split()
        assert {str(i) for i in range(env.spec.num_agents)} <= set(said), name


def test_actions_are_called_what_they_do() -> None:
    """Moves of an agent in the middle of the world, by their names."""
    moves = {"stay": (0, 0), "right": (1, 0), "left": (-1, 0), "up": (0, 1), "down": (0, -1)}
    for options in ({}, {"variant": "mpe2"}):
        env = envs.make("spread", **options)
        assert env.spec.action_names is not None
        state, _ = env.reset(jax.random.key(0))
        state = state._replace(position=jnp.array([[0.0, 0.0], [0.9, 0.9]]))
        for action, name in enumerate(env.spec.action_names[0]):
            moved = state
            for _ in range(2):  # "mpe2" moves with the old velocity
                moved = env.step(jax.random.key(0), moved, jnp.array([action, 0])).state
            np.testing.assert_array_equal(np.sign(moved.position[0]), moves[name])
    assert (
        dict(zip(pursuit._ACTION_NAMES, map(tuple, pursuit._MOVES.tolist()), strict=True)) == moves
    )
    with pytest.raises(
        ValueError, match=r"odd: action_names must be one word for each of \(2, 3\)"
    ):
        envs.EnvSpec("odd", 2, (1, 1), (2, 3), 5, action_names=(("a", "b"), ("a", "b")))


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


def test_pursuit_hides_the_caught_and_makes_room_in_a_cell() -> None:
    env = pursuit.Pursuit(n_pursuers=6, n_evaders=2)
    state = pursuit.PursuitState(
        pursuer=jnp.array([[0, 0], [15, 0], [0, 15], [3, 0], [3, 15], [2, 2]], jnp.int32),
        evader=jnp.array([[2, 0], [15, 15]], jnp.int32),
        alive=jnp.array([True, True]),
        time=jnp.int32(0),
    )
    of_evaders, of_pursuers = pursuit._EVADER_COLOUR, pursuit._PURSUER_COLOUR
    both = env.render(state)
    one = env.render(state._replace(alive=jnp.array([False, True])))
    assert shows(one, of_evaders) * 2 == shows(both, of_evaders) > 0
    assert shows(both[:40, :40], of_pursuers) > 40  # y points upwards: (0, 15) is top left
    assert shows(both[:40, 200:], of_pursuers) == 0
    crowds = [
        env.render(state._replace(pursuer=state.pursuer.at[:count].set(0))) for count in range(1, 7)
    ]
    evader = state.evader.at[0].set(0)
    crowds += [env.render(state._replace(pursuer=state.pursuer * 0, evader=evader))]
    cells = [picture[-60 : -drawing._STRIP, :40].tobytes() for picture in crowds]
    assert len(set(cells)) == len(cells)


def test_time_of_a_picture() -> None:
    assert [drawing.milliseconds_per_frame(steps) for steps in (1, 5, 25, 500)] == [
        500,
        500,
        100,
        60,
    ]
