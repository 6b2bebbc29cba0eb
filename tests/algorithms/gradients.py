"""Gradients of NumPy losses, and those that an optimiser has seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax


def differences(loss: Callable[[Any], float], params: Any, width: float = 1e-6) -> Any:
    """Gradient of a loss of nested dicts of arrays by central differences."""
    leaves, structure = jax.tree.flatten(params)
    out = [np.zeros_like(leaf) for leaf in leaves]
    for leaf, grad in zip(leaves, out, strict=True):
        for index in np.ndindex(leaf.shape):
            kept = leaf[index]
            values = []
            for sign in (1, -1):
                leaf[index] = kept + sign * width
                values.append(loss(jax.tree.unflatten(structure, leaves)))
            leaf[index] = kept
            grad[index] = (values[0] - values[1]) / (2 * width)
    return jax.tree.unflatten(structure, out)


def clipped(gradient: Any, limit: float) -> Any:
    norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
    return jax.tree.map(lambda leaf: leaf * min(1.0, limit / norm), gradient)


def seen(opt_state: optax.OptState, b1: float) -> Any:
    """What Adam saw in its first step: after clip and weight decay."""
    is_adam = lambda node: isinstance(node, optax.ScaleByAdamState)  # noqa: E731
    states = [s for s in jax.tree.leaves(opt_state, is_leaf=is_adam) if is_adam(s)]
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64) / (1 - b1), states[0].mu)[
        "params"
    ]


def assert_equal(got: Any, expected: Any) -> None:
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(got), jax.tree.leaves(expected), strict=True
    ):
        scale = np.abs(other).max()
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(one, other, atol=2e-4 * scale + 1e-7, err_msg=name)
