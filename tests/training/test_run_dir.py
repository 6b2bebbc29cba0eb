"""The run directory: what it holds and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from mamt_jax import RunError
from mamt_jax.errors import ConfigError
from mamt_jax.training import run_dir
from mamt_jax.training.checkpoint import CorruptCheckpoint, Meta
from mamt_jax.training.run_dir import RunDir
from tests.training import fakes


def dataset(value: float = 1.0, rows: int = 3) -> xr.Dataset:
    names = ("delta", "return_mean", "return_sum", "episodes")
    return xr.Dataset({name: ("update", np.full(rows, value, np.float32)) for name in names})


def test_config_round_trip(tmp_path: Path) -> None:
    config = fakes.config(env_options={"num_agents": 3}, learning_rate=3e-4)
    directory = RunDir(tmp_path / "run")
    directory.create(config)
    assert directory.read_config() == config
    directory.check_same(config)
    text = (tmp_path / "run/config.json").read_text()
    assert json.loads(text)["settings"]["learning"]["learning_rate"] == 3e-4
    assert text.count("\n") > 20  # one setting a line, for people


def test_versions_name_what_matters(tmp_path: Path) -> None:
    found = run_dir.versions()
    for name in ("python", "jax", "jaxlib", "flax", "optax", "numpy", "mamt_jax", "device_kind"):
        assert found[name], name
    for name in ("distrax", "jraph", "tfp_nightly", "chex", "xarray", "zarr"):
        assert found[name], name
    json.dumps(found)


def test_differing_settings_are_named(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config())
    with pytest.raises(ConfigError, match=r"delta_init \(run: 1.0, asked: 2.0\); seeds \(run: 3"):
        directory.check_same(fakes.config(seeds=4, delta_init=2.0))


@pytest.mark.parametrize("content", ["", "{", "[]", '{"surprise": 1}', '{"seeds": "x"}'])
def test_corrupt_config(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(RunError, match="config.json is corrupt"):
        RunDir(tmp_path).read_config()


def test_taken_directories_are_refused(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config())
    with pytest.raises(RunError, match="already holds a run"):
        directory.create(fakes.config())
    (tmp_path / "other").mkdir()
    (tmp_path / "other/thesis.tex").touch()
    with pytest.raises(RunError, match="not an empty directory"):
        RunDir(tmp_path / "other").create(fakes.config())
    with pytest.raises(RunError, match="not an empty directory"):
        RunDir(tmp_path / "other/thesis.tex").create(fakes.config())
    (tmp_path / "nowhere").symlink_to("gone")
    with pytest.raises(RunError, match="not an empty directory"):
        RunDir(tmp_path / "nowhere").create(fakes.config())
    with pytest.raises(RunError, match="Could not create"):
        RunDir(tmp_path / "other/thesis.tex/run").create(fakes.config())


def test_options_that_json_cannot_hold_leave_nothing_behind(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "run")
    with pytest.raises(ConfigError, match="env_options must be what JSON can hold"):
        directory.create(fakes.config(env_options={"num_agents": {2}}))
    assert not directory.path.exists()


def test_lock_keeps_a_second_writer_out(tmp_path: Path) -> None:
    one, two = RunDir(tmp_path), RunDir(tmp_path)
    with (
        one.lock(),
        pytest.raises(RunError, match="is being written by another process"),
        two.lock(),
    ):
        pass
    with two.lock():
        pass


def test_how_a_run_is_carried_out_may_differ(tmp_path: Path) -> None:
    """So may its length; what is asked for is recorded, whole, and once."""
    directory = RunDir(tmp_path / "run")
    directory.create(fakes.config())
    changed: dict[str, Any] = {"env_workers": 3, "env_timeout": 9.0, "checkpoint_interval": 4}
    changed |= {"keep_checkpoints": "all", "seed_batch": 3, "episodes": 140}
    config = fakes.config(**changed)
    directory.check_same(config)
    directory.update_config(config)
    assert directory.read_config() == config
    before = (directory.path / "config.json").stat().st_mtime_ns
    directory.update_config(config)
    assert (directory.path / "config.json").stat().st_mtime_ns == before
    assert {path.name for path in directory.path.iterdir()} == {
        "config.json",
        "versions.json",
        "checkpoints",
    }


def test_names_that_no_disk_takes(tmp_path: Path) -> None:
    long = tmp_path / ("n" * 300)
    with pytest.raises(RunError, match="Could not create the run directory .*: File name too long"):
        RunDir(long).create(fakes.config())
    with pytest.raises(RunError, match="File name too long"):
        RunDir(long).read_config()
    deep = tmp_path
    while len(str(deep)) < 4040:
        deep = deep / ("d" * min(200, 4050 - len(str(deep))))
    with pytest.raises(RunError, match="Could not create the run directory .*: File name too long"):
        RunDir(deep).create(fakes.config())
    assert not any(tmp_path.iterdir())


def test_bytes_that_are_no_text_are_recorded(tmp_path: Path) -> None:
    config = fakes.config(env_options={"level": "caf\udce9", "title": "é"})
    RunDir(tmp_path / "run").create(config)
    assert RunDir(tmp_path / "run").read_config() == config


def test_metrics_are_replaced_whole(tmp_path: Path) -> None:
    directory = RunDir(tmp_path)
    with pytest.raises(RunError, match="no metrics yet"):
        directory.read_metrics()
    for value in (1, 2):
        directory.write_metrics(dataset(value))
        assert directory.read_metrics().delta.values.tolist() == [value] * 3
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.zarr"]


def test_metrics_without_returns_are_corrupt(tmp_path: Path) -> None:
    directory = RunDir(tmp_path)
    directory.write_metrics(dataset().drop_vars("return_sum"))
    with pytest.raises(RunError, match="are corrupt: no return_sum"):
        directory.read_metrics()


def test_full_disk_keeps_the_metrics_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = RunDir(tmp_path)
    before, longer = dataset(1), dataset(1, rows=5)
    directory.write_metrics(before)

    written, left = Path.write_bytes, [0]

    def write(path: Path, data: bytes) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return written(path, data)

    for files in range(4):  # in addition to those of the times before
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", write)
            left[0] = files
            with pytest.raises(RunError, match="write the metrics .* the disk is full; .* kept.$"):
                directory.write_metrics(longer)
        xr.testing.assert_identical(directory.read_metrics(), before)
    directory.write_metrics(longer)
    xr.testing.assert_identical(directory.read_metrics(), longer)


def test_a_checkpoint_that_does_not_come_back_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(*_: Any) -> None:
        raise CorruptCheckpoint("rest.npz does not hold what was written.")

    monkeypatch.setattr("mamt_jax.training.checkpoint.save", lost)
    with pytest.raises(RunError, match="could not be read back: rest.npz .* are kept.$") as said:
        RunDir(tmp_path).save_checkpoint(None, Meta(1, 1, 1.0))
    assert not isinstance(said.value, CorruptCheckpoint)


def test_full_disk_is_found_behind_library_errors(tmp_path: Path) -> None:
    with (
        pytest.raises(RunError, match="the disk is full"),
        run_dir.disk_errors(tmp_path, "write a checkpoint", "the metrics are kept"),
    ):
        raise ValueError("RESOURCE_EXHAUSTED: Error writing file [OS error 28: No space left]")
    with (
        pytest.raises(RunError, match="Permission denied; the metrics are kept.$"),
        run_dir.disk_errors(tmp_path, "write a checkpoint", "the metrics are kept"),
    ):
        raise PermissionError(13, "Permission denied")
    with (
        pytest.raises(RuntimeError, match="Out of memory"),  # of the device, no matter of the disk
        run_dir.disk_errors(tmp_path, "write a checkpoint", "the metrics are kept"),
    ):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")


def test_corrupt_metrics(tmp_path: Path) -> None:
    directory = RunDir(tmp_path)
    directory.write_metrics(dataset())
    (directory.metrics / "zarr.json").write_text("{")
    with pytest.raises(RunError, match="are corrupt"):
        directory.read_metrics()


def test_falls_back_to_an_older_checkpoint(tmp_path: Path) -> None:
    directory = RunDir(tmp_path)
    for name in ("000001", "000002"):
        (directory.checkpoints / name).mkdir(parents=True)

    def read(step: Path) -> str:
        if step.name == "000002":
            raise CorruptCheckpoint(f"Checkpoint {step} is corrupt.")
        return step.name

    with pytest.warns(UserWarning, match="Falling back to .*000001"):
        assert directory.newest_intact(read) == "000001"

    def all_corrupt(step: Path) -> str:
        raise CorruptCheckpoint(f"Checkpoint {step} is corrupt.")

    with pytest.raises(RunError, match="000002 is corrupt. .* no other that is intact"):
        directory.newest_intact(all_corrupt)
