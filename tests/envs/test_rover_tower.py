"""Rover-Tower against plain NumPy, its starts, and returns that are known."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks import numpy_rover_tower as reference
from mamt_jax import envs
from mamt_jax.envs import particles
from mamt_jax.envs.rover_tower import RoverTower, RoverTowerState, observe

TOLERANCE = 1e-5
LENGTH = 25
EPISODES = 200
Recorded = dict[str, np.ndarray]  # each [episodes, steps, ...]


def injected(world: reference.World) -> RoverTowerState:
    """The same world for `envs`."""
    towers = [world.said[tower] for tower in reference.TOWERS]
    return RoverTowerState(
        physics=particles.State(
            position=jnp.asarray(world.position, jnp.float32),
            velocity=jnp.asarray(world.velocity, jnp.float32),
            landmark=jnp.asarray(world.landmark, jnp.float32),
            time=jnp.int32(0),
        ),
        tower_of=jnp.array([world.tower_of[r] - 4 for r in reference.ROVERS], jnp.int32),
        goal=jnp.array([world.goal_of[r] for r in reference.ROVERS], jnp.int32),
        message=jnp.array([-1 if said is None else said for said in towers], jnp.int32),
    )


def padded(obs: list[np.ndarray]) -> np.ndarray:
    """Observations of different sizes in one array, filled up with zeros on the right."""
    width = max(len(row) for row in obs)
    return np.stack([np.pad(row, (0, width - len(row))) for row in obs])


def play_numpy(world: reference.World, actions: np.ndarray) -> Recorded:
    """An episode of the NumPy reference under `actions` [steps, 8]."""
    rows = []
    for joint in actions:
        world, obs, reward = reference.step(world, joint)
        rows.append((world.position, world.velocity, padded(obs), reward))
    columns = [np.stack(column) for column in zip(*rows, strict=True)]
    return dict(zip(("position", "velocity", "obs", "reward"), columns, strict=True))


def record(episodes: int) -> tuple[RoverTowerState, np.ndarray, Recorded]:
    """Random episodes: starts for `envs`, actions, and what the NumPy reference makes of them.

    Every second one starts with speeds beyond the limit, which rovers that start at rest and push
    along one axis at a time never reach.
    """
    rng = np.random.default_rng(0)
    starts = [reference.draw(rng, top_speed=3.0 * (episode % 2)) for episode in range(episodes)]
    actions = rng.integers(0, 5, (episodes, LENGTH, 8))
    played = [play_numpy(world, joint) for world, joint in zip(starts, actions, strict=True)]
    found = {name: np.stack([episode[name] for episode in played]) for name in played[0]}
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(injected, starts)), actions, found


@jax.jit
def replay(starts: RoverTowerState, actions: jax.Array) -> dict[str, jax.Array]:
    """Whole episodes of `envs` from `starts` under `actions` [episodes, steps, 8]."""
    env = envs.make("rover_tower")

    def body(
        state: RoverTowerState, joint: jax.Array
    ) -> tuple[RoverTowerState, dict[str, jax.Array]]:
        step = env.step(jax.random.key(0), state, joint)
        physics = step.state.physics
        return step.state, {
            "position": physics.position,
            "velocity": physics.velocity,
            "obs": step.obs,
            "reward": step.reward,
        }

    return jax.vmap(lambda state, joints: jax.lax.scan(body, state, joints)[1])(starts, actions)


def errors(starts: RoverTowerState, actions: np.ndarray, theirs: Recorded) -> dict[str, float]:
    """Largest absolute difference of any step."""
    ours = replay(starts, jnp.asarray(actions))
    result = {}
    for name, mine in ours.items():
        assert mine.shape == theirs[name].shape, name
        result[name] = float(np.abs(np.asarray(mine, np.float64) - theirs[name]).max())
    return result


def test_episodes_run_as_in_numpy() -> None:
    """States are injected once: messages, pairs and goals have to last for the whole episode."""
    starts, actions, theirs = record(EPISODES)
    near = theirs["reward"] > 5.0
    assert 0.05 < near.mean() < 0.95  # both sides of the bonus
    speed = np.linalg.norm(theirs["velocity"][:, 0, :4], axis=-1)
    assert (speed > 1.0 - 1e-6).sum() > 100  # the limit binds
    found = errors(starts, actions, theirs)
    assert all(error <= TOLERANCE for error in found.values()), found


def test_first_observation_is_as_in_numpy() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        world = reference.draw(rng)
        obs = observe(injected(world))
        np.testing.assert_allclose(obs, padded(reference.observations(world)), atol=1e-6)


def test_the_parity_check_can_fail() -> None:
    starts, actions, theirs = record(4)
    later = np.roll(actions, 1, axis=1)
    messages = errors(starts, np.concatenate([actions[..., :4], later[..., 4:]], -1), theirs)
    assert messages["obs"] == 1.0 and messages["reward"] <= TOLERANCE
    pairs = errors(starts._replace(tower_of=starts.tower_of[:, ::-1]), actions, theirs)
    assert pairs["position"] <= TOLERANCE and min(pairs["obs"], pairs["reward"]) > 1e-2
    goals = errors(starts._replace(goal=(starts.goal + 1) % 6), actions, theirs)
    assert goals["position"] <= TOLERANCE and min(goals["obs"], goals["reward"]) > 1e-2


def test_sizes_differ_between_rovers_and_towers() -> None:
    spec = envs.make("rover_tower").spec
    assert spec.obs_sizes == (13,) * 4 + (8,) * 4 and spec.obs_size == 13
    assert spec.action_counts == (5,) * 8 and spec.episode_length == 25


def test_pairs_and_goals_are_drawn_uniformly_and_apart() -> None:
    count = 6000
    state, obs = jax.jit(jax.vmap(RoverTower().reset))(jax.random.split(jax.random.key(3), count))
    np.testing.assert_array_equal(np.sort(state.tower_of, axis=1), [[0, 1, 2, 3]] * count)
    orders = np.unique(state.tower_of, axis=0, return_counts=True)[1] / count
    assert orders.size == 24
    np.testing.assert_allclose(orders, 1 / 24, atol=0.012)  # 4.6 standard errors
    joint = np.zeros((4, 6, 4, 6))  # goals of two rovers at a time
    for i in range(4):
        for j in range(4):
            np.add.at(joint, (i, state.goal[:, i], j, state.goal[:, j]), 1 / count)
    for i in range(4):
        np.testing.assert_allclose(np.diag(joint[i, :, i]), 1 / 6, atol=0.022)
        for j in set(range(4)) - {i}:
            np.testing.assert_allclose(joint[i, :, j], 1 / 36, atol=0.0095)  # 4.5 standard errors
    towers = np.asarray(state.tower_of)
    assert abs(np.corrcoef(towers[:, 0], state.goal[:, 0])[0, 1]) < 0.06
    assert not np.any(obs[:, :4, 4:9])  # no tower has spoken
    assert not state.physics.velocity.any()


def test_options_are_checked() -> None:
    assert envs.options("rover_tower") == {"episode_length": 25}
    with pytest.raises(ValueError, match="rover_tower: episode_length .* at least 1, got 0"):
        envs.make("rover_tower", episode_length=0)
    with pytest.raises(ValueError, match="no option 'num_agents'; it accepts episode_length"):
        envs.make("rover_tower", num_agents=4)


Controller = Callable[[jax.Array, jax.Array], jax.Array]  # (key, obs [8, O]) -> actions [8]


def push_along(error: jax.Array) -> jax.Array:
    """Action that pushes along the axis in which `error` [k, 2] is largest, [k]."""
    along_y = jnp.abs(error[:, 1]) > jnp.abs(error[:, 0])
    largest = jnp.where(along_y, error[:, 1], error[:, 0])
    return 1 + 2 * along_y + (largest < 0.0)


def informed(key: jax.Array, obs: jax.Array) -> jax.Array:
    """Rovers that know what their towers see go straight to their goals."""
    del key
    tower = jnp.argmax(obs[:4, :4], axis=1)
    goal, own, velocity = obs[4 + tower, 6:8], obs[:4, 9:11], obs[:4, 11:13]
    return jnp.concatenate([push_along(goal - own - 0.1 * velocity), jnp.zeros(4, jnp.int32)])


def guided(key: jax.Array, obs: jax.Array) -> jax.Array:
    """Towers say the push, rovers do what they hear; everybody reads its own observation only."""
    del key
    heard, say = jnp.argmax(obs[:4, 4:9], axis=1), push_along(obs[4:, 6:8] - obs[4:, 4:6])
    return jnp.concatenate([heard, say])


def uniform(key: jax.Array, obs: jax.Array) -> jax.Array:
    return jax.random.randint(key, obs.shape[:1], 0, 5)


def mean_return(controller: Controller, episodes: int) -> float:
    vector_env = envs.VectorEnv(envs.make("rover_tower"), episodes)

    def body(state: envs.VectorState, key: jax.Array) -> tuple[envs.VectorState, envs.VectorStep]:
        act_key, env_key = jax.random.split(key)
        act_keys = jax.random.split(act_key, episodes)
        return vector_env.step(env_key, state, jax.vmap(controller)(act_keys, state.obs))

    @jax.jit
    def play(key: jax.Array) -> envs.VectorStep:
        reset_key, key = jax.random.split(key)
        return jax.lax.scan(body, vector_env.reset(reset_key), jax.random.split(key, LENGTH))[1]

    result = play(jax.random.key(0))
    assert bool(result.finished[-1].all()) and not result.finished[:-1].any()
    return float(result.finished_return[-1].mean())


@pytest.mark.parametrize(
    ("controller", "expected", "margin"),
    [(uniform, -7.9, 4.0), (informed, 132.0, 5.0), (guided, 121.0, 3.0)],
)
def test_returns(controller: Controller, expected: float, margin: float) -> None:
    """The standard deviation of an episode is 43, the standard error here 0.7.

    What a rover hears is one step old and its first step is blind: that costs 10.
    """
    assert abs(mean_return(controller, episodes=4000) - expected) < margin
