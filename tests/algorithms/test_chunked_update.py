"""An update that goes through its batch in chunks is the update of the whole batch."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.registry import make
from mamt_jax.ops import chunking
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import quick
from tests.ops import chunks

GAME = Game((4, 3, 4), (3, 3, 3), teams=((0, 1, 2),))
CHUNKED = (("mamt", "all"), ("mamt", "one"), ("mamt_ppo", "all"))
"""Between them they have every part that goes through chunks."""


@pytest.mark.parametrize(("name", "opponents"), CHUNKED)
def test_chunked_update(name: str, opponents: str, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"delta_period": 1, "ppo_epochs": 1, "ppo_minibatches": 1}
    settings = tiny.settings(**options, modelling_opponents=opponents)
    algorithm = make(name, GAME, settings)
    state, batch = tiny.grown(algorithm), tiny.batch_for(algorithm, *GAME[:2], size=12)

    def update() -> Any:
        run = quick.jit(lambda *arguments: algorithm.update(*arguments))
        return run(state, jax.random.key(3), batch, jnp.int32(0))

    whole = update()
    chunks.cut(monkeypatch, 60, least=2)
    assert chunking.chunk_count(12, 12) == 3, "the update is meant to be in chunks"
    chunked = update()

    def close(path: Any, one: jax.Array, other: jax.Array) -> None:
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        np.testing.assert_allclose(
            one, other, rtol=2e-4, atol=1e-6, err_msg=jax.tree_util.keystr(path)
        )

    jax.tree_util.tree_map_with_path(close, whole, chunked)
