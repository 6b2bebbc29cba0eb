"""An episode that is watched while it is played: what a stage yields of it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import numpy as np


class Moment(NamedTuple):
    """An episode that is watched, after `step` steps."""

    step: int
    return_so_far: float
    """Undiscounted, averaged over agents."""
    action: np.ndarray | None
    """int32 [n], what led here: -1 where the policy is not finite. None at the start."""
    alive: np.ndarray | None
    """bool [n], who took it."""
    draw: Callable[[], Any]
    """The environment's own picture, to be asked for before the next moment."""


class Watched(NamedTuple):
    """A greedy episode, moment by moment."""

    longest: int
    """Steps that it may take."""
    names: tuple[str, ...]
    """What agents are called below a picture."""
    foreign: bool
    """Pictures are not ours, and may be of any size."""
    moments: Generator[Moment]
    """The start and what every step led to."""
