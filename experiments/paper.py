"""Published numbers of Li et al. 2022: Tables 2 and 10, and Figure 12."""

from __future__ import annotations

from typing import NamedTuple


class Published(NamedTuple):
    """Return of the last 1,000 training episodes over the paper's seeds."""

    mean: float
    std: float


NAMES = {
    "maac": "MAAC",
    "mappo": "MA-PPO",
    "maddpg": "MADDPG",
    "lola_dqn": "LOLA",
    "mamt": "MAMT",
    "mamd": "MAMD",
    "mamt_random": "MAMT-Random",
    "mamt_fixed": "MAMT-Fixed",
    "mamt_ws": "MAMT-WS",
    "mamt_ppo": "MAMT-PPO",
}
"""The paper's names of our algorithms, in the order of its Table 10."""


def _row(*numbers: tuple[float, float] | None) -> dict[str, Published]:
    """One environment, in the order of :data:`NAMES`; None where the paper has no number."""
    return {
        name: Published(*each)
        for name, each in zip(NAMES, numbers, strict=True)
        if each is not None
    }


# fmt: off
TABLE10 = {
    "spread": _row(
        (-43.23, 0.76), (-42.29, 0.61), (-43.33, 0.68), (-42.08, 1.23), (-38.06, 0.69),
        (-42.17, 1.05), (-43.04, 0.88), (-41.29, 0.73), (-39.83, 0.72), (-39.65, 0.47),
    ),
    "multiwalker": _row(
        (-30.16, 3.38), (-38.52, 4.22), (-49.76, 3.97), None, (-4.70, 4.38),
        (-4.92, 3.91), (-30.52, 3.17), (-4.82, 3.14), (-4.90, 4.86), (-4.98, 4.05),
    ),
    "rover_tower": _row(
        (121.79, 6.84), (120.36, 6.02), (87.46, 6.50), None, (145.95, 5.77),
        (127.80, 5.04), (115.11, 6.13), (123.21, 5.87), (133.70, 6.22), (141.33, 5.95),
    ),
    "pursuit": _row(
        (19.86, 1.19), (20.05, 1.20), (5.05, 1.33), None, (25.62, 1.30),
        (22.30, 1.81), (16.48, 1.33), (21.54, 1.62), (17.17, 2.89), (25.04, 1.68),
    ),
}
# fmt: on
"""By environment and algorithm. The caption says 5 seeds, 3 for what was added in revision."""

TABLE2 = {"spread": 0.9547, "multiwalker": 0.9016, "rover_tower": 0.8376, "pursuit": 0.8588}
"""Share of the updates whose Σδ_i is at most δ."""
EPISODES_RATIO = {"spread": 3.78, "multiwalker": 2.05, "rover_tower": 2.43, "pursuit": 1.56}
"""Figure 12: episodes of MAMT-PPO for one of MAMT. The figure's four numbers, in the order of its
environments elsewhere; which bar is which cannot be read from the text."""
