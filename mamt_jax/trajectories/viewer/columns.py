"""Arrays of a recording as columns of the page: whole numbers on an even scale, deflated.

`columns.mjs` reads them. Shape legend: E episodes, T times (steps or moments), K entries.
"""

from __future__ import annotations

import base64
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGE = 250_000
"""Numbers of a column from which on one byte each has to do, for the sake of the page's size."""


def column(array: NDArray[Any]) -> dict[str, Any]:
    """An array as a column of the page; NaN stays NaN, and whole numbers stay exact.

    Args:
        array: ``[E, T, ...]``, numbers or flags.

    Returns:
        `shape` [E, T, K], `bits` of a number, `low` and `step` of the scale, and `data` as text.
        The largest code stands for NaN.
    """
    flat = np.asarray(array).reshape(*array.shape[:2], -1)
    values = flat.astype(np.float64)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    whole = flat.dtype.kind in "biu"
    bits = _bits(flat, high - low)
    levels = 2**bits - 1  # codes 0 to levels - 1, and NaN
    step = 1.0 if whole and high - low < levels else max(high - low, 1e-12) / (levels - 1)
    codes = np.where(np.isfinite(values), np.round((values - low) / step), levels)
    return {
        "shape": list(flat.shape),
        "bits": bits,
        "low": low,
        "step": step,
        "data": _packed(codes.astype(np.uint16 if bits == 16 else np.uint8)),
    }


def _bits(array: NDArray[Any], extent: float) -> int:
    """Bits of a number of the column."""
    if array.dtype.kind in "biu":
        return 8 if extent < 255 else 16
    return 8 if array.size > _LARGE else 16


def _packed(codes: NDArray[Any]) -> str:
    """Codes [E, T, K] as [E, K, T], differences in time, their bytes in planes, deflated."""
    series = codes.transpose(0, 2, 1)
    changes = np.diff(series, axis=-1, prepend=series.dtype.type(0))  # wraps around
    planes = [(changes >> shift).astype(np.uint8) for shift in range(0, 8 * codes.itemsize, 8)]
    raw = b"".join(plane.tobytes() for plane in planes)
    return base64.b64encode(zlib.compress(raw, 9)).decode("ascii")
