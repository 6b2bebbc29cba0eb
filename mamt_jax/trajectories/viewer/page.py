"""The page: one HTML file that holds its module, its style and the recordings."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import xarray as xr

from mamt_jax.errors import OutputError
from mamt_jax.files import write_whole
from mamt_jax.trajectories.viewer.embed import as_script, embedded

MODULES = ("columns.mjs", "scene.mjs", "drawing.mjs", "strips.mjs", "pane.mjs", "viewer.mjs")
"""What plays recordings; inlined into one module, in this order."""
_OURS = b'<meta name="generator" content="mamt_jax viewer">'
_HEIGHT = 760
"""Pixels of the frame in a notebook."""


class Source(NamedTuple):
    """Recordings of one run, or one recording."""

    label: str
    recordings: Sequence[xr.Dataset]


def page(sources: Sequence[Source], title: str) -> str:
    """The page that plays recordings.

    Args:
        sources: What can be chosen; of the first and the last something is shown side by side.
        title: Of the page.
    """
    data = {
        "title": title,
        "sources": [
            {"label": source.label, "recordings": [embedded(each) for each in source.recordings]}
            for source in sources
        ],
    }
    return assembled(title, as_script(data), MODULES, "startViewer();")


def frame(recording: xr.Dataset) -> str:
    """The page of one recording for a notebook: a frame that may run its script and nothing else.

    It needs no kernel, and an exported notebook holds it whole.
    """
    about = recording.attrs
    label = f"{about.get('algorithm', '')} on {about.get('env', '')}"
    inside = html.escape(page([Source(label, [recording])], label), quote=True)
    return (
        f'<iframe sandbox="allow-scripts" srcdoc="{inside}" title="{html.escape(label)}" '
        f'style="width: 100%; height: {_HEIGHT}px; border: 0"></iframe>'
    )


def check_page(path: Path) -> None:
    """Makes sure that a page can be written, before any time is spent on it.

    Raises:
        OutputError: The name does not end in .html, a file of that name is no page of ours, or
            nothing can be written there.
    """
    if path.suffix.lower() not in (".html", ".htm"):
        raise OutputError(f"The name of a page must end in .html, got {path}.")
    if path.is_dir():
        raise OutputError(f"Cannot write {path}: it is a directory.")
    with _output_errors(path):
        if path.exists() and _OURS not in path.read_bytes()[:2000]:
            raise OutputError(f"{path} exists and is no page of mamt view; choose another name.")
        part = path.with_name(f".{path.name}.new")
        part.touch()
        part.unlink()


def write_page(text: str, path: Path) -> None:
    """Writes a page; one that was there before is replaced.

    Raises:
        OutputError: As :func:`check_page`, or the disk is full. What was there before stays.
    """
    check_page(path)
    with _output_errors(path):
        write_whole(path, text.encode())


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error


def assembled(
    title: str,
    data: str,
    modules: Sequence[str],
    start: str,
    template: str = "page.html",
    styles: Sequence[str] = ("viewer.css",),
) -> str:
    """The page with its parts in their places.

    Args:
        title: Plain text.
        data: What :func:`~mamt_jax.trajectories.viewer.embed.as_script` made.
        modules: Files of this folder, see :data:`MODULES`; no two of them share a name.
        start: What the page then runs.
        template: File of this folder: the page without them.
        styles: Likewise, of how it looks.
    """
    parts = {
        "title": html.escape(title),
        "style": "\n".join(map(_file, styles)),
        "data": data,
        "module": "\n".join([*(_inlined(_file(name)) for name in modules), start]),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file(template))


def _inlined(module: str) -> str:
    """A module without what connects it to the others of the page."""
    module = re.sub(r"^import [^;]*;\n", "", module, flags=re.MULTILINE)
    return re.sub(r"^export ", "", module, flags=re.MULTILINE)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
