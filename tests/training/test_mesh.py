"""Seeds on eight devices are those on one, bit by bit: metrics, policies, checkpoints, resumed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from mamt_jax.training import mesh
from mamt_jax.training.run_dir import RunDir
from tests.training.many_devices import train

FORCED = "--xla_force_host_platform_device_count=8"
RUNS = ["3", "8", "11", *(f"list/learning_rate={rate}" for rate in (0.1, 0.3, 5.0))]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Runs on one device, and on eight; there one of one device was gone on with, too."""
    one, eight = (tmp_path_factory.mktemp(name) for name in ("one", "eight"))
    for what in ("3", "8", "11", "list"):
        train(one, what)
    shutil.copytree(one / "11", eight / "resumed" / "11")
    flags = f"{os.environ.get('XLA_FLAGS', '')} {FORCED}"
    script = (
        "import sys; from pathlib import Path; from tests.training.many_devices import train\n"
        "import jax; folder = Path(sys.argv[1])\n"
        "for what in ('3', '8', '11', 'list'): train(folder, what)\n"
        "train(folder / 'resumed', '11-on'); print(jax.local_device_count())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(eight)],
        env=os.environ | {"XLA_FLAGS": flags},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout.split() == ["8"], done.stderr
    return one, eight


def same(one: Path, other: Path) -> None:
    first, second = (RunDir(path).read_metrics() for path in (one, other))
    for name in first.variables:
        np.testing.assert_array_equal(first[name], second[name], str(name))
    steps = RunDir(one).saved(), RunDir(other).saved()
    assert steps[0].keys() == steps[1].keys()
    for points, step in steps[0].items():
        for file in step.glob("*.npz"):
            with np.load(file) as here, np.load(steps[1][points] / file.name) as there:
                assert set(here) == set(there)
                for name in here:
                    np.testing.assert_array_equal(here[name], there[name], name)


@pytest.mark.parametrize("run", RUNS)
def test_eight_devices_compute_what_one_does(folders: tuple[Path, Path], run: str) -> None:
    """Fewer seeds than devices, as many, more that do not divide evenly, and settings."""
    same(folders[0] / run, folders[1] / run)


def test_a_run_goes_on_with_another_number_of_devices(folders: tuple[Path, Path]) -> None:
    one, eight = folders
    train(one, "11-on")
    same(one / "11", eight / "resumed" / "11")
    train(one, "8-on")
    train(eight, "8-on")
    same(one / "8", eight / "8")


def test_no_device_has_more_rows_than_it_must(monkeypatch: pytest.MonkeyPatch) -> None:
    """The fewest devices on which rows take no longer; padding repeats the last row."""
    monkeypatch.setattr(mesh.jax, "local_devices", lambda: list(range(8)))
    monkeypatch.setattr(mesh, "Mesh", lambda devices, _: SimpleNamespace(size=len(devices)))
    sizes = {rows: mesh.mesh_of(rows) for rows in (1, 3, 8, 9, 11, 17)}
    counts = {rows: 1 if found is None else found.size for rows, found in sizes.items()}
    assert counts == {1: 1, 3: 3, 8: 8, 9: 5, 11: 6, 17: 6}
    assert mesh.padded(np.arange(11), sizes[11]).tolist() == [*range(11), 10]
    assert mesh.share(11, sizes[11]) == 2
