"""One self-contained HTML page that plays recordings, in a file or in a notebook."""

from mamt_jax.trajectories.viewer.page import Source, check_page, frame, page, write_page

__all__ = ["Source", "check_page", "frame", "page", "write_page"]
