"""Drawing primitives for `Environment.render`: host side, NumPy and Pillow, never traced.

A `Canvas` shows a rectangle of the plane, y upwards, with one line of text below it. It is drawn
`_OVERSAMPLING` times too large and shrunk at the end, which smooths every edge.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]
Point = Any  # (x, y): a tuple, or an array [2]
Frame = NDArray[np.uint8]  # [H, W, 3]

INK: Colour = (52, 58, 70)
FAINT: Colour = (226, 227, 230)
PAPER: Colour = (246, 246, 244)
WHITE: Colour = (255, 255, 255)
ALERT: Colour = (214, 39, 40)
# Tell who belongs together; used in this order and from the start again.
_PALETTE: tuple[Colour, ...] = (
    (66, 117, 176),
    (240, 138, 38),
    (76, 155, 80),
    (152, 100, 176),
    (98, 170, 180),
    (206, 120, 150),
    (150, 118, 88),
    (182, 160, 40),
)

SIDE = 400  # pixels of a picture's longer side
_STRIP = 26  # pixels of the line of text below it
_CAPTION_SIZE = 13
_OVERSAMPLING = 2
_SMALLEST_TEXT, _LARGEST_TEXT = 9.0, 40.0  # pixels


def colour_of(index: int) -> Colour:
    """Colour of the team, pair or agent with this number."""
    return _PALETTE[index % len(_PALETTE)]


def milliseconds_per_frame(episode_length: int) -> int:
    """How long to show each picture of an episode: 0.1 s for 25 steps, less for many, more for few.

    A multiple of 10, the unit of animated GIFs.
    """
    return 10 * round(min(max(250.0 / episode_length, 6.0), 50.0))


@cache
def _font(pixels: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(pixels)


class Canvas:
    """A picture of the rectangle from `low` to `high`, in units of the plane."""

    def __init__(self, low: Point, high: Point, background: Colour = PAPER) -> None:
        from PIL import Image, ImageDraw

        width, height = high[0] - low[0], high[1] - low[1]
        self._low, self._high = low, high
        self._unit = SIDE * _OVERSAMPLING / max(width, height)  # drawn pixels a unit
        # Even numbers of pixels, which video formats ask for.
        self._size = tuple(2 * round(self._unit * s / _OVERSAMPLING / 2) for s in (width, height))
        drawn = (self._size[0] * _OVERSAMPLING, (self._size[1] + _STRIP) * _OVERSAMPLING)
        self._image = Image.new("RGB", drawn, background)
        # Blending is several times slower than painting over.
        self._painting, self._blending = (ImageDraw.Draw(self._image, m) for m in ("RGB", "RGBA"))

    def rectangle(
        self,
        low: Point,
        high: Point,
        fill: Colour,
        alpha: float = 1.0,
        outline: Colour | None = None,
        roundness: float = 0.0,
    ) -> None:
        """A rectangle; `roundness` is the radius of its corners in units of the plane."""
        pen, box, corner = self._pen(alpha), self._box(low, high), roundness * self._unit
        pen.rounded_rectangle(box, corner, _blend(fill, alpha), outline, _OVERSAMPLING)

    def disk(
        self,
        centre: Point,
        radius: float,
        fill: Colour,
        alpha: float = 1.0,
        outline: Colour | None = None,
        width: float = 1.5,
    ) -> None:
        """A disk; its outline is `width` pixels wide and lies inside of it."""
        box = self._box(*_around(centre, radius))
        pixels = round(width * _OVERSAMPLING)
        self._pen(alpha).ellipse(box, _blend(fill, alpha), outline, pixels if outline else 0)

    def shared_disk(self, centre: Point, radius: float, fills: Sequence[Colour]) -> None:
        """A disk divided into equal sectors, one of each colour."""
        box, angle = self._box(*_around(centre, radius)), 360.0 / len(fills)
        for k, fill in enumerate(fills):
            self._pen().pieslice(box, k * angle - 90.0, (k + 1) * angle - 90.0, fill)

    def line(
        self, start: Point, end: Point, colour: Colour, alpha: float = 1.0, width: float = 1.5
    ) -> None:
        """A straight line, `width` pixels wide."""
        ends = [self._pixel(start), self._pixel(end)]
        self._pen(alpha).line(ends, _blend(colour, alpha), round(width * _OVERSAMPLING))

    def dots(
        self, start: Point, end: Point, colour: Colour, alpha: float = 1.0, width: float = 3.0
    ) -> None:
        """A straight line of dots, `width` pixels wide and three times that apart."""
        (x0, y0), (x1, y1) = self._pixel(start), self._pixel(end)
        radius = width * _OVERSAMPLING / 2
        count = min(int(math.hypot(x1 - x0, y1 - y0) / (6 * radius)), SIDE)
        for share in np.linspace(0.0, 1.0, count + 1):
            x, y = x0 + share * (x1 - x0), y0 + share * (y1 - y0)
            box = (x - radius, y - radius, x + radius, y + radius)
            self._pen(alpha).ellipse(box, _blend(colour, alpha))

    def text(
        self,
        centre: Point,
        text: str,
        height: float,
        colour: Colour = INK,
        halo: Colour | None = None,
    ) -> None:
        """Text of about this height in units of the plane, kept within a legible range."""
        pixels = min(max(height * self._unit / _OVERSAMPLING, _SMALLEST_TEXT), _LARGEST_TEXT)
        font = _font(round(pixels * _OVERSAMPLING))
        rim: dict[str, Any] = {"stroke_width": round(1.5 * _OVERSAMPLING), "stroke_fill": halo}
        where, style = self._pixel(centre), rim if halo else {}
        self._pen().text(where, text, colour, font, anchor="mm", **style)

    def caption(self, left: str, right: str) -> None:
        """The line of text below the picture."""
        font, (width, height) = _font(_CAPTION_SIZE * _OVERSAMPLING), self._size
        inset, y = 10 * _OVERSAMPLING, (height + _STRIP / 2 - 1) * _OVERSAMPLING
        self._pen().text((inset, y), left, INK, font, anchor="lm")
        self._pen().text((width * _OVERSAMPLING - inset, y), right, INK, font, anchor="rm")

    def array(self) -> Frame:
        """What was drawn: uint8 [H, W, 3]."""
        return np.asarray(self._image.reduce(_OVERSAMPLING))

    def _pen(self, alpha: float = 1.0) -> Any:
        return self._painting if alpha == 1.0 else self._blending

    def _pixel(self, point: Point) -> Point:
        x = (float(point[0]) - self._low[0]) * self._unit
        return x, (self._high[1] - float(point[1])) * self._unit

    def _box(self, low: Point, high: Point) -> tuple[float, float, float, float]:
        (left, bottom), (right, top) = self._pixel(low), self._pixel(high)
        # Pillow counts the last pixel as part of a shape.
        return left, top, max(right - 1, left), max(bottom - 1, top)


def plane(position: NDArray[Any], radius: float) -> Canvas:
    """Canvas of the particle worlds: the start square [-1, 1]^2, and more where bodies need it.

    Args:
      position: [..., 2], everything that must be seen.
      radius: of the largest body.
    """
    limit = max(1.25, float(np.abs(position).max()) + 1.5 * radius)
    canvas = Canvas((-limit, -limit), (limit, limit))
    canvas.rectangle((-1.0, -1.0), (1.0, 1.0), WHITE, outline=FAINT)
    for tick in (-0.5, 0.0, 0.5):
        canvas.line((tick, -1.0), (tick, 1.0), FAINT, width=0.5)
        canvas.line((-1.0, tick), (1.0, tick), FAINT, width=0.5)
    return canvas


def edge_towards(centre: Any, other: Any, radius: float) -> Point:
    """Where the line from `centre` [2] to `other` [2] leaves a disk; `other` if that is inside."""
    delta = np.asarray(other) - np.asarray(centre)
    return centre + delta * min(radius / max(float(np.hypot(*delta)), 1e-9), 1.0)


def dark(colour: Colour) -> Colour:
    """A darker shade, for outlines and landmarks."""
    red, green, blue = (round(0.65 * part) for part in colour)
    return red, green, blue


def light(colour: Colour) -> Colour:
    """A shade almost white, for halos of text."""
    red, green, blue = (round(255 - 0.25 * (255 - part)) for part in colour)
    return red, green, blue


def _blend(colour: Colour, alpha: float) -> tuple[int, int, int, int]:
    return (*colour, round(255 * alpha))


def _around(centre: Point, radius: float) -> tuple[Point, Point]:
    x, y = float(centre[0]), float(centre[1])
    return (x - radius, y - radius), (x + radius, y + radius)
