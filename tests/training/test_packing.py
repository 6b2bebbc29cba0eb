"""A scan with few outputs is the scan with many."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.training import packing


def step(carry: jax.Array, x: jax.Array) -> tuple[jax.Array, Any]:
    outputs = {
        "scalar": carry.sum(),
        "whole": jnp.int32(3) + x.astype(jnp.int32),
        "matrix": jnp.outer(carry, x + jnp.arange(2.0)),
        "flag": (carry > x, x < 2),
        "empty": jnp.zeros((0, 2)),
    }
    return carry * 1.5 + x, outputs


def test_packed_scan_is_scan() -> None:
    start, inputs = jnp.arange(3.0), jnp.arange(4.0)
    both = [
        jax.jit(lambda c, x, s=s: s(step, c, x))(start, inputs)
        for s in (jax.lax.scan, packing.scan)
    ]
    jax.tree.map(np.testing.assert_array_equal, *both)
    assert jax.tree.map(lambda leaf: leaf.dtype, both[0]) == jax.tree.map(
        lambda leaf: leaf.dtype, both[1]
    )


def test_under_vmap_too() -> None:
    starts, inputs = jnp.arange(6.0).reshape(2, 3), jnp.arange(4.0)
    both = [
        jax.vmap(lambda c, s=s: s(step, c, inputs))(starts) for s in (jax.lax.scan, packing.scan)
    ]
    jax.tree.map(np.testing.assert_array_equal, *both)


def test_one_array_is_written_for_each_type() -> None:
    text = str(
        jax.make_jaxpr(lambda c, x: packing.scan(step, c, x))(jnp.arange(3.0), jnp.arange(4.0))
    )
    assert len(packing.pack(step(jnp.arange(3.0), jnp.float32(1))[1])) == 3
    assert "f32[4,7]" in text and "i32[4,1]" in text and "bool[4,4]" in text
