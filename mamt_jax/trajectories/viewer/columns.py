"""Arrays of a recording as columns of the page: whole numbers on an even scale, deflated.

`columns.mjs` reads them. Shape legend: E episodes, T times (steps or moments), K entries.
"""

from __future__ import annotations

import base64
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_STEPS = ((100_000, 65_533), (250_000, 4_000), (1_000_000, 250), (math.inf, 30))
"""Into how many steps the range of a column of at most so many numbers is divided.

Large columns are coarse, so that ten episodes of anything fit a page of 2 MB. That of attention in
Pursuit, which decides about the width of lines alone, has over a million numbers.
"""


def column(array: NDArray[Any]) -> dict[str, Any]:
    """An array as a column of the page; NaN stays NaN, and whole numbers stay exact.

    Args:
        array: ``[E, T, ...]``, numbers or flags.

    Returns:
        `shape` [E, T, K], `bits` of a code, the values `low` of code 0, `high` of the largest and
        `step` between two, and `data`, the codes as text. One more code, all ones, is NaN.
    """
    flat = np.asarray(array).reshape(*array.shape[:2], -1)
    values = flat.astype(np.float64)
    # The page's numbers are float32. Whole ones are whole in any type that they were brought to.
    finite = np.abs(values) <= np.finfo(np.float32).max
    known = values[finite]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    steps = next(steps for most, steps in _STEPS if flat.size <= most)
    if high - low < 65_535 and (known == np.round(known)).all():
        steps = max(int(high - low), 1)
    bits = 8 if steps < 255 else 16
    step = max((high - low) / steps, 1e-12) if high > low else 1.0
    codes = np.where(finite, np.round((values - low) / step), 2**bits - 1)
    return {
        "shape": list(flat.shape),
        "bits": bits,
        "low": low,
        "high": high,
        "step": step,
        "data": _packed(codes.astype(np.uint16 if bits == 16 else np.uint8)),
    }


def _packed(codes: NDArray[Any]) -> str:
    """Codes [E, T, K] as [E, K, T], differences in time, their bytes in planes, deflated."""
    series = codes.transpose(0, 2, 1)
    changes = np.diff(series, axis=-1, prepend=series.dtype.type(0))  # wraps around
    planes = [(changes >> shift).astype(np.uint8) for shift in range(0, 8 * codes.itemsize, 8)]
    raw = b"".join(plane.tobytes() for plane in planes)
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
