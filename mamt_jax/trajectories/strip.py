"""What is written below every picture of an episode: step, return so far and actions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mamt_jax.envs import drawing
from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.drawing import Frame

OUT = -1  # instead of the action of an agent that is out of the episode
MIN_WIDTH = 320  # pixels, which the first line needs
_INSET, _LINE, _GAP = 10, 18, 14  # pixels: at the sides, of a line, between columns
_MAX_LINES = 12
# Of text. Many more of them would make half of an animation of Pursuit.
_SHADES = np.array(
    [drawing.mix(drawing.PAPER, drawing.INK, share) for share in (0.0, 0.33, 0.67, 1.0)], np.uint8
)


@dataclass(frozen=True)
class Strip:
    """Writes below pictures of one width.

    Attributes:
        spec: Of the environment.
        names: What the agents are called, length n.
        width: Of the pictures in pixels, at least `MIN_WIDTH`.
    """

    spec: EnvSpec
    names: Sequence[str]
    width: int

    @property
    def height(self) -> int:
        """Of the strip in pixels, the same for all steps."""
        return 2 * (_LINE * (1 + self._lines) // 2 + 5)

    def write(self, step: int, return_so_far: float, actions: NDArray[Any] | None) -> Frame:
        """The strip, uint8 ``[height, width, 3]``.

        Args:
            step: Steps since the start.
            return_so_far: Undiscounted, averaged over agents.
            actions: Those that led here ``[n]``, `OUT` for agents that took none; None at the
                start.
        """
        from PIL import Image, ImageDraw

        image = Image.new("L", (self.width, self.height))
        pen, face = ImageDraw.Draw(image), drawing.font(drawing.TEXT_SIZE)

        def put(x: float, line: int, text: str, anchor: str) -> None:
            pen.text((x, 5 + _LINE * (line + 0.5)), text, 255, face, anchor=anchor)

        put(_INSET, 0, f"return so far {written(return_so_far)}", "lm")
        put(self.width - _INSET, 0, f"step {step} of {self.spec.episode_length}", "rm")
        columns, column_width = self._columns
        shown = min(self.spec.num_agents, columns * self._lines)
        for i in range(shown):
            text = self._label(i, None if actions is None else int(actions[i]))
            if i == shown - 1 and shown < self.spec.num_agents:
                text = f"and {self.spec.num_agents - i} more"
            line, column = divmod(i, columns)
            put(_INSET + column * column_width, 1 + line, _cut(text, column_width - _GAP), "lm")
        return _SHADES[np.asarray(image) // 64]

    def _label(self, agent: int, action: int | None) -> str:
        if action is None:
            return f"{self.names[agent]}: -"
        if action == OUT:
            return f"{self.names[agent]}: out"
        words = self.spec.action_names
        return f"{self.names[agent]}: {action if words is None else words[agent][action]}"

    @cached_property
    def _columns(self) -> tuple[int, int]:
        """How many columns, and how wide each of them is; wide enough for every action."""
        longest = max(
            _length(self._label(i, action))
            for i in range(self.spec.num_agents)
            for action in (OUT, *range(self.spec.action_counts[i]))
        )
        available = self.width - 2 * _INSET + _GAP
        count = min(max(available // (longest + _GAP), 1), self.spec.num_agents)
        return count, available // count

    @property
    def _lines(self) -> int:
        """Of actions."""
        return min(-(-self.spec.num_agents // self._columns[0]), _MAX_LINES)


def written(value: float) -> str:
    """A number in at most nine letters."""
    if not abs(value) < 1e5:  # NaN, too
        return f"{value:.3g}"
    return f"{round(value, 2) + 0.0:.2f}"  # never -0.00


def _length(text: str) -> int:
    """Of a text in pixels."""
    return int(np.ceil(drawing.font(drawing.TEXT_SIZE).getlength(text)))


def _cut(text: str, pixels: int) -> str:
    """The text, or as much of it as fits, and two dots."""
    if _length(text) <= pixels:
        return text
    while text and _length(text + "..") > pixels:
        text = text[:-1]
    return text + ".."
