"""How programs are compiled: one precision, whoever asks, and a cache that is nobody else's.

For the precision programs are read, because a CPU computes alike either way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache

from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError
from mamt_jax.training import checkpoint
from mamt_jax.training.policies import Policies
from mamt_jax.training.prepare import make_algorithm
from mamt_jax.training.programs import Program, _cache_directory, check_device
from mamt_jax.training.seeds import evaluation_keys
from mamt_jax.training.trainer import make_stage, make_trainer
from tests.networks import quick
from tests.training import fakes

SMALL: dict[str, Any] = {
    "algorithm": "maac", "seeds": 2, "episodes": 20, "num_envs": 4, "batch_size": 16,
    "hidden_size": 8, "attention_heads": 2,
}  # fmt: skip
GAMES = {"module": "tests.envs.parallel_games", "game": "matching"}


def lowered(program: Any, *arguments: Any) -> Any:
    """The program for these arguments, after those that it is given already."""
    if isinstance(program, partial):
        return program.func.lower(*program.args, *arguments)
    return program.lower(*arguments)


def assert_exact(program: Any, *arguments: Any) -> None:
    text = lowered(program, *arguments).as_text()
    products = re.findall(r"stablehlo\.dot_general.*", text)
    assert products
    for product in products:
        assert "precision = [HIGHEST, HIGHEST]" in product


def test_native_training_evaluation_and_policies() -> None:
    config = make_config(env="toy_matching", **SMALL)
    algorithm, env = make_algorithm(config)
    trainer = make_trainer(config, env, registry.get(config.algorithm))
    state = jax.eval_shape(trainer.init, jnp.arange(2))
    assert_exact(trainer.epoch, state)
    keys = evaluation_keys([0, 1])
    assert_exact(trainer.evaluate, state.learner, keys)
    assert_exact(make_stage(env, config).evaluator(algorithm, 3), state.learner, keys)
    policies, obs = Policies(algorithm, None, (0,)), np.zeros((1, 2, 3), np.float32)
    assert_exact(policies._greedy, state.learner, 0, obs)
    assert_exact(policies._sample, state.learner, 0, jax.random.key(0), obs)


def test_hosted_training() -> None:
    config = make_config(env="pettingzoo", env_options=GAMES, **SMALL)
    trainer = make_trainer(config, envs.make("pettingzoo", **GAMES), registry.get(config.algorithm))
    state = jax.eval_shape(trainer.init, jnp.arange(2))
    epoch: Any = trainer.epoch
    programs, (settings,), seeds = epoch.func.__self__._programs, epoch.args, state.seeds
    obs = np.zeros((2, 4, 2, 3), np.float32)
    for act in (programs.act, programs.greedy):
        assert_exact(act, settings, seeds.learner, seeds.key, obs)
    inputs = seeds.learner, seeds.key, seeds.store, state.transitions, state.updates
    assert_exact(programs.learn, settings, *inputs)


@contextmanager
def others() -> Iterator[None]:
    """Strict types and shapes, other keys and other random bits from them."""
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
        jax.default_prng_impl("rbg"),
        jax.threefry_partitionable(False),
    ):
        yield


def test_no_setting_of_jax_changes_a_run(tmp_path: Path) -> None:
    def programs() -> tuple[Any, ...]:
        """What initialises, trains and evaluates, and the keys of an evaluation."""
        algorithm, env = make_algorithm(config)
        trainer = make_trainer(config, env, registry.get(config.algorithm))
        state, keys = (
            jax.eval_shape(trainer.init, jnp.arange(2, dtype=jnp.int32)),
            evaluation_keys([3]),
        )
        text = lowered(trainer.epoch, state).as_text()
        return state, text, jax.random.key_data(keys).tolist()

    config = make_config(env="toy_matching", **SMALL)
    state = fakes.trainer().init(jnp.arange(3))
    checkpoint.save(tmp_path, state, checkpoint.Meta(1, 1, 0.0))
    like, plain = jax.eval_shape(lambda: state), programs()
    for setting in (jax.enable_x64(True), others()):
        with setting:
            assert programs() == plain
            restored = checkpoint.restore(checkpoint.steps(tmp_path)[0], like)
        chex.assert_trees_all_equal(quick.plain(restored), quick.plain(state))


@pytest.mark.parametrize("error", [RuntimeError("Unable to initialize.\nMore."), AssertionError()])
def test_no_device(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def devices() -> None:
        raise error

    monkeypatch.setattr(jax, "devices", devices)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    check_device.cache_clear()
    with pytest.raises(ConfigError, match=r"JAX_PLATFORMS=cuda.*Unset") as caught:
        make_algorithm(make_config(env="toy_matching"))
    assert "\n" not in str(caught.value)


def test_without_compilation_nothing_is_compiled_ahead() -> None:
    with jax.disable_jit():
        program = Program(lambda x: x + 1)
        assert program.compile_ahead(jnp.zeros(3)) is None
        np.testing.assert_array_equal(program(jnp.arange(3)), [1, 2, 3])


def test_what_is_compiled_ahead_is_what_runs() -> None:
    traced = []

    def double(x: jax.Array) -> jax.Array:
        traced.append(x.shape)
        return 2 * x

    program = Program(double)
    compiled = program.compile_ahead(jax.ShapeDtypeStruct((3,), jnp.float32))
    assert compiled.memory_analysis() is not None
    np.testing.assert_array_equal(program(jnp.arange(3.0)), [0, 2, 4])
    assert traced == [(3,)] and program.compile_ahead(jnp.zeros(3)) is compiled


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Our cache in a directory of the test, in a process that has none of its own."""
    kept = {
        name: getattr(jax.config, name)
        for name in ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    }
    jax.config.update("jax_compilation_cache_dir", None)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    reset_cache()
    monkeypatch.setenv("MAMT_JAX_CACHE", str(tmp_path / "own"))
    yield tmp_path / "own"
    for name, value in kept.items():
        jax.config.update(name, value)
    reset_cache()


def files(path: Path) -> set[str]:
    """Programs that a cache holds; beside some lie times of access."""
    return {file.name for file in path.glob("*-cache")}


def test_our_programs_are_kept_and_those_of_the_user_are_not(own: Path) -> None:
    def function(x: jax.Array) -> jax.Array:
        return jnp.sin(x) @ x

    x = jnp.arange(3.0)
    jax.jit(lambda x: x * 5)(x)  # JAX has decided by now that there is no cache
    Program(function)(x)
    first = files(own)
    assert len(first) == 1
    jax.jit(lambda x: x * 7)(x)
    Program(lambda x: x - 1).compile_ahead(x)
    assert len(files(own)) == 2 and first < files(own)
    assert getattr(jax.config, "jax_compilation_cache_dir") is None  # noqa: B009 - unknown to mypy

    class Hits(list[str]):
        def __call__(self, event: str, **_: Any) -> None:
            self.append(event)

    hits = Hits()
    jax.monitoring.register_event_listener(hits)
    try:
        np.testing.assert_allclose(Program(function)(x), function(x), rtol=1e-6)
    finally:
        jax.monitoring.unregister_event_listener(hits)
    assert "/jax/compilation_cache/cache_hits" in hits


def test_a_cache_of_the_user_serves_us(own: Path, tmp_path: Path) -> None:
    """It was set after ours was used: nothing of ours is left."""
    x = jnp.arange(3.0)
    Program(lambda x: x + 1)(x)
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "users"))
    jax.jit(lambda x: x + 2)(x)
    Program(lambda x: x + 3)(x)
    assert len(files(tmp_path / "users")) == 2 and len(files(own)) == 1


@pytest.mark.parametrize(
    ("chosen", "where"),
    [
        (None, "home/.cache/mamt_jax"),
        ("", None),
        ("~/x", "home/x"),
        ("y", "y"),
        ("file/cache", None),
        ("~nobody-of-this-name/x", "~nobody-of-this-name/x"),
    ],
)
def test_where_programs_are_kept(
    chosen: str | None, where: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("MAMT_JAX_CACHE", raising=False)
    Path("file").touch()
    if chosen is not None:
        monkeypatch.setenv("MAMT_JAX_CACHE", chosen)
    assert _cache_directory() == (where and tmp_path / where)
