"""Drawing primitives for `Environment.render`: host side, NumPy and Pillow, never traced.

A `Canvas` shows a rectangle of the plane, y upwards. It is drawn `_OVERSAMPLING` times too large
and shrunk at the end, which smooths every edge.

What a canvas shows never depends on the state: pictures of one episode differ where something
moved, and nowhere else.
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
TEXT_SIZE = 13  # pixels, of text below a picture
_STRIP = 26  # pixels of the line of text below it
VIEW = 1.5  # the particle worlds are shown from -VIEW to VIEW, along both axes
_ARROW = 0.1  # length of an arrow to a body outside of the view
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
def font(pixels: int) -> Any:
    """Pillow's own font, of this height."""
    from PIL import ImageFont

    return ImageFont.load_default(pixels)


class Canvas:
    """A picture of the rectangle from `low` to `high`, in units of the plane.

    `side` is the length of its longer side in pixels.
    """

    def __init__(self, low: Point, high: Point, side: int = SIDE) -> None:
        from PIL import Image, ImageDraw

        width, height = high[0] - low[0], high[1] - low[1]
        self._low, self._high = low, high
        self._unit = side * _OVERSAMPLING / max(width, height)  # drawn pixels a unit
        # Even numbers of pixels, which video formats ask for.
        self._size = tuple(2 * round(self._unit * s / _OVERSAMPLING / 2) for s in (width, height))
        drawn = (self._size[0] * _OVERSAMPLING, self._size[1] * _OVERSAMPLING)
        self._image = Image.new("RGB", drawn, PAPER)
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

    def polygon(self, corners: Sequence[Point], fill: Colour, outline: Colour) -> None:
        """A polygon with a thin rim."""
        places = [self._pixel(corner) for corner in corners]
        self._pen().polygon(places, fill, outline, _OVERSAMPLING)

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
        face = font(round(pixels * _OVERSAMPLING))
        rim: dict[str, Any] = {"stroke_width": round(1.5 * _OVERSAMPLING), "stroke_fill": halo}
        where, style = self._pixel(centre), rim if halo else {}
        self._pen().text(where, text, colour, face, anchor="mm", **style)

    def arrow(self, start: Point, towards: Point, size: float, colour: Colour) -> None:
        """A triangle of this length that points from `start` towards another place."""
        ahead = np.asarray(edge_towards(start, towards, size)) - start
        aside = 0.6 * np.array([-ahead[1], ahead[0]])
        corners = (start + ahead, start + aside, start - aside)
        self._pen().polygon([self._pixel(corner) for corner in corners], colour)

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


def line_of_text(text: str, width: int) -> Frame:
    """A line to put below a picture of this width."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (width, _STRIP), PAPER)
    ImageDraw.Draw(image).text((10, _STRIP / 2 - 1), text, INK, font(TEXT_SIZE), anchor="lm")
    return np.asarray(image)


def plane() -> Canvas:
    """Canvas of the particle worlds: the start square [-1, 1]^2 and what is around it."""
    canvas = Canvas((-VIEW, -VIEW), (VIEW, VIEW))
    canvas.rectangle((-1.0, -1.0), (1.0, 1.0), WHITE, outline=FAINT)
    for tick in (-0.5, 0.0, 0.5):
        canvas.line((tick, -1.0), (tick, 1.0), FAINT, width=0.5)
        canvas.line((-1.0, tick), (1.0, tick), FAINT, width=0.5)
    return canvas


def in_view(position: NDArray[Any], radius: float) -> NDArray[Any]:
    """Where bodies are drawn on `plane`, [n, 2]: if not all inside, at its rim, beside an arrow.

    Args:
      position: [n, 2], where they are.
      radius: of the largest body.
    """
    beyond = np.abs(position).max(axis=-1, keepdims=True) > VIEW - radius
    rim = VIEW - 1.2 * radius - _ARROW
    return np.where(beyond, np.clip(position, -rim, rim), position)


def point_outside(
    canvas: Canvas, shown: NDArray[Any], position: NDArray[Any], radius: float, colour: Colour
) -> None:
    """An arrow from a disk at `shown` [2] towards its `position` [2], if that is elsewhere."""
    if (shown != position).any():
        start = np.asarray(edge_towards(shown, position, 1.15 * radius))
        canvas.arrow(start, position, _ARROW, colour)


def edge_towards(centre: Any, other: Any, radius: float) -> Point:
    """Where the line from `centre` [2] to `other` [2] leaves a disk; `other` if that is inside."""
    delta = np.asarray(other) - np.asarray(centre)
    return centre + delta * min(radius / max(float(np.hypot(*delta)), 1e-9), 1.0)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """A colour between two, with this share of the other."""
    red, green, blue = (round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))
    return red, green, blue


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
