"""The notebooks run, and what is shown in them belongs to their text."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest

from mamt_jax.errors import RunError
from mamt_jax.experiments.notebooks import FOLDER, NAMES, copy_to
from mamt_jax.experiments.notebooks.build import execute, read, with_outputs, with_parameters

_SMALL = {"hidden_size": 8, "attention_heads": 2, "batch_size": 8, "log_interval": 12}
TINY: dict[str, dict[str, Any]] = {
    "1_first_run": {"seeds": 2, "episodes": 36, "small": _SMALL},
    "2_compare": {"seeds": 3, "episodes": 36, "small": _SMALL},
    "3_look_inside": {"seeds": 2, "episodes": 36, "watched": 2, "small": _SMALL},
    "4_your_environment": {"seeds": 1, "episodes": 36, "small": _SMALL},
    "5_your_algorithm": {"seeds": 3, "episodes": 36, "quick_episodes": 48, "small": _SMALL},
}
"""Values of the cell tagged ``parameters``."""
_QUICK = ("1_first_run",)
"""What is not slow: each kernel imports and compiles for half a minute where nothing is cached."""
_MOST_BYTES = 400_000


def pictures(notebook: Any) -> list[int]:
    """How many pictures each cell shows."""
    return [
        sum("image/png" in output.get("data", ()) for output in cell.get("outputs", ()))
        for cell in notebook.cells
        if cell.get("id") != "injected"
    ]


@pytest.mark.parametrize(
    "name",
    [name if name in _QUICK else pytest.param(name, marks=pytest.mark.slow) for name in NAMES],
)
def test_it_runs(name: str, tmp_path: Path) -> None:
    """In an empty folder, with a picture wherever the one that is kept has one."""
    ran = execute(with_parameters(read(name), TINY[name]), tmp_path)
    assert pictures(ran) == pictures(nbformat.read(FOLDER / f"{name}.ipynb", as_version=4))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_is_of_this_text(name: str) -> None:
    path = FOLDER / f"{name}.ipynb"
    assert path.stat().st_size < _MOST_BYTES
    text, shown = read(name), nbformat.read(path, as_version=4)
    assert [(cell.cell_type, cell.source) for cell in shown.cells] == [
        (cell.cell_type, cell.source) for cell in text.cells
    ], f"python -m mamt_jax.experiments.notebooks.build {name}"
    code = [cell for cell in shown.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [each for each in outputs if each.output_type == "error"]
    assert not [each for each in outputs if each.get("name") == "stderr"]


def test_parameters_that_a_notebook_does_not_have() -> None:
    with pytest.raises(ValueError, match="the notebook has no epochs"):
        with_parameters(read("1_first_run"), {"epochs": 3})


def test_outputs_stay_with_their_code() -> None:
    text = read("1_first_run")
    shown = nbformat.read(FOLDER / "1_first_run.ipynb", as_version=4)
    text.cells[0].source = "Another title"
    kept = with_outputs(text, shown)
    assert kept.cells[0].source == "Another title" and pictures(kept) == pictures(shown)
    text.cells[-1].source = "print(3)"
    with pytest.raises(ValueError, match="the code has changed"):
        with_outputs(text, shown)


def test_they_are_copied_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mamt_jax.experiments.notebooks", "mine"]
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run(
        command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    copies = sorted((tmp_path / "mine").iterdir())
    assert [path.name for path in copies] == [
        f"{name}{end}" for name in NAMES for end in (".ipynb", ".py")
    ]
    assert all(path.read_bytes() == (FOLDER / path.name).read_bytes() for path in copies)
    copies[0].unlink()
    with pytest.raises(RunError, match="1_first_run.py is there already"):
        copy_to(tmp_path / "mine")
    assert not copies[0].exists()
    with pytest.raises(RunError, match=r"Could not copy notebooks to .*: File exists\."):
        copy_to(copies[1])
