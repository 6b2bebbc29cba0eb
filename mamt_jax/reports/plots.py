"""What figures need of matplotlib: the parts that need no window, and its own defaults.

Figures are files. Which backend ``MPLBACKEND`` names, and what a ``matplotlibrc`` sets, must
neither change them nor keep them from being drawn; whoever imports this finds matplotlib as it was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from mamt_jax.errors import OutputError

_asked = os.environ.get("MPLBACKEND")
try:
    import matplotlib
except ValueError:  # raised for a backend that is not installed
    os.environ.pop("MPLBACKEND", None)
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        del sys.modules[name]  # halves of the first try, which do not fit the second
    try:
        import matplotlib
    except Exception as error:
        raise OutputError(f"Figures need matplotlib, which cannot be loaded: {error}.") from error
    finally:
        if _asked is not None:
            os.environ["MPLBACKEND"] = _asked

from matplotlib.axes import Axes  # noqa: E402
from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import LogLocator  # noqa: E402

__all__ = ["Axes", "Figure", "LogLocator", "default_style"]


@contextmanager
def default_style() -> Iterator[None]:
    """Draws with matplotlib's defaults, whatever is set; afterwards everything is as before."""
    with matplotlib.rc_context(matplotlib.rcParamsDefault):
        yield
