"""Checkpoints: exact round trips, retention, and damage that is noticed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

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


def save(directory: Path, points: int, keep: int | str = "all", planned: int = 0) -> Any:
    state = state_at(points)
    checkpoint.save(directory, state, Meta(points, points, 1.5), keep, planned)
    return state


def held(directory: Path) -> dict[int, set[str]]:
    """Names of the files of every checkpoint."""
    return {
        checkpoint.read_meta(step).points: {path.name for path in step.iterdir()}
        for step in checkpoint.steps(directory)
    }


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
    assert checkpoint.read_meta(step) == Meta(4, 4, 1.5)
    assert_equal(checkpoint.restore(step, like()), state)
    assert_equal(checkpoint.restore_learner(step, like().learner), state.learner)


def test_the_newest_two_are_whole_and_earlier_ones_policies(tmp_path: Path) -> None:
    for points in range(1, 8):
        save(tmp_path, points, keep=4, planned=7)
    policies, whole = {"learner.npz", "meta.json"}, {"learner.npz", "meta.json", "rest.npz"}
    assert held(tmp_path) == {1: policies, 4: policies, 6: whole, 7: whole}
    first, *_, last = checkpoint.steps(tmp_path)
    assert_equal(checkpoint.restore_learner(first, like().learner), state_at(1).learner)
    assert checkpoint.check_whole(last) == Meta(7, 7, 1.5)
    for read in (checkpoint.check_whole, lambda step: checkpoint.restore(step, like())):
        with pytest.raises(CorruptCheckpoint, match="holds policies alone"):
            read(first)


@pytest.mark.parametrize("keep", [2, 3, 4, 5, 9, "all"])
@pytest.mark.parametrize(("planned", "done"), [(200, 200), (200, 90), (60, 200), (3, 3)])
def test_what_is_kept_is_spread_over_the_run(keep: int | str, planned: int, done: int) -> None:
    """Over a run that ends as planned, that is stopped early, or is prolonged once it has ended."""
    kept: list[int] = []
    for points in range(1, done + 1):
        kept = checkpoint.thinned([*kept, points], keep, planned if points <= planned else done)
    if keep == "all" or int(keep) >= done:
        assert kept == list(range(1, done + 1))
        return
    assert len(kept) == keep
    assert kept[-2:] == [done - 1, done]
    if keep > 2:
        spread = [*kept[:-2], done]
        even = (done - 1) / (len(spread) - 1)
        assert kept[0] == 1
        most = 1.1 if done == planned else 2.0
        assert np.diff(spread).max() <= most * even + 1


def test_checkpoints_are_ordered_as_numbers(tmp_path: Path) -> None:
    for points in (999_998, 999_999, 1_000_000):
        save(tmp_path, points, keep=2)
    assert [step.name for step in checkpoint.steps(tmp_path)] == ["999999", "1000000"]


def test_later_checkpoints_of_an_abandoned_past_go(tmp_path: Path) -> None:
    for points in (2, 4, 3):
        save(tmp_path, points, keep=2)
    assert [checkpoint.read_meta(step).points for step in checkpoint.steps(tmp_path)] == [2, 3]


@pytest.mark.parametrize("damage", ["truncate", "garbage", "delete", "empty", "longer"])
def test_damage_never_passes_for_intact(tmp_path: Path, damage: str) -> None:
    """Every file in turn."""
    save(tmp_path / "whole", 4)
    for original in [path for path in (tmp_path / "whole").rglob("*") if path.is_file()]:
        directory = tmp_path / "copy"
        shutil.rmtree(directory, ignore_errors=True)
        shutil.copytree(tmp_path / "whole", directory)
        path = directory / original.relative_to(tmp_path / "whole")
        content = path.read_bytes()
        changed = {
            "truncate": content[: len(content) // 2],
            "garbage": bytes(255 - byte for byte in content),
            "empty": b"",
            "longer": content + b"{}",
        }
        if damage == "delete":
            path.unlink()
        else:
            path.write_bytes(changed[damage])
        (step,) = checkpoint.steps(directory)
        with pytest.raises(CorruptCheckpoint, match=str(step)):
            checkpoint.restore(step, like())


def test_no_flipped_bit_passes_for_intact(tmp_path: Path) -> None:
    """In headers, names, sizes and data of the archives as in the text beside them."""
    state, shapes = save(tmp_path, 4), like()
    (step,) = checkpoint.steps(tmp_path)
    for path in step.iterdir():
        content = path.read_bytes()
        places = range(0, 8 * len(content), max(1, 8 * len(content) // 250))
        for place in places:
            flipped = bytearray(content)
            flipped[place // 8] ^= 1 << place % 8
            path.write_bytes(flipped)
            with pytest.raises(CorruptCheckpoint, match="is corrupt|holds policies alone"):
                checkpoint.restore(step, shapes)
        path.write_bytes(content)
    assert_equal(checkpoint.restore(step, shapes), state)


def test_a_checkpoint_that_does_not_come_back_costs_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 4, keep=2)
    save(tmp_path, 5, keep=2)
    written = np.savez

    def lossy(file: Any, **arrays: Any) -> None:
        written(file, **{name: np.zeros_like(leaf) for name, leaf in arrays.items()})

    def cut(file: Any, **arrays: Any) -> None:
        written(file, **arrays)
        file.truncate(file.tell() // 2)

    for fault in (lossy, cut):
        with monkeypatch.context() as patch:
            patch.setattr(np, "savez", fault)
            with pytest.raises(CorruptCheckpoint, match="does not hold|cannot be read back"):
                save(tmp_path, 6, keep=2)
        assert list(held(tmp_path)) == [4, 5]
        assert not (tmp_path / "incomplete").exists()
    assert_equal(checkpoint.restore(checkpoint.steps(tmp_path)[-1], like()), state_at(5))


def test_a_checkpoint_of_an_earlier_version_is_called_that(tmp_path: Path) -> None:
    step = tmp_path / "000004"
    (step / "learner").mkdir(parents=True)
    (step / "meta.json").write_text('{"meta": {"points": 4}, "checksums": {"learner": {}}}')
    with pytest.raises(CorruptCheckpoint, match="is of an earlier version"):
        checkpoint.restore_learner(step, like().learner)


def test_numbers_that_numpy_does_not_know_come_back(tmp_path: Path) -> None:
    state = state_at(4)
    small = {"w": state.learner["w"].astype(jnp.bfloat16)}
    state = state._replace(seeds=state.seeds._replace(learner=small))
    checkpoint.save(tmp_path, state, Meta(4, 4, 1.5))
    (step,) = checkpoint.steps(tmp_path)
    assert_equal(checkpoint.restore(step, jax.eval_shape(lambda: state)), state)


@pytest.mark.parametrize("capacity", [3, 5, 8])
def test_a_replay_fits_a_run_of_another_length(tmp_path: Path, capacity: int) -> None:
    """It is filled up with zeros, or cut where nothing was stored yet."""

    def state(rows: int) -> Any:
        stored = jnp.zeros((2, rows, 3)).at[:, :3].set(jnp.arange(18.0).reshape(2, 3, 3))
        replay = {"storage": stored}
        return state_at(4)._replace(seeds=Holding({"w": jnp.ones(2)}, ReplayLike(**replay)))

    checkpoint.save(tmp_path, state(5), Meta(4, 4, 1.5))
    (step,) = checkpoint.steps(tmp_path)
    wanted = state(capacity)
    assert_equal(checkpoint.restore(step, jax.eval_shape(lambda: wanted)), wanted)


class ReplayLike(NamedTuple):
    """Where a ``ReplayState`` has its transitions."""

    storage: jax.Array


class Holding(NamedTuple):
    """Where a ``SeedState`` has its replay."""

    learner: Any
    store: ReplayLike


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
        patch.setattr(np, "savez", full)
        with pytest.raises(OSError, match="No space left"):
            save(tmp_path, 5)
    (step,) = checkpoint.steps(tmp_path)
    assert_equal(checkpoint.restore(step, like()), state)
    assert not (tmp_path / "incomplete").exists()
