"""Notebooks to start from. Each is a .py in jupytext's percent format and, beside it, an .ipynb.

The .py is what is written; the .ipynb is made of it by :mod:`mamt_jax.experiments.notebooks.build`
and holds what a run of it showed. Jupyter with jupytext keeps the two together.

    python -m mamt_jax.experiments.notebooks DIR     # copies them to where you want to work
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mamt_jax.errors import RunError

FOLDER = Path(__file__).parent
NAMES = (
    "1_first_run",
    "2_compare",
    "3_look_inside",
    "4_your_environment",
    "5_your_algorithm",
)


def copy_to(folder: Path) -> list[Path]:
    """Copies the notebooks and their texts, for somebody to change.

    Args:
        folder: Where; created if missing.

    Returns:
        The files written, .ipynb and .py by turns.

    Raises:
        RunError: One of them is there already, and then none is copied; or the folder cannot be
            written.
    """
    copies = [folder / f"{name}{suffix}" for name in NAMES for suffix in (".ipynb", ".py")]
    for copy in copies:
        if copy.exists():
            raise RunError(f"{copy} is there already; copy the notebooks into another folder.")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for copy in copies:
            shutil.copyfile(FOLDER / copy.name, copy)
    except OSError as error:
        raise RunError(
            f"Could not copy notebooks to {folder}: {error.strerror or error}."
        ) from error
    return copies
