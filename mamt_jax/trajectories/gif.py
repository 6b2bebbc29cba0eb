"""Animated GIFs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import repeat
from pathlib import Path
from typing import Any

from mamt_jax.errors import OutputError
from mamt_jax.trajectories.frames import Frame

_LAST_PICTURE = 1000  # milliseconds for which the end is shown before it starts anew


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


def write_gif(frames: Iterable[Frame], path: Path, milliseconds: int) -> int:
    """Writes an animation that repeats for ever; a file of that name is replaced.

    Args:
        frames: Pictures of equal size, at least one; they are taken one by one.
        path: Where.
        milliseconds: How long to show each of them, a multiple of 10.

    Returns:
        The number of pictures.

    Raises:
        OutputError: As :func:`check_gif`, or the disk is full. What was there before stays.
    """
    check_gif(path)
    count = 0

    def counted() -> Iterator[Frame]:
        nonlocal count
        for frame in frames:
            count += 1
            yield frame

    images = _images(counted(), max(_LAST_PICTURE // milliseconds - 1, 0))
    first = next(images)
    with _written(path) as part:
        # Pillow takes the others from the iterator, and adds up the times of equal ones.
        options: dict[str, Any] = {"append_images": images, "duration": milliseconds, "loop": 0}
        first.save(part, "GIF", save_all=True, optimize=False, **options)
        part.replace(path)
    return count


def _images(frames: Iterable[Frame], longer: int) -> Iterator[Any]:
    """Pillow's images of the frames, the last one `longer` times more."""
    from PIL import Image

    for frame in frames:
        image = Image.fromarray(frame)
        yield image
    yield from repeat(image, longer)


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
