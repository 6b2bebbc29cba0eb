"""Learners that have learned nothing, for live pages: random numbers where training has its own."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.algorithms import registry
from mamt_jax.settings import Settings
from mamt_jax.training.game import game_of


class Case(NamedTuple):
    env: Any
    algorithm: str
    settings: dict[str, Any]


_SCALES = {"norm": 0.2, "actor": 0.7, "head_out": 1.5}


def learner_of(case: Case) -> tuple[Any, Settings, Any]:
    """(algorithm, settings, state): random weights, statistics and units, so nothing compiles."""
    recipe = registry.get(case.algorithm)
    settings = recipe.settings.replace({"hidden_size": 8} | case.settings)
    algorithm = recipe(game_of(case.env.spec), settings)
    rng = np.random.default_rng(1)

    def drawn(path: Any, leaf: Any) -> Any:
        name = jax.tree_util.keystr(path)
        if leaf.dtype != jnp.float32:
            return leaf
        if any(part in name for part in ("var", "weight", "total")):
            return np.float32(rng.uniform(0.2, 2.0, leaf.shape))
        scale = next((scale for part, scale in _SCALES.items() if part in name), 0.4)
        return np.float32(rng.normal(0.0, scale, leaf.shape))

    state = jax.eval_shape(algorithm.init, jax.random.key(0))
    return algorithm, settings, jax.tree_util.tree_map_with_path(drawn, state)
