"""Spread against `mpe2` and against plain NumPy, from the same injected states.

Each step starts from a state that is rounded to float32 and given to both sides. Contact is so
stiff (the force changes by 100 per unit of length) that trajectories in float32 and float64 part
after a collision; single steps from a common state must not.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from mpe2 import simple_spread_v3
from numpy.typing import ArrayLike, NDArray

from mamt_jax import envs
from mamt_jax.envs.particles import State
from tests.envs import reference

TOLERANCE = 1e-5
LENGTH = 25


class Records(NamedTuple):
    """Steps of a reference implementation, each array [steps, n, ...]."""

    position: NDArray[np.float32]
    velocity: NDArray[np.float32]
    landmark: NDArray[np.float32]
    actions: NDArray[np.int64]
    next_position: NDArray[np.float64]
    next_velocity: NDArray[np.float64]
    obs: NDArray[np.float64]
    reward: NDArray[np.float64]


def stacked(rows: list[tuple[Any, ...]]) -> Records:
    return Records(*(np.stack(column) for column in zip(*rows, strict=True)))


def start(rng: np.random.Generator, count: int, overlapping: bool) -> reference.World:
    """Uniform places at rest; `overlapping` puts all agents within a contact of the first."""
    position = rng.uniform(-1.0, 1.0, (count, 2))
    if overlapping:
        position[1:] = position[0] + rng.uniform(-0.15, 0.15, (count - 1, 2))
    return reference.World(position, np.zeros((count, 2)), rng.uniform(-1.0, 1.0, (count, 2)))


def rounded(array: ArrayLike) -> NDArray[np.float32]:
    return np.asarray(array).astype(np.float32)


def record_mpe2(count: int, local_ratio: float, episodes: int) -> Records:
    """Random episodes of the `mpe2` package; every second one starts in a collision."""
    rng = np.random.default_rng(count)
    theirs = simple_spread_v3.parallel_env(N=count, local_ratio=local_ratio, max_cycles=LENGTH)
    names = theirs.possible_agents
    rows = []
    for episode in range(episodes):
        theirs.reset(seed=episode)
        world = theirs.unwrapped.world
        first = start(rng, count, overlapping=episode % 2 == 1)
        for i in range(count):
            world.agents[i].state.p_pos = first.position[i]
            world.landmarks[i].state.p_pos = rounded(first.landmark[i]).astype(np.float64)
        for time in range(LENGTH):
            for agent in world.agents:
                agent.state.p_pos = rounded(agent.state.p_pos).astype(np.float64)
                agent.state.p_vel = rounded(agent.state.p_vel).astype(np.float64)
            before = (
                rounded([a.state.p_pos for a in world.agents]),
                rounded([a.state.p_vel for a in world.agents]),
                rounded([m.state.p_pos for m in world.landmarks]),
            )
            actions = rng.integers(0, 5, count)
            obs, reward, terminated, truncated, _ = theirs.step(
                dict(zip(names, actions, strict=True))
            )
            assert not any(terminated.values())
            assert all(truncated.values()) == any(truncated.values()) == (time == LENGTH - 1)
            after = ([a.state.p_pos for a in world.agents], [a.state.p_vel for a in world.agents])
            rows.append(
                (*before, actions, *map(np.array, after))
                + (np.stack([obs[a] for a in names]), np.array([reward[a] for a in names]))
            )
    return stacked(rows)


def record_numpy(name: str, count: int, episodes: int) -> Records:
    """Random episodes of the NumPy reference; every second one starts in a collision."""
    rng = np.random.default_rng(count)
    rows = []
    for episode in range(episodes):
        world = start(rng, count, overlapping=episode % 2 == 1)
        for _ in range(LENGTH):
            before = [rounded(part) for part in world]
            actions = rng.integers(0, 5, count)
            exact = reference.World(*(part.astype(np.float64) for part in before))
            world, obs, reward = reference.step(name, exact, actions)
            rows.append((*before, actions, world.position, world.velocity, obs, reward))
    return stacked(rows)


def errors(env: envs.Environment, records: Records) -> dict[str, float]:
    """Largest absolute difference of one step of `env` from each recorded one."""
    steps = len(records.actions)
    state = State(
        jnp.asarray(records.position),
        jnp.asarray(records.velocity),
        jnp.asarray(records.landmark),
        jnp.zeros(steps, jnp.int32),
    )
    keys = jax.random.split(jax.random.key(0), steps)
    ours = jax.jit(jax.vmap(env.step))(keys, state, jnp.asarray(records.actions))
    pairs = {
        "position": (ours.state.position, records.next_position),
        "velocity": (ours.state.velocity, records.next_velocity),
        "landmark": (ours.state.landmark, records.landmark),
        "obs": (ours.obs, records.obs),
        "reward": (ours.reward, records.reward),
    }
    result = {}
    for name, (mine, theirs) in pairs.items():
        assert mine.shape == theirs.shape, name
        difference = np.abs(np.asarray(mine, np.float64) - theirs)
        result[name] = float(difference.max())  # NaN fails every comparison with a tolerance
    return result


def assert_close(found: dict[str, float]) -> None:
    assert all(error <= TOLERANCE for error in found.values()), found


def touching_steps(records: Records) -> int:
    """Number of steps that start with two agents overlapping."""
    places = records.position
    pairs = combinations(range(places.shape[1]), 2)
    near = [np.linalg.norm(places[:, i] - places[:, j], axis=-1) < 0.3 for i, j in pairs]
    return int(np.any(near, axis=0).sum())


@pytest.mark.parametrize(
    ("count", "local_ratio", "episodes"), [(2, 0.5, 200), (3, 0.3, 60), (4, 1.0, 20)]
)
def test_mpe2_variant_steps_like_mpe2(count: int, local_ratio: float, episodes: int) -> None:
    records = record_mpe2(count, local_ratio, episodes)
    assert touching_steps(records) > episodes // 2  # the overlapping starts and later ones
    env = envs.make("spread", num_agents=count, variant="mpe2", local_ratio=local_ratio)
    assert_close(errors(env, records))


def test_the_parity_check_can_fail() -> None:
    records = record_mpe2(2, 0.5, 4)
    other = errors(envs.make("spread", variant="paper"), records)
    assert min(other["position"], other["velocity"], other["obs"], other["reward"]) > 1e-2
    ratio = errors(envs.make("spread", variant="mpe2", local_ratio=0.4), records)
    assert ratio["reward"] > 1e-2


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("spread", 2),
        ("spread", 3),
        ("spread", 5),
        ("spread3_sep", 3),
        ("spread3_mix", 3),
        ("spread3_ful", 3),
    ],
)
def test_paper_variant_steps_like_numpy(name: str, count: int) -> None:
    records = record_numpy(name, count, episodes=60)
    assert touching_steps(records) > 30  # the overlapping starts and later ones
    options = {"num_agents": count} if name == "spread" else {}
    assert_close(errors(envs.make(name, **options), records))


def test_only_the_agents_that_should_collide_do() -> None:
    """The worlds of three agents differ by more than the tolerance on the same states."""
    records = record_numpy("spread3_mix", 3, episodes=4)
    for name in ("spread3_sep", "spread3_ful"):
        found = errors(envs.make(name), records)
        assert found["velocity"] > 1e-2, name
        assert found["reward"] > 1e-2, name


def test_ful_is_spread_with_three_agents() -> None:
    records = record_numpy("spread", 3, episodes=4)
    assert errors(envs.make("spread3_ful"), records) == errors(
        envs.make("spread", num_agents=3), records
    )
