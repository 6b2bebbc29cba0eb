"""MAPPO learns what it learns in PyTorch, from the same weights, rollouts and random numbers.

The expected numbers are files, as in ``tests/test_torch_parity.py``.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.torch_reference.cases import (
    PROXIMAL,
    PROXIMAL_CASES,
    ROLLOUTS_BEFORE,
    ProximalCase,
)
from benchmarks.torch_reference.states import Named, flatten, read, unflatten
from mamt_jax.algorithms.registry import make
from mamt_jax.settings import Learning
from mamt_jax.types import Algorithm, Batch, Transition
from tests.networks import quick
from tests.test_torch_parity import GOLDEN, assert_close, cast

# In float32 a ratio that one side clips and the other does not makes a visible difference.
TOLERANCES = {"float32": 1e-4, "float64": 1e-10}


def below(arrays: Named, prefix: str) -> Named:
    """Arrays below a prefix, by the rest of their names."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


def rollout(rows: Named, precision: str) -> Batch:
    """A rollout as training hands it over."""
    arrays = {name: jnp.asarray(values) for name, values in cast(rows, precision).items()}
    sample = Transition(**arrays)._replace(action=arrays["action"].astype(jnp.int32))
    rewards = np.asarray(arrays["reward"]).reshape(-1, rows["reward"].shape[-1])
    return Batch(sample, jnp.asarray(rewards.mean(0)), jnp.asarray(rewards.std(0)), None)


def start(rule: Algorithm, weights: Named, precision: str) -> Any:
    """The learner's state with the initial weights, all in this precision."""

    def zeros(leaf: Any) -> np.ndarray:
        real = jnp.issubdtype(leaf.dtype, jnp.floating)
        return np.zeros(leaf.shape, precision if real else leaf.dtype)

    shapes = jax.eval_shape(rule.init, jax.random.key(0))
    return unflatten(weights, jax.tree.map(zeros, shapes))


@pytest.mark.parametrize("name", PROXIMAL_CASES)
def test_updates(name: str) -> None:
    case = PROXIMAL_CASES[name]
    with jax.enable_x64(case.precision == "float64"):
        check_updates(case, read(GOLDEN / f"{name}.npz"))


def check_updates(case: ProximalCase, arrays: Named) -> None:
    rule, tolerance = make("mappo", case.game, PROXIMAL), TOLERANCES[case.precision]
    state = start(rule, below(arrays, "initial"), case.precision)
    update = quick.jit(rule.update)
    keys = jax.random.wrap_key_data(arrays["update_keys"])
    for count, before in enumerate(ROLLOUTS_BEFORE, start=1):
        batch = rollout(below(arrays, f"rollout{count}"), case.precision)
        state, metrics = update(state, keys[count - 1], batch, jnp.int32(before))
        expected = below(arrays, f"metrics{count}")
        share = expected.pop("clip_fraction")  # a mean of truths, which JAX takes in float32
        np.testing.assert_allclose(metrics["clip_fraction"], share, rtol=1e-6)
        assert_close(metrics, expected, tolerance)
        if after := below(arrays, f"after{count}"):
            assert_close(flatten(state), after, tolerance)


@pytest.mark.parametrize("name", PROXIMAL_CASES)
def test_what_the_files_hold_is_no_idle_update(name: str) -> None:
    """Ratios and gradients are clipped, and every weight moves that is read."""
    arrays, case = read(GOLDEN / f"{name}.npz"), PROXIMAL_CASES[name]
    assert arrays["metrics3/clip_fraction"].mean() > 0.05
    assert (arrays["metrics3/policy_grad_norm"] > PROXIMAL[Learning].policy_clip).any()
    limit = PROXIMAL[Learning].critic_clip_per_agent * len(case.obs_sizes)
    assert (arrays["metrics3/critic_grad_norm"] > limit).any()
    before, after = below(arrays, "initial"), below(arrays, "after3")
    assert before.keys() == after.keys()
    still = {name for name, values in after.items() if (values == before[name]).all()}
    unread = {"critic/query/kernel", "critic/key/kernel"}  # one opponent has all the attention
    assert still == (unread if len(case.obs_sizes) == 2 else set())
