"""Chunks of a batch give what the whole batch gives."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.ops.chunking import chunk_count, in_chunks, take
from tests.ops.chunks import cut

IN_AXES = ({"x": -2, "action": -1, "absent": -1, "scale": None},)


def parts(given: dict[str, Any]) -> tuple[jax.Array, dict[str, jax.Array], jax.Array]:
    """A mean, a dict with the batch last but one, and rows with the batch last."""
    x, scale = given["x"], given["scale"]
    rows = {"twice": 2 * x, "square": scale[:, None] * x[None] ** 2}
    return jnp.mean(x, axis=1), rows, given["action"] + 1


def given() -> dict[str, Any]:
    return {
        "x": jax.random.normal(jax.random.key(0), (2, 12, 3)),
        "action": jnp.arange(24).reshape(2, 12),
        "absent": None,
        "scale": jnp.arange(1.0, 3.0)[:, None],
    }


@pytest.mark.parametrize("chunks", (1, 2, 3, 12))
def test_chunks_are_put_where_they_belong(chunks: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 12 // chunks, least=1)
    chunked = in_chunks(parts, IN_AXES, (None, -2, -1), values=1)
    mean, rows, after = jax.jit(chunked)(given())
    program = str(jax.make_jaxpr(chunked)(given()))
    assert ("scan[" in program or "while[" in program) == (chunks > 1)
    expected = parts(given())
    np.testing.assert_allclose(mean, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(rows["twice"], expected[1]["twice"])
    np.testing.assert_array_equal(rows["square"], expected[1]["square"])
    np.testing.assert_array_equal(after, expected[2])


def test_some_samples_are_taken_along_their_axes() -> None:
    whole, rows = given(), jnp.array([4, 0, 4])
    some = take(whole, IN_AXES[0], rows)
    np.testing.assert_array_equal(some["x"], whole["x"][:, rows])
    np.testing.assert_array_equal(some["action"], whole["action"][:, rows])
    np.testing.assert_array_equal(some["scale"], whole["scale"])
    assert some["absent"] is None


def test_chunks_fit_and_divide_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 1000)
    assert chunk_count(64, 15) == 1
    assert chunk_count(64, 16) == 2
    assert chunk_count(96, 20) == 2
    assert chunk_count(96, 21) == 3


def test_too_small_chunks_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 1000)
    assert chunk_count(64, 1000) == 2  # of 32 samples, the fewest, though they do not fit
    assert chunk_count(61, 1000) == 1  # a prime


def test_masked_batches_stay_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    cut(monkeypatch, 1000)
    assert chunk_count(64, 100, jnp.ones((2, 64), bool)) == 1
