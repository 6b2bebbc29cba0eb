"""Figures need no backend, and importing what draws them leaves everything as it was."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import pytest

from mamt_jax.reports.plots import Figure, default_style

CODE = """
import os
import mamt_jax.reports.figures, benchmarks.figures
from mamt_jax.reports.plots import Figure, matplotlib
Figure().savefig("x.png")
print(os.environ["MPLBACKEND"], dict.__getitem__(matplotlib.rcParams, "backend"))
"""


@pytest.mark.parametrize(
    ("backend", "left"),
    [("module://nobody_has.this", ""), ("nonsense", ""), ("tkagg", "tkagg")],
)
def test_any_backend_will_do(backend: str, left: str, tmp_path: Path) -> None:
    environment = os.environ | {"MPLBACKEND": backend, "PYTHONPATH": os.getcwd()}
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, env=environment, cwd=tmp_path
    )
    assert done.stdout.startswith(f"{backend} {left}"), done.stderr
    assert (tmp_path / "x.png").stat().st_size > 100


def test_figures_do_not_depend_on_settings(tmp_path: Path) -> None:
    def draw(name: str) -> bytes:
        with default_style():
            Figure((1, 1)).savefig(tmp_path / name)
        return (tmp_path / name).read_bytes()

    plain = draw("plain.png")
    strange = {"figure.facecolor": "red", "text.usetex": True, "savefig.bbox": "tight"}
    with matplotlib.rc_context(strange):
        assert draw("strange.png") == plain
        assert matplotlib.rcParams["figure.facecolor"] == "red"
    Figure((1, 1), facecolor="red").savefig(tmp_path / "red.png")
    assert (tmp_path / "red.png").read_bytes() != plain
