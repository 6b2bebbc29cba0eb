"""Animated GIFs."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np

from mamt_jax.envs.drawing import Frame
from mamt_jax.errors import ConfigError, OutputError

_LAST_PICTURE = 1000  # milliseconds for which the end is shown before it starts anew
_COLOURS = 127  # and one for what has not changed; with more, files grow and look the same


def check_gif(path: Path) -> None:
    """Makes sure that an animation can be written, before any time is spent on it.

    Raises:
        OutputError: The name does not end in .gif, or nothing can be written there.
    """
    if path.suffix.lower() != ".gif":
        raise OutputError(f"The name of an animation must end in .gif, got {path}.")
    if path.is_dir():
        raise OutputError(f"Cannot write {path}: it is a directory.")
    with _written(path) as part:
        part.touch()


def parse_range(text: str) -> slice:
    """Which pictures are meant by FIRST:STOP, of which either may be left out.

    Raises:
        ConfigError: The text is not of that form, or nothing is in that range.
    """
    found = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text, re.ASCII)
    first, stop = (int(part) if part else None for part in found.groups()) if found else (0, 0)
    if found is None or (stop is not None and stop <= (first or 0)):
        raise ConfigError(
            f"--gif-frames must be FIRST:STOP with FIRST below STOP, such as 0:10, :10 or 100:, "
            f"got {text!r}."
        )
    return slice(first, stop)


def write_gif(frames: Iterable[Frame], path: Path, milliseconds: int) -> int:
    """Writes an animation that repeats for ever; a file of that name is replaced.

    All pictures share one set of colours, without dithering, and each of them but the first holds
    only what has changed: what stands still takes no room, and does not flicker.

    Args:
        frames: Pictures of equal size, at least one; they are taken one by one.
        path: Where.
        milliseconds: How long to show each of them, a multiple of 10.

    Returns:
        The number of pictures.

    Raises:
        OutputError: As :func:`check_gif`, or the disk is full. What was there before stays.
    """
    from PIL import Image

    check_gif(path)
    packed: list[bytes] = []
    counts: Counter[tuple[int, int, int]] = Counter()
    for frame in frames:
        counts.update(_colours_in(Image.fromarray(frame)))
        packed.append(zlib.compress(frame.tobytes(), level=1))
        size = frame.shape[1::-1]
    palette = _palette(counts, len(packed))
    images = _images(packed, size, palette, max(_LAST_PICTURE // milliseconds - 1, 0))
    first = next(images)
    with _written(path) as part:
        # Pillow takes the others from the iterator, and adds up the times of equal ones.
        times: dict[str, Any] = {"append_images": images, "duration": milliseconds, "loop": 0}
        # With optimize, pixels that have not changed are transparent.
        saving: dict[str, Any] = {"optimize": True, "transparency": _COLOURS, "palette": palette}
        first.save(part, "GIF", save_all=True, **times, **saving)
        part.replace(path)
    return len(packed)


def _colours_in(image: Any) -> dict[tuple[int, int, int], int]:
    """Pixels of each colour; those of a photograph are rounded."""
    from PIL import ImageOps

    found: Any = image.getcolors(4096) or ImageOps.posterize(image, 4).getcolors(4096)
    return {colour: count for count, colour in found}


def _palette(counts: Counter[tuple[int, int, int]], frames: int) -> bytes:
    """The colours of an animation, and one more that stands for what has not changed.

    Each of them is the most frequent of those that it stands for, so that flat colours stay what
    they are.
    """
    from PIL import Image

    colours, pixels = np.array(list(counts), np.uint8), np.array(list(counts.values()))
    # Roots keep what is small and matters beside large areas.
    weighted = np.repeat(colours, np.ceil(np.sqrt(pixels / frames)).astype(int), axis=0)
    # Median cut, which does not merge two colours that are far apart.
    boxes = Image.fromarray(weighted[None]).quantize(_COLOURS, Image.Quantize.MEDIANCUT)
    box = np.asarray(_with_colours(Image.fromarray(colours[None]), boxes))[0]
    palette = np.zeros((_COLOURS + 1, 3), np.uint8)
    for k in np.unique(box):
        palette[k] = colours[box == k][pixels[box == k].argmax()]
    return palette.tobytes()


def _images(
    packed: Sequence[bytes], size: tuple[int, int], palette: bytes, longer: int
) -> Iterator[Any]:
    """Pillow's images of the frames, the last one `longer` times more."""
    from PIL import Image

    table = Image.new("P", (1, 1))
    table.putpalette(palette[: 3 * _COLOURS])
    for frame in packed:
        image = _with_colours(Image.frombytes("RGB", size, zlib.decompress(frame)), table)
        yield image
    yield from repeat(image, longer)


def _with_colours(image: Any, table: Any) -> Any:
    """The image in the colours of another, each pixel in the nearest one."""
    from PIL import Image

    return image.quantize(palette=table, dither=Image.Dither.NONE)


@contextmanager
def _written(path: Path) -> Iterator[Path]:
    """A file to write beside `path`, gone afterwards; its errors become one sentence."""
    part = path.with_name(path.name + ".part")
    try:
        yield part
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # its folder is no folder, or cannot be written: nothing is there
            part.unlink(missing_ok=True)
