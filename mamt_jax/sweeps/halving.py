"""Successive halving (Li et al., ICLR 2022, Appendix G): who goes on, as a pure function.

Every combination is trained to the first rung, the best sixth of them to the second, the best sixth
of those to the third. Whoever asks gets the same answer, so that machines need not agree on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

KEPT = 6
"""One of so many goes on, and at least one."""


class Standing(NamedTuple):
    """How far a point has come."""

    point: int
    values: dict[int, float]
    """By rung, in episodes: what it was worth there."""
    lost: bool = False
    """All of its seeds have diverged."""


class Decision(NamedTuple):
    """What comes next."""

    pending: dict[int, int]
    """Points that are to be trained, and the index of the rung that they are to be trained to."""
    out: list[int]
    """Points that go no further."""
    done: list[int]
    """Points at the last rung."""


def decide(standings: Sequence[Standing], rungs: Sequence[int]) -> Decision:
    """What comes next in a sweep.

    A rung begins when all who are to reach the one before have. Of equals the first in the grid
    goes on; those lost count among the sixths, and go nowhere.

    Args:
        standings: Of all points.
        rungs: Episodes of each rung.
    """
    contenders, out = list(standings), list[int]()
    for level, episodes in enumerate(rungs):
        alive = [each for each in contenders if not each.lost]
        reached = [each for each in alive if episodes in each.values]
        if level == len(rungs) - 1 or len(reached) < len(alive):
            pending = {each.point: level for each in alive if each not in reached}
            done = [each.point for each in reached] if level == len(rungs) - 1 else []
            return Decision(pending, out, done)
        reached.sort(key=lambda each: (-each.values[episodes], each.point))
        kept = max(1, len(contenders) // KEPT)
        out += [each.point for each in reached[kept:]]
        contenders = reached[:kept]
    raise ValueError("A sweep has at least one rung.")
