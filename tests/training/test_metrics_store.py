"""The store of metrics: what its readers see while it is written."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from mamt_jax.training import metrics_store
from mamt_jax.training.run_dir import RunDir

EVENTS = 3


def recorded(points: int) -> xr.Dataset:
    """Metrics after so many logging points, which tell of every value where it belongs."""
    rows, events = np.arange(1, points + 1, dtype=np.float32), np.arange(1, EVENTS * points + 1)
    lost = np.array([np.nan, 5 if points >= 5 else np.nan])
    wide = np.broadcast_to(rows[None, :, None], (2, points, 2)).copy()
    return xr.Dataset(
        {
            "return_mean": (("seed", "update"), np.stack([rows, -rows])),
            "critic_loss": (("seed", "update", "agent"), wide, {"units": "1"}),
            "return_sum": (("seed", "event"), np.stack([events, -events]).astype(np.float32)),
            "episodes": (("seed", "event"), np.stack([events, events]).astype(np.int32)),
            "diverged_at_update": (("seed",), lost, {"units": "update"}),
        },
        {
            "seed": [3, 4],
            "update": ("update", np.arange(1, points + 1), {"units": "update"}),
            "agent": ["left", "right é"],
        },
        {"points": points, "divergence": ["", "q_mean of seed 4" if points >= 5 else ""]},
    )


@pytest.mark.parametrize("sizes", [(0, 2, 600), (7, 3, 9), (300, 0, 1)])
def test_round_trips_of_runs_that_grow_and_go_back(tmp_path: Path, sizes: tuple[int, ...]) -> None:
    for points in sizes:
        metrics_store.write(tmp_path / "store", recorded(points))
        xr.testing.assert_identical(metrics_store.read(tmp_path / "store"), recorded(points))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            xr.testing.assert_equal(plainly(tmp_path / "store"), recorded(points))
    assert metrics_store.read(tmp_path / "store").agent.dtype.kind == "U"
    assert not list(tmp_path.rglob("*.new"))


def test_rows_stay_in_their_files(tmp_path: Path) -> None:
    """A long run that grows rewrites the newest chunk of each quantity, not all that it has."""
    metrics_store.write(tmp_path / "store", recorded(300))
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*") if path.is_file()}
    metrics_store.write(tmp_path / "store", recorded(301))
    same = {path for path, inode in before.items() if path.stat().st_ino == inode}
    assert tmp_path / "store/return_mean/c/0/0" in same
    assert tmp_path / "store/return_mean/c/0/1" not in same
    assert tmp_path / "store/agent/c/0" in same


def test_losses_after_the_last_row_are_left_out(tmp_path: Path) -> None:
    """What a reader finds between the chunks and the list that speaks of them."""
    store = tmp_path / "store"
    metrics_store.write(store, recorded(4))
    listed = (store / "zarr.json").read_bytes()
    metrics_store.write(store, recorded(6))
    (store / "zarr.json").write_bytes(listed)
    xr.testing.assert_identical(metrics_store.read(store), recorded(4))


@pytest.mark.parametrize("damage", ["cut", "flip", "delete"])
def test_damage_is_found_in_every_file(tmp_path: Path, damage: str) -> None:
    store = tmp_path / "store"
    metrics_store.write(store, recorded(40))
    for path in [*store.glob("*/c/**/*"), store / "zarr.json"]:
        if path.is_dir():
            continue
        content = path.read_bytes()
        if damage == "delete":
            path.unlink()
        else:
            half = len(content) // 2
            flipped = content[:half] + bytes([content[half] ^ 128]) + content[half + 1 :]
            path.write_bytes(flipped if damage == "flip" else content[:half])
        with pytest.raises(Exception):  # noqa: B017 - whatever the codecs raise
            metrics_store.read(store)
        path.write_bytes(content)
    xr.testing.assert_identical(metrics_store.read(store), recorded(40))


def test_a_list_that_nobody_can_read_is_written_anew(tmp_path: Path) -> None:
    metrics_store.write(tmp_path / "store", recorded(4))
    for text in ("{", "[]", '{"zarr_format": 3}'):
        (tmp_path / "store/zarr.json").write_text(text)
        metrics_store.write(tmp_path / "store", recorded(5))
        xr.testing.assert_identical(metrics_store.read(tmp_path / "store"), recorded(5))


def plainly(path: Path) -> xr.Dataset:
    with xr.open_zarr(path) as dataset:
        return dataset.load()


@pytest.mark.parametrize("read", [lambda path: RunDir(path.parent).read_metrics(), plainly])
def test_readers_see_one_version_whole_while_another_is_written(
    tmp_path: Path, read: Callable[[Path], xr.Dataset]
) -> None:
    directory, writing = RunDir(tmp_path), threading.Event()
    versions = [recorded(points) for points in range(1, 41)]
    directory.write_metrics(versions[0])

    def write() -> None:
        for version in itertools.cycle([*versions, *versions[20::-5]]):
            if not writing.is_set():
                return
            directory.write_metrics(version)

    writing.set()
    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = set()
        for _ in range(40):
            found = read(directory.metrics)
            seen.add(found.sizes["update"])
            wanted = versions[found.sizes["update"] - 1]
            if read is plainly:  # the one variable that has no rows may be newer
                lost = found.diverged_at_update.attrs["lost"]
                assert lost == np.isfinite(wanted.diverged_at_update).values.tolist()
                found, wanted = (each.drop_vars("diverged_at_update") for each in (found, wanted))
            xr.testing.assert_identical(found, wanted)
    finally:
        writing.clear()
        writer.join()
    assert len(seen) > 3
