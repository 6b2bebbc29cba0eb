"""Whatever a `render` returns, as pictures of one size."""

from __future__ import annotations

from typing import Any

import numpy as np

from mamt_jax.envs.drawing import PAPER, Frame
from mamt_jax.errors import ConfigError

_LEAST, _MOST = 320, 640  # pixels: smaller pictures are shown larger, foreign ones not beyond this


def as_picture(drawn: Any, name: str) -> Frame:
    """uint8 ``[H, W, 3]`` of a grey, RGB or RGBA picture, whose numbers may be floats in [0, 1].

    Args:
        drawn: What an environment returned.
        name: The environment's.

    Raises:
        ConfigError: That is no picture.
    """
    try:
        array = np.asarray(drawn)
    except Exception:  # ragged, or of a kind that NumPy cannot read
        array = np.asarray(None)
    kind = array.dtype.kind
    if array.ndim == 2:
        array = array[..., None]
    if kind not in "biuf" or array.ndim != 3 or array.shape[2] not in (1, 3, 4) or not array.size:
        got = f"shape {array.shape} and type {array.dtype}" if array.ndim else f"{drawn!r:.60}"
        raise ConfigError(
            f"{name} cannot be drawn: render must return a picture [H, W, 3], got {got}."
        )
    if kind == "b" or (kind == "f" and array.max() <= 1.0):
        array = array * 255.0
    if not (array.min() >= 0 and array.max() <= 255):
        raise ConfigError(
            f"{name} cannot be drawn: the numbers of a picture must be in 0 to 255, got "
            f"{array.min()} to {array.max()}."
        )
    if array.shape[2] == 4:
        opaque = array[..., 3:] / 255.0
        array = opaque * array[..., :3] + (1.0 - opaque) * np.array(PAPER)
    if array.dtype != np.uint8:
        array = np.rint(array).astype(np.uint8)
    return np.broadcast_to(array, (*array.shape[:2], 3))


def size_for(picture: Frame, foreign: bool) -> tuple[int, int]:
    """Height and width, even numbers, at which an episode that begins with it is shown.

    Small pictures are magnified by a whole number, and those of `foreign` environments made smaller
    if they are large. None is less than 320 pixels wide.
    """
    height, width = picture.shape[:2]
    longest = max(height, width)
    scale = max(_LEAST // longest, 1) if not foreign or longest <= _MOST else _MOST / longest
    height, width = (max(2 * round(scale * side / 2), 2) for side in (height, width))
    return height, max(width, _LEAST)


def fitted(picture: Frame, size: tuple[int, int]) -> Frame:
    """The picture in the middle of one of this size (height, width), as large as it can be."""
    height, width = size
    if picture.shape[:2] == size:
        return picture
    from PIL import Image

    scale = min(height / picture.shape[0], width / picture.shape[1])
    scale = int(scale) if scale >= 1 else scale
    how = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX
    own = [max(round(scale * side), 1) for side in picture.shape[1::-1]]
    small = Image.fromarray(np.ascontiguousarray(picture)).resize((own[0], own[1]), how)
    whole = Image.new("RGB", (width, height), PAPER)
    whole.paste(small, ((width - own[0]) // 2, (height - own[1]) // 2))
    return np.asarray(whole)
