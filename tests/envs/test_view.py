"""What environments want seen of their states: as they say, and all that a picture shows."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs import particles
from mamt_jax.envs.base import view, view_fields
from mamt_jax.envs.pursuit import PursuitState
from mamt_jax.envs.rover_tower import NUM_PAIRS, RoverTowerState
from mamt_jax.envs.scene import fields_in, scene
from mamt_jax.envs.toy import ToyState
from tests.envs.native import NATIVE

E = 2
over_all = pytest.mark.parametrize("name", NATIVE)


def after_some_steps(env: Any, steps: int = 4) -> tuple[Any, Any]:
    """States and observations [steps + 1, E, ...] of random actions."""

    def step(state: Any, key: jax.Array) -> tuple[Any, Any]:
        keys = jax.random.split(key, E)
        actions = jax.random.randint(key, (E, env.spec.num_agents), 0, min(env.spec.action_counts))
        result = jax.vmap(env.step)(keys, state, actions)
        return result.state, (result.state, result.obs)

    @jax.jit
    def play(key: jax.Array) -> tuple[Any, Any]:
        first = jax.vmap(env.reset)(jax.random.split(key, E))
        _, later = jax.lax.scan(step, first[0], jax.random.split(key, steps))
        return jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), first, later)

    return jax.device_get(play(jax.random.key(2)))


@over_all
def test_it_is_laid_out_as_the_environment_says(name: str) -> None:
    env = envs.make(name)
    states, _ = after_some_steps(env)
    seen = jax.device_get(jax.vmap(jax.vmap(lambda state: view(env, state)))(states))
    sizes = {"agent": env.spec.num_agents, "xy": 2}
    fields = view_fields(env)
    assert set(seen) == {field for field in fields if fields[field].still is None} and seen
    for field, layout in fields.items():
        array = seen[field][0, 0] if layout.still is None else layout.still
        assert layout.unit and layout.description and "\n" not in layout.description
        assert len(layout.dims) == array.ndim, field
        for dim, size in zip(layout.dims, array.shape, strict=True):
            assert sizes.setdefault(dim, size) == size, (field, dim)
        assert array.dtype in (np.float32, np.int32, np.bool_)
    assert all(np.isfinite(array).all() for array in seen.values())
    assert any((array[0] != array[-1]).any() for array in seen.values())


def as_state(name: str, seen: dict[str, Any]) -> Any:
    """A state of which the same is seen, at the start of time."""
    zero = np.int32(0)
    if name == "pursuit":
        return PursuitState(seen["position"], seen["evader"], seen["evader_free"], zero)
    if name.startswith("toy"):
        return ToyState(seen["context"], zero, seen["playing"])
    physics = particles.State(seen["position"], seen["velocity"], seen["landmark"], zero)
    if name == "rover_tower":
        return RoverTowerState(physics, seen["tower_of"], seen["goal"], seen["message"])
    return physics


@over_all
def test_it_tells_all_that_a_picture_shows(name: str) -> None:
    env = envs.make(name)
    states, _ = after_some_steps(env)
    for moment in (0, -1):
        state = jax.tree.map(lambda leaf, at=moment: leaf[at, 0], states)
        told = env.render(as_state(name, jax.device_get(view(env, state))))
        np.testing.assert_array_equal(told, env.render(state))


@over_all
def test_its_scene_draws_fields_that_it_has(name: str) -> None:
    env = envs.make(name)
    found = scene(env)
    assert found is not None
    drawn, fields = json.loads(found.as_json()), view_fields(env)
    assert {layer["kind"] for layer in drawn["layers"]} > {"box"} or name.startswith("toy")
    assert fields_in(drawn) and fields_in(drawn) <= set(fields)
    for layer in drawn["layers"]:
        for part in {"at", "start", "end", "near"} & set(layer):
            assert fields[layer[part]["field"]].dims[-1] == "xy", layer
            index = layer[part].get("index")
            assert index is None or len(fields[index].dims) == 1, layer


@pytest.mark.parametrize("name", [name for name in NATIVE if name.startswith("spread")])
def test_spread_shows_what_agents_observe(name: str) -> None:
    env = envs.make(name)
    states, obs = after_some_steps(env)
    seen = jax.vmap(jax.vmap(lambda state: view(env, state)))(states)
    n = env.spec.num_agents
    np.testing.assert_array_equal(seen["velocity"], obs[..., :2])
    np.testing.assert_array_equal(seen["position"], obs[..., 2:4])
    relative = seen["landmark"][:, :, None] - seen["position"][:, :, :, None]
    np.testing.assert_allclose(relative.reshape(*obs.shape[:3], -1), obs[..., 4 : 4 + 2 * n])


def test_rover_tower_shows_what_rovers_observe() -> None:
    env = envs.make("rover_tower")
    states, obs = after_some_steps(env)
    seen = jax.vmap(jax.vmap(lambda state: view(env, state)))(states)
    rovers = obs[:, :, :NUM_PAIRS]
    np.testing.assert_array_equal(seen["tower_of"], rovers[..., :NUM_PAIRS].argmax(axis=-1))
    np.testing.assert_array_equal(seen["position"][:, :, :NUM_PAIRS], rovers[..., 9:11])
    heard = np.take_along_axis(np.asarray(seen["message"]), np.asarray(seen["tower_of"]), axis=-1)
    words = rovers[..., NUM_PAIRS : NUM_PAIRS + 5]
    np.testing.assert_array_equal(heard, np.where(words.any(axis=-1), words.argmax(axis=-1), -1))
    assert (heard[0] == -1).all() and (heard[1:] >= 0).all()


def test_pursuit_shows_what_pursuers_observe() -> None:
    """Pursuers and evaders within reach, and the wall around each pursuer."""
    env = envs.make("pursuit")
    states, obs = after_some_steps(env)
    seen = jax.device_get(jax.vmap(jax.vmap(lambda state: view(env, state)))(states))
    wall, reach = view_fields(env)["wall"].still, 3
    assert wall is not None
    walled = np.pad(wall, reach, constant_values=True)
    for moment, episode, agent in np.ndindex(*obs.shape[:3]):
        x, y = seen["position"][moment, episode, agent]
        square = obs[moment, episode, agent].reshape(7, 7, 3)
        np.testing.assert_array_equal(square[..., 0], walled[x : x + 7, y : y + 7].T)
        free = seen["evader"][moment, episode][seen["evader_free"][moment, episode]]
        near = (np.abs(free - (x, y)) <= reach).all(axis=-1)
        assert square[..., 2].sum() == near.sum()
        others = seen["position"][moment, episode]
        assert square[..., 1].sum() == (np.abs(others - (x, y)) <= reach).all(axis=-1).sum()


def test_a_view_must_be_what_was_announced() -> None:
    class Odd(type(envs.make("toy_matching"))):  # type: ignore[misc]
        def view(self, state: Any) -> dict[str, jax.Array]:
            return {"context": state.context}

    env = Odd()
    state, _ = env.reset(jax.random.key(0))
    with pytest.raises(ValueError, match="toy_matching: view must return .*'playing': 1") as caught:
        view(env, state)
    assert "\n" not in str(caught.value)
    assert view_fields(object()) == {} and view(object(), state) == {}
