"""The page: one HTML file that holds its module, its style and the recordings."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from importlib import resources
from typing import NamedTuple

import xarray as xr

from mamt_jax.trajectories.viewer.embed import as_script, embedded

MODULES = ("columns.mjs", "scene.mjs", "drawing.mjs", "strips.mjs", "pane.mjs", "viewer.mjs")
"""What plays recordings; inlined into one module, in this order."""
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


def assembled(title: str, data: str, modules: Sequence[str], start: str) -> str:
    """The page with its parts in their places.

    Args:
        title: Plain text.
        data: What :func:`~mamt_jax.trajectories.viewer.embed.as_script` made.
        modules: Files of this folder, see :data:`MODULES`; no two of them share a name.
        start: What the page then runs.
    """
    parts = {
        "title": html.escape(title),
        "style": _file("viewer.css"),
        "data": data,
        "module": "\n".join([*(_inlined(_file(name)) for name in modules), start]),
    }
    return re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], _file("page.html"))


def _inlined(module: str) -> str:
    """A module without what connects it to the others of the page."""
    module = re.sub(r"^import [^;]*;\n", "", module, flags=re.MULTILINE)
    return re.sub(r"^export ", "", module, flags=re.MULTILINE)


def _file(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")
