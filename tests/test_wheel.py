"""What is installed: one top-level name, with every file, whichever way it is built."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {"mamt_jax": "mamt_jax", "envs": "mamt_jax/envs", "experiments": "mamt_jax/experiments"}
"""Where folders of the repository lie in a wheel."""


class Built(NamedTuple):
    """Made from a copy of the sources, to which a module and a file of data were added."""

    source: Path
    wheel: Path
    sdist: Path
    editable: Path


def build(source: Path, out: Path, *kinds: str) -> list[Path]:
    """Distributions as pip has them built, but offline, with the setuptools that is installed."""
    out.mkdir()
    code = "import sys, setuptools.build_meta as b; [getattr(b, k)('{}') for k in sys.argv[1:]]"
    command = [sys.executable, "-c", code.format(out), *(f"build_{kind}" for kind in kinds)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return sorted(out.iterdir())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in (*FOLDERS, "tests", "benchmarks"):
        ignored = shutil.ignore_patterns("__pycache__", "golden")
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    (source / "envs/added.py").write_text("THERE = True\n")
    (source / "experiments/added.txt").write_text("There.\n")
    (editable,) = build(source, folder / "editable", "editable")
    sdist, wheel = build(source, folder / "dist", "sdist", "wheel")[::-1]
    assert (sdist.suffix, wheel.suffix) == (".gz", ".whl")
    return Built(source, wheel, sdist, editable)


def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as opened:
        return sorted(opened.namelist())


def test_a_wheel_has_one_name_and_every_file(built: Built) -> None:
    inside = [name for name in names(built.wheel) if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in inside} == {"mamt_jax"}
    expected = [
        f"{home}/{path.relative_to(built.source / folder)}"
        for folder, home in FOLDERS.items()
        for path in (built.source / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {"mamt_jax/py.typed", "mamt_jax/envs/added.py", "mamt_jax/experiments/added.txt"} <= {
        *expected
    }
    assert inside == sorted(expected)


def test_a_wheel_of_the_source_distribution_is_the_same(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    assert not (source / "tests").exists() and not (source / "benchmarks").exists()
    (wheel,) = build(source, tmp_path / "dist", "wheel")
    assert names(wheel) == names(built.wheel)


def test_an_editable_install_finds_what_is_added_later(built: Built, tmp_path: Path) -> None:
    """In a folder that has packages of the same names."""
    site = tmp_path / "site"
    with zipfile.ZipFile(built.editable) as opened:
        opened.extractall(site)
    for name in ("envs", "experiments", "benchmarks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise SystemExit('the wrong {name}')\n")
    (built.source / "envs/later.py").write_text("THERE = True\n")
    (built.source / "experiments/later.py").write_text("THERE = True\n")
    code = (
        f"import site, sys\nsys.path.insert(0, '')\nsite.addsitedir({str(site)!r})\n"
        f"sys.path.append({sysconfig.get_path('purelib')!r})\n"
        "from mamt_jax.envs import later as one\nfrom mamt_jax.experiments import later as two\n"
        "print(one.__file__, two.__file__)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]  # without what this environment has of ours
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        str(built.source / f"mamt_jax/{name}/later.py") for name in ("envs", "experiments")
    ]


@pytest.mark.parametrize("name", ["envs", "experiments"])
def test_the_checkout_says_what_to_import(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {name}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    says = f"This folder is imported as mamt_jax.{name}: `from mamt_jax import {name}`."
    assert done.stderr.splitlines()[-1] == f"ImportError: {says}"
