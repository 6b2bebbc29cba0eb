"""Makes each .ipynb of the .py beside it, with what a run of it shows.

python -m mamt_jax.experiments.notebooks.build               # all, a minute or two each
python -m mamt_jax.experiments.notebooks.build 3_look_inside
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from PIL import Image

import mamt_jax
from mamt_jax.experiments.notebooks import FOLDER, NAMES

PARAMETERS = "parameters"
"""Tag of the one cell whose numbers a test makes smaller."""
_CELL_SECONDS = 900


def read(name: str) -> Any:
    """A notebook as its text has it, without outputs."""
    notebook = jupytext.read(FOLDER / f"{name}.py")
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number}"  # jupytext draws them at random
    return notebook


def with_parameters(notebook: Any, values: Mapping[str, Any]) -> Any:
    """Sets other values, in a cell of their own after the one tagged ``parameters``.

    Raises:
        ValueError: There is not one such cell, or it does not set all of these.
    """
    tagged = [
        place
        for place, cell in enumerate(notebook.cells)
        if PARAMETERS in cell.metadata.get("tags", ())
    ]
    if len(tagged) != 1:
        raise ValueError(f"one cell must be tagged {PARAMETERS}, found {len(tagged)}.")
    found: dict[str, Any] = {}
    exec(notebook.cells[tagged[0]].source, found)
    if unknown := sorted(values.keys() - found.keys()):
        raise ValueError(f"the notebook has no {', '.join(unknown)}.")
    code = "\n".join(f"{name} = {value!r}" for name, value in values.items())
    cell = nbformat.v4.new_code_cell(code, id="injected")
    notebook.cells.insert(tagged[0] + 1, cell)
    return notebook


def execute(notebook: Any, folder: Path) -> Any:
    """Runs all cells in a fresh kernel of this Python, in ``folder``; outputs go into the notebook.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell failed.
    """
    home = str(Path(mamt_jax.__file__).parents[1])  # this mamt_jax, also where another is installed
    path = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    client = NotebookClient(
        notebook,
        timeout=_CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    )
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}  # XLA complains of slow compilation on a busy machine
    return client.execute(env=os.environ | quiet | {"PYTHONPATH": path})


def smaller(png: str) -> str:
    """A picture (base64) in 256 colours, a third of its size, for the repository's sake."""
    written = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as picture:
        flat = Image.alpha_composite(
            Image.new("RGBA", picture.size, "white"), picture.convert("RGBA")
        )
        flat.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(
            written, "PNG", optimize=True
        )
    return base64.b64encode(written.getvalue()).decode()


def with_outputs(notebook: Any, shown: Any) -> Any:
    """The notebook with the outputs of another of the same code.

    Raises:
        ValueError: The code differs.
    """
    ran = [cell for cell in shown.cells if cell.cell_type == "code"]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.source for cell in ran] != [cell.source for cell in code]:
        raise ValueError(
            "the code has changed since the notebook was run; build it without --text."
        )
    for cell, before in zip(code, ran, strict=True):
        cell.update(outputs=before.outputs, execution_count=before.execution_count)
    notebook.metadata = shown.metadata
    return notebook


def build(name: str, text_only: bool = False) -> Path:
    """Runs one and writes its .ipynb; or writes a changed text beside what was shown before."""
    path, notebook = FOLDER / f"{name}.ipynb", read(name)
    if text_only:
        notebook = with_outputs(notebook, nbformat.read(path, as_version=4))
    else:
        with tempfile.TemporaryDirectory() as folder:
            notebook = execute(notebook, Path(folder))
        for output in (each for cell in notebook.cells for each in cell.get("outputs", ())):
            if "image/png" in output.get("data", ()):
                output.data["image/png"] = smaller(output.data["image/png"])
    nbformat.write(notebook, path)
    return path


def main() -> None:
    """Builds those that are named, or all."""
    parser = argparse.ArgumentParser(description="Makes each notebook of its text.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}")
    parser.add_argument("--text", action="store_true", help="run nothing: only the text changed")
    chosen = parser.parse_args()
    if unknown := [name for name in chosen.names if name not in NAMES]:
        parser.error(f"no notebook is called {unknown[0]}; there are {', '.join(NAMES)}")
    for name in chosen.names or NAMES:
        begin = time.monotonic()
        path = build(name, chosen.text)
        seconds, size = time.monotonic() - begin, path.stat().st_size
        print(f"{path}: {seconds:.0f} s, {size / 1000:.0f} kB", flush=True)


if __name__ == "__main__":
    main()
