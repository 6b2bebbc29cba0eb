"""One table of environments, and what every one of them promises."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs.hosted import HostEpisodes
from mamt_jax.envs.workers import HostVectorEnv
from tests.envs.native import HOSTED, NATIVE

E = 3
ON_THE_HOST: dict[str, dict[str, Any]] = {
    "multiwalker_host": {"max_cycles": 8},
    "pettingzoo": {"module": "tests.envs.parallel_games", "game": "matching"},
}
TABLE: list[tuple[str, dict[str, Any]]] = [(name, {}) for name in NATIVE] + [
    ("spread", {"num_agents": 3, "variant": "mpe2", "local_ratio": 0.2, "episode_length": 4}),
    ("spread", {"num_agents": 4, "episode_length": 1}),
    ("toy_survival", {"num_actions": 4, "episode_length": 3}),
]
over_all = pytest.mark.parametrize(
    ("name", "options"), TABLE, ids=[f"{n}-{i}" for i, (n, _) in enumerate(TABLE)]
)


def lasting_actions(env: envs.Environment, obs: jax.Array) -> jax.Array:
    """Actions [..., n] that do not end an episode early."""
    best = getattr(env, "best_actions", None)
    return jnp.zeros(obs.shape[:-1], jnp.int32) if best is None else best(obs)


def assert_time_step(env: envs.Environment, step: envs.TimeStep, lead: tuple[int, ...]) -> None:
    """Shapes and dtypes of a step with leading axes `lead`."""
    n, width = env.spec.num_agents, env.spec.obs_size
    each, count = ((n,), 2) if env.spec.agents_may_leave else ((), 1)
    assert (step.alive is not None) == env.spec.agents_may_leave
    for value, shape, dtype in (
        (step.obs, (n, width), jnp.float32),
        (step.reward, (n,), jnp.float32),
        (step.truncated, (), jnp.bool_),
        *((value, each, jnp.bool_) for value in (step.terminated, step.alive)[:count]),
    ):
        assert value.shape == lead + shape
        assert value.dtype == dtype
    assert step.finished.shape == lead


@over_all
def test_types_do_not_depend_on_x64(name: str, options: dict[str, Any]) -> None:
    env = envs.make(name, **options)
    actions = jax.ShapeDtypeStruct((env.spec.num_agents,), jnp.int32)

    def types() -> list[Any]:
        state, obs = jax.eval_shape(env.reset, jax.random.key(0))
        step = jax.eval_shape(env.step, jax.random.key(0), state, actions)
        return [leaf.dtype for leaf in jax.tree.leaves((state, obs, step))]

    plain = types()
    with jax.enable_x64(True):
        assert types() == plain


@over_all
def test_spec_shapes_and_dtypes(name: str, options: dict[str, Any]) -> None:
    env = envs.make(name, **options)
    spec = env.spec
    assert spec.name == name and spec.summary and "\n" not in spec.summary
    assert len(spec.obs_sizes) == len(spec.action_counts) == spec.num_agents >= 2
    assert env == envs.make(name, **options) and hash(env) == hash(envs.make(name, **options))
    state, obs = jax.jit(env.reset)(jax.random.key(0))
    assert obs.shape == (spec.num_agents, spec.obs_size) and obs.dtype == jnp.float32
    step = jax.jit(env.step)(jax.random.key(1), state, lasting_actions(env, obs))
    assert_time_step(env, step, ())
    chex.assert_trees_all_equal_shapes_and_dtypes(state, step.state)
    for i, size in enumerate(spec.obs_sizes):
        assert not np.any(step.obs[i, size:])  # padding


def assert_inside(spec: envs.EnvSpec, obs: Any) -> None:
    """Observations [..., n, O] keep to the declared bounds and type."""
    low, high = spec.obs_bounds
    assert np.isfinite(obs).all() and np.min(obs) >= low and np.max(obs) <= high
    np.testing.assert_array_equal(np.asarray(obs), np.asarray(obs).astype(spec.obs_dtype))


@over_all
def test_observations_are_inside_their_space(name: str, options: dict[str, Any]) -> None:
    """Forty random steps, past the end of short episodes."""
    vector_env = envs.VectorEnv(envs.make(name, **options), E)
    spec = vector_env.spec

    def body(state: envs.VectorState, key: jax.Array) -> tuple[envs.VectorState, Any]:
        env_key, action_key = jax.random.split(key)
        actions = jax.random.randint(action_key, (E, spec.num_agents), 0, 1 << 16)
        state, step = vector_env.step(env_key, state, actions % jnp.array(spec.action_counts))
        return state, (state.obs, step.next_obs)

    @jax.jit
    def play(key: jax.Array) -> tuple[jax.Array, Any]:
        start = vector_env.reset(key)
        return start.obs, jax.lax.scan(body, start, jax.random.split(key, 40))[1]

    first, seen = play(jax.random.key(0))
    for obs in (first, *seen):
        assert_inside(spec, obs)


@over_all
def test_jit_and_vmap_agree_with_plain_calls(name: str, options: dict[str, Any]) -> None:
    env = envs.make(name, **options)
    keys = jax.random.split(jax.random.key(2), E)
    states, obs = jax.jit(jax.vmap(env.reset))(keys)
    actions = jax.random.randint(jax.random.key(3), obs.shape[:2], 0, env.spec.num_actions)
    many = jax.jit(jax.vmap(env.step))(keys, states, actions)
    assert_time_step(env, many, (E,))
    one = env.step(keys[-1], env.reset(keys[-1])[0], actions[-1])
    for alone, among in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(alone, among[-1], atol=1e-5)


@over_all
def test_nothing_is_traced_twice(name: str, options: dict[str, Any]) -> None:
    """Equal environments are one static argument, and a step's output fits its own input."""
    chex.clear_trace_counter()

    @chex.assert_max_traces(n=1)
    def counted(
        vector_env: envs.VectorEnv, key: jax.Array, state: envs.VectorState, actions: jax.Array
    ) -> tuple[envs.VectorState, envs.VectorStep]:
        return vector_env.step(key, state, actions)

    stepping = jax.jit(counted, static_argnums=0)
    state = jax.jit(envs.VectorEnv(envs.make(name, **options), E).reset)(jax.random.key(0))
    for key in jax.random.split(jax.random.key(1), 3):
        vector_env = envs.VectorEnv(envs.make(name, **options), E)  # equal, not the same
        actions = lasting_actions(vector_env.env, state.obs)
        state, _ = stepping(vector_env, key, state, actions)


@over_all
def test_keys_decide_everything(name: str, options: dict[str, Any]) -> None:
    env = envs.make(name, **options)
    reset = jax.jit(env.reset)
    chex.assert_trees_all_equal(reset(jax.random.key(7)), reset(jax.random.key(7)))
    starts = [np.asarray(reset(key)[1]) for key in jax.random.split(jax.random.key(0), 16)]
    assert len(np.unique(starts, axis=0)) > 1
    state, obs = reset(jax.random.key(7))
    actions = lasting_actions(env, obs)
    step = jax.jit(env.step)
    chex.assert_trees_all_equal(
        step(jax.random.key(8), state, actions), step(jax.random.key(8), state, actions)
    )


@over_all
def test_truncated_exactly_at_episode_length(name: str, options: dict[str, Any]) -> None:
    """Also afterwards: an environment never resets by itself."""
    env = envs.make(name, **options)
    step = jax.jit(env.step)
    state, obs = jax.jit(env.reset)(jax.random.key(0))
    length = env.spec.episode_length
    for time in range(1, length + 1):
        result = step(jax.random.key(time), state, lasting_actions(env, obs))
        assert bool(result.truncated) == (time == length)
        assert not result.terminated.any()
        state, obs = result.state, result.obs


@over_all
def test_vector_env_keeps_the_last_observation(name: str, options: dict[str, Any]) -> None:
    env = envs.make(name, **options)
    vector_env = envs.VectorEnv(env, E)
    step = jax.jit(vector_env.step)
    state = jax.jit(vector_env.reset)(jax.random.key(0))
    plain_step = jax.jit(jax.vmap(env.step))
    length = env.spec.episode_length
    total = np.zeros((E, env.spec.num_agents))
    for time in range(1, length + 2):
        actions = lasting_actions(env, state.obs)
        key = jax.random.key(time)
        # The documented derivation of step keys, so that the plain steps see the same ones.
        step_keys = jax.random.split(jax.random.split(key)[0], E)
        plain = plain_step(step_keys, state.env_state, actions)
        state, result = step(key, state, actions)
        np.testing.assert_allclose(result.next_obs, plain.obs, atol=1e-5)
        np.testing.assert_allclose(result.reward, plain.reward, atol=1e-5)
        total += np.asarray(result.reward)
        over = time % length == 0
        assert bool(result.finished.all()) == bool(result.finished.any()) == over
        assert bool(result.truncated.all()) == over and not result.terminated.any()
        expected = total.mean(axis=1) if over else np.zeros(E)
        np.testing.assert_allclose(result.finished_return, expected, rtol=1e-5)
        total = np.zeros_like(total) if over else total
        np.testing.assert_allclose(state.episode_return, total, rtol=1e-5)
        if not over:
            np.testing.assert_array_equal(state.obs, result.next_obs)
        elif name.startswith("spread"):
            assert not np.any(np.all(state.obs == result.next_obs, axis=(1, 2)))
        np.testing.assert_array_equal(state.env_state.time, [time % length] * E)


@pytest.mark.parametrize("name", HOSTED)
def test_environments_on_the_host(name: str) -> None:
    """Types, declared space, determinism, truncation at the episode's length, last observation."""
    env = envs.make(name, **ON_THE_HOST[name])
    spec, random = env.spec, np.random.default_rng(0)
    assert spec.name == name and spec.summary and "\n" not in spec.summary
    vector, alone = HostVectorEnv(env, E, 1), HostEpisodes(env)
    first = vector.reset([(row,) for row in range(E)]).obs.copy()
    assert first.dtype == np.float32 and len(np.unique(first, axis=0)) > 1
    np.testing.assert_array_equal(vector.reset([(row,) for row in range(E)]).obs, first)
    seed = int(np.random.SeedSequence([0, 0]).generate_state(1)[0]) >> 1
    np.testing.assert_array_equal(alone.reset(seed), first[0])
    for time in range(1, spec.episode_length + 1):
        actions = random.integers(0, spec.action_counts, (E, spec.num_agents))
        rows, result = vector.step(actions), alone.step(actions[0])
        assert rows.reward.dtype == np.float32 and rows.terminated.dtype == bool
        assert (rows.finished == (time == spec.episode_length)).all() and not rows.terminated.any()
        np.testing.assert_array_equal(rows.next_obs[0], result.obs)
        for obs in (rows.obs, rows.next_obs):
            assert_inside(spec, obs)
        same = (rows.obs == rows.next_obs).all(axis=(1, 2))
        assert same.all() if time < spec.episode_length else not same.all()
    vector.close()
