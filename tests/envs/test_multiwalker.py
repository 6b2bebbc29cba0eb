"""Multi-Walker in JAX: what every environment promises, and the same game as PettingZoo's.

One compiled reset and one compiled step serve all tests: each takes ten seconds to compile.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.config import make_config
from mamt_jax.envs.base import view, view_fields
from mamt_jax.envs.scene import fields_in, scene
from mamt_jax.envs.walkers.options import torques
from mamt_jax.envs.walkers.parts import GROUND, PAD, UNIT
from mamt_jax.errors import ConfigError
from mamt_jax.training.prepare import make_algorithm, prepare

E, LENGTH = 4, 12
ENV = envs.make("multiwalker", max_cycles=LENGTH, position_noise=0.0, angle_noise=0.0)


class Played(NamedTuple):
    """Episodes of random actions; the last lane starts as one of PettingZoo's does."""

    start: Any  # states
    first: np.ndarray  # [E, n, O]
    actions: np.ndarray  # [LENGTH, E, n]
    steps: list[envs.TimeStep]
    expected: list[np.ndarray]  # observations of PettingZoo, [n, O]


@pytest.fixture(scope="module")
def played() -> Played:
    multiwalker_v9 = pytest.importorskip("pettingzoo.sisl.multiwalker_v9")
    from gymnasium.utils import seeding

    theirs = multiwalker_v9.raw_env(position_noise=0.0, angle_noise=0.0)
    theirs.reset(seed=5)
    game = theirs.unwrapped.env
    push = float(seeding.np_random(game.seed_val)[0].uniform(-5, 5))  # as each walker draws it
    expected = [np.array([theirs.observe(agent) for agent in theirs.agents])]

    state, obs = jax.jit(jax.vmap(ENV.reset))(jax.random.split(jax.random.key(0), E))
    state = state._replace(
        ground=state.ground.at[-1].set(jnp.array(game.terrain_y, jnp.float32)),
        push=state.push.at[-1].set(push),
    )
    actions = np.random.default_rng(0).integers(0, 16, (LENGTH, E, 3), np.int32)
    step, steps, now, torque = jax.jit(jax.vmap(ENV.step)), [], state, np.zeros((3, 4))
    for time, chosen in enumerate(actions):
        steps.append(step(jax.random.split(jax.random.key(time), E), now, chosen))
        now, torque = steps[-1].state, torques(chosen[-1], torque)
        for each in torque:
            theirs.step(each)
        expected.append(np.array([theirs.observe(agent) for agent in theirs.agents]))
    return Played(state, np.asarray(obs), actions, jax.device_get(steps), expected)


def test_what_every_environment_promises(played: Played) -> None:
    spec = ENV.spec
    assert spec.obs_sizes == (31,) * 3 and spec.action_counts == (16,) * 3
    assert envs.make("multiwalker", max_cycles=LENGTH, position_noise=0.0, angle_noise=0.0) == ENV
    assert played.first.shape == (E, 3, 31) and played.first.dtype == np.float32
    for time, step in enumerate(played.steps, 1):
        assert step.obs.shape == (E, 3, 31) and step.obs.dtype == np.float32
        assert step.reward.shape == (E, 3) and step.reward.dtype == np.float32
        assert step.terminated.shape == (E,) and step.alive is None
        assert np.isfinite(step.obs).all() and (step.truncated == (time == LENGTH)).all()
        assert not step.terminated.any()  # nobody falls so soon
        np.testing.assert_array_equal(step.state.time, [time] * E)
    assert len(np.unique(played.first[:, 2], axis=0)) > 1  # grounds differ


def test_games_begin_as_pettingzoos(played: Played) -> None:
    """The bodies start far from their joints and are thrown about: what rounding does grows."""
    begin = np.asarray(played.expected[0])
    np.testing.assert_allclose(played.first[-1][:, :14], begin[:, :14], atol=1e-6)
    errors = []
    for step, expected in zip(played.steps, played.expected[1:], strict=True):
        errors.append(np.abs(step.obs[-1] - expected))
        np.testing.assert_allclose(step.reward[-1], step.reward[-1].mean(), rtol=1e-5)
    assert errors[0].max() < 2e-4
    assert np.median(errors) < 1e-4 and np.quantile(errors, 0.9) < 5e-3


def test_the_ground_is_drawn_as_in_pettingzoo() -> None:
    """Level at first; then steps that change smoothly, with level places 5 to 9 points apart."""
    many = np.asarray(jax.vmap(ENV.draw_ground)(jax.random.split(jax.random.key(1), 200)))
    assert np.all(many[:, : PAD + 1] == np.float32(GROUND))
    rises = np.diff(many[:, PAD:], axis=1)
    level = rises == 0
    apart = np.diff(np.flatnonzero(level[0]))
    assert apart.min() >= 5 and apart.max() <= 9
    assert 1 / 9 < level.mean() < 1 / 5
    # A new slope is 0.8 of the last, a pull of 0.01 to the middle, and a draw of up to a unit.
    smooth = ~level[:, 1:] & ~level[:, :-1]
    drawn = np.abs(rises[:, 1:] - 0.8 * rises[:, :-1])[smooth]
    assert drawn.max() < UNIT + 0.0101 and abs(drawn.mean() - UNIT / 2) < 2e-3


def test_the_view_tells_what_a_picture_shows(played: Played) -> None:
    state = jax.tree.map(lambda leaf: leaf[0], played.steps[-1].state)
    seen, fields = view(ENV, state), view_fields(ENV)
    assert set(seen) == set(fields)
    drawn = json.loads(scene(ENV).as_json())  # type: ignore[union-attr]
    assert fields_in(drawn) <= set(fields)
    begin = jax.tree.map(lambda leaf: leaf[0], played.start)
    told = begin._replace(
        motion=begin.motion._replace(
            x=seen["centre"][:, 0], y=seen["centre"][:, 1], angle=seen["angle"]
        ),
        ground=seen["ground"][:, 1],
        gone=~seen["walking"],
    )
    frame = ENV.render(state)
    assert frame.dtype == np.uint8 and max(frame.shape) <= 1000
    np.testing.assert_array_equal(frame, ENV.render(told))
    assert (frame != ENV.render(begin)).any()
    # A knee is where both parts of a leg end.
    lower = np.asarray(seen["foot"]) - np.asarray(seen["knee"])
    np.testing.assert_allclose(np.hypot(*lower.T), 34 * UNIT, atol=0.02)


def test_algorithms_choose_among_actions() -> None:
    config = make_config(env="multiwalker", env_options={"continuous": True})
    with pytest.raises(ConfigError, match="multiwalker takes continuous actions"):
        make_algorithm(config)
    with pytest.raises(ConfigError, match="multiwalker takes continuous actions"):
        prepare(config)


@pytest.mark.slow
@pytest.mark.parametrize("remove", [False, True])
def test_walkers_that_fall_may_leave(remove: bool) -> None:
    env = envs.make("multiwalker", terminate_on_fall=False, remove_on_fall=remove)
    state, _ = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), 8))

    def step(state: Any, key: jax.Array) -> Any:
        keys = jax.random.split(key, 8)
        result = jax.vmap(env.step)(keys, state, jax.random.randint(key, (8, 3), 0, 16))
        return result.state, result

    result = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(jax.random.key(1), 100)))
    seen = jax.device_get(result(state)[1])
    gone = ~seen.alive
    assert gone.any() and (gone[1:] >= gone[:-1]).all()  # who has left stays away
    assert (seen.terminated >= gone).all() and (gone.sum(axis=2) == 1).any()
    assert np.isfinite(seen.obs).all() and np.isfinite(seen.reward).all()
    left = gone[:-1] & ~seen.finished[:-1, :, None]
    assert remove == (not seen.obs[1:][left].any())
