"""What is chosen by the device, and that programs are made for the one they are meant for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.registry import get
from mamt_jax.backend import Precision, choices_for, chosen, tracing, with_precision
from mamt_jax.ops.chunking import chunk_count
from mamt_jax.training.programs import Program
from mamt_jax.training.seeds import seed_batch
from mamt_jax.types import Game

GPU = choices_for("gpu")


def test_the_device_of_jax_is_chosen_where_nothing_is_traced() -> None:
    assert chosen().platform == jax.default_backend()
    with tracing(GPU):
        assert chosen() is GPU
    assert chosen().platform == jax.default_backend()


def test_a_program_is_traced_for_its_own_device_wherever_it_is_made() -> None:
    seen = []

    def look(x: jax.Array) -> jax.Array:
        seen.append((chosen().platform, chunk_count(1024, 2**14)))
        return x

    Program(look, choices=replace(choices_for("cpu"), compiler_options={}))(1.0)
    Program(look, choices=replace(GPU, compiler_options={}))(1.0)
    assert seen == [("cpu", 32), ("gpu", 1)]


def test_all_seeds_at_once_on_an_accelerator_and_one_on_cpu() -> None:
    assert seed_batch(0, 8, choices_for("cpu")) == 1
    assert seed_batch(0, 8, GPU) == seed_batch(0, 8, choices_for("tpu")) == 8
    assert seed_batch(4, 8, GPU) == 4


@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_jax_knows_every_precision(platform: str) -> None:
    for name in choices_for(platform).products.values():
        with jax.default_matmul_precision(name):
            jax.make_jaxpr(jnp.matmul)(jnp.ones((2, 2)), jnp.ones((2, 2)))


def _precisions(function: Callable[..., Any], *arguments: Any) -> set[str]:
    """Those of all matrix products that are traced."""
    text = str(jax.make_jaxpr(function)(*arguments))
    return set(re.findall(r"precision=([^\n\]]*)", text))


def test_precision_is_the_algorithms_wherever_it_is_asked() -> None:
    game = Game((3, 3), (2, 2))
    recipe = get("maac")
    settings = recipe.settings.replace({"hidden_size": 8})
    obs = np.zeros((4, 2, 3), np.float32)

    def asked(precision: Precision) -> set[str]:
        algorithm = replace(recipe, precision=precision)(game, settings)
        state = algorithm.init(jax.random.key(0))
        program = Program(algorithm.greedy, choices=replace(GPU, compiler_options={}))
        return _precisions(program._jitted, state, obs)

    each = [asked(precision) for precision in get_args(Precision)]
    assert all(len(found) == 1 for found in each), "products of several precisions"
    assert len(set().union(*each)) == len(GPU.products)


def test_precision_returns_what_the_function_does() -> None:
    x = jnp.arange(4.0)
    assert with_precision("tensorfloat32", jnp.dot, x, x) == jnp.dot(x, x)
