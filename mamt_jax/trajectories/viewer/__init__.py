"""One self-contained HTML page that plays recordings, in a file or in a notebook."""

from mamt_jax.trajectories.viewer.page import Source, frame, page

__all__ = ["Source", "frame", "page"]
