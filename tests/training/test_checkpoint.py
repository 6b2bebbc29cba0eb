"""Checkpoints: exact round trips, retention, and damage that is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.training import checkpoint
from mamt_jax.training.checkpoint import CorruptCheckpoint, Meta
from tests.training import fakes


def state_at(points: int) -> Any:
    state = fakes.trainer().init(jnp.arange(3))
    return state._replace(updates=jnp.int32(points))


def like() -> Any:
    return jax.eval_shape(fakes.trainer().init, jnp.arange(3))


def save(directory: Path, points: int, finished: bool = False) -> Any:
    state = state_at(points)
    checkpoint.save(directory, state, Meta(points, points, 1.5, finished))
    return state


def assert_equal(one: Any, two: Any) -> None:
    def raw(leaf: Any) -> np.ndarray:
        is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
        return np.asarray(jax.random.key_data(leaf) if is_key else leaf)

    assert jax.tree.structure(one) == jax.tree.structure(two)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(raw(a), raw(b))


def test_round_trip_with_typed_keys_and_empty_arrays(tmp_path: Path) -> None:
    state = save(tmp_path, 4)
    (step,) = checkpoint.steps(tmp_path)
    assert checkpoint.read_meta(step) == Meta(4, 4, 1.5, False)
    assert_equal(checkpoint.restore(step, like()), state)
    assert_equal(checkpoint.restore_learner(step, like().learner), state.learner)


def test_newest_two_are_kept(tmp_path: Path) -> None:
    for points in (1, 2, 3):
        save(tmp_path, points)
    assert [checkpoint.read_meta(step).points for step in checkpoint.steps(tmp_path)] == [2, 3]


def test_checkpoints_are_ordered_as_numbers(tmp_path: Path) -> None:
    for points in (999_998, 999_999, 1_000_000):
        save(tmp_path, points)
    assert [step.name for step in checkpoint.steps(tmp_path)] == ["999999", "1000000"]


def test_later_checkpoints_of_an_abandoned_past_go(tmp_path: Path) -> None:
    for points in (2, 4, 3):
        save(tmp_path, points)
    assert [checkpoint.read_meta(step).points for step in checkpoint.steps(tmp_path)] == [2, 3]


def test_finished_run_keeps_only_its_learner(tmp_path: Path) -> None:
    save(tmp_path, 1)
    state = save(tmp_path, 2, finished=True)
    (step,) = checkpoint.steps(tmp_path)
    assert sorted(path.name for path in step.iterdir()) == ["learner", "meta.json"]
    assert_equal(checkpoint.restore_learner(step, like().learner), state.learner)
    with pytest.raises(CorruptCheckpoint, match="no part 'rest'"):
        checkpoint.restore(step, like())


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tensorstore's
@pytest.mark.parametrize("damage", ["truncate", "garbage", "delete"])
def test_damage_never_passes_for_intact(tmp_path: Path, damage: str) -> None:
    """Every file in turn: either the state still comes back exactly, or the damage is reported."""
    noticed = 0
    save(tmp_path / "whole", 4)
    for original in [path for path in (tmp_path / "whole").rglob("*") if path.is_file()]:
        directory = tmp_path / "copy"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", directory)
        path = directory / original.relative_to(tmp_path / "whole")
        content = path.read_bytes()
        if damage == "truncate":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "garbage":
            path.write_bytes(bytes(255 - byte for byte in content))
        else:
            path.unlink()
        (step,) = checkpoint.steps(directory)
        try:
            assert_equal(checkpoint.restore(step, like()), state_at(4))
        except CorruptCheckpoint as error:
            assert str(step) in str(error)
            noticed += 1
    assert noticed >= 3


def test_another_structure_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 4)
    (step,) = checkpoint.steps(tmp_path)
    other = jax.eval_shape(fakes.trainer().init, jnp.arange(5))
    with pytest.raises(CorruptCheckpoint, match="does not fit this version"):
        checkpoint.restore(step, other)


def test_failed_write_leaves_the_earlier_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = save(tmp_path, 4)

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path, 5)
    (step,) = checkpoint.steps(tmp_path)
    assert_equal(checkpoint.restore(step, like()), state)
    assert not (tmp_path / "incomplete").exists()
