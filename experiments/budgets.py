"""Which runs reproduce the paper, and how long they are at each budget, as data.

A column of its Table 10 is a :class:`Variant`; ``planned("mamt", "spread", "cpu")`` is the run that
makes one cell of it. What the budget ``cpu`` trains where a study already did is that study's run,
and its record is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mamt_jax.experiments.studies import EQ_8, SMALL_BATCH, SMALL_REPLAY, STUDIES, Run

FOUR = ("spread", "multiwalker", "rover_tower", "pursuit")
"""Environments of Table 10."""
THREE = ("spread3_sep", "spread3_mix", "spread3_ful")
"""Spread with three agents: none depend on each other, two do, all do (Figure 8)."""


@dataclass(frozen=True)
class Variant:
    """An algorithm as the paper has it, or one of ours beside it."""

    label: str
    """In figures and tables: the paper's name where it has one."""
    algorithm: str
    """Registered algorithm."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Where they are not the algorithm's defaults."""


LITERAL = {**EQ_8, "coordination_units": "raw", "delta_exploration": 0.0, "trd_tau": 1.0}
"""What the paper prints; README's Algorithms says what is mended and why."""
VARIANTS = {
    "maac": Variant("MAAC", "maac"),
    "mappo": Variant("MA-PPO", "mappo"),
    "maddpg": Variant("MADDPG", "maddpg"),
    "lola_dqn": Variant("LOLA", "lola_dqn"),
    "mamt": Variant("MAMT", "mamt", EQ_8),
    "mamd": Variant("MAMD", "mamd"),
    "mamd_op": Variant("MAMD-OP", "mamd_op"),
    "mamt_random": Variant("MAMT-Random", "mamt_random", EQ_8),
    "mamt_fixed": Variant("MAMT-Fixed", "mamt_fixed", EQ_8),
    "mamt_ws": Variant("MAMT-WS", "mamt_ws", EQ_8),
    "mamt_ppo": Variant("MAMT-PPO", "mamt_ppo"),
    "mamt_literal": Variant("MAMT (literal)", "mamt", LITERAL),
    "mamd_kl": Variant("MAMD (KL budget)", "mamd_kl"),
    "mamt_budget": Variant("MAMT (KL budget)", "mamt", {"modelling_opponents": "one"}),
}
"""MAMT and its ablations with the paper's rule for δ (Eq. 8), ``mamt_literal`` with all that the
paper says and no mend of ours; ``mamt_budget`` is what ``mamt`` is by default, on one core."""


@dataclass(frozen=True)
class Length:
    """How long the runs in one environment are."""

    seeds: int
    episodes: int
    settings: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    """Why it is not as in the paper."""


_PAPER = Length(8, 50_000)
_SMOKE = {"hidden_size": 8, "batch_size": 16, "evaluation_interval": 0}
_ONE_CORE = "hours on one core; the paper's 50,000 episodes would take days"
BUDGETS: dict[str, dict[str, Length]] = {
    "paper": {
        **dict.fromkeys(FOUR + THREE, _PAPER),
        **dict.fromkeys(("spread", *THREE), Length(8, 10_000)),
    },
    "cpu": {
        "spread": Length(8, 10_000),
        "multiwalker": Length(4, 4000, SMALL_BATCH, _ONE_CORE),
        "rover_tower": Length(5, 12_000, SMALL_BATCH | {"log_interval": 120}, _ONE_CORE),
        "pursuit": Length(
            3, 300, SMALL_BATCH | {"buffer_size": 160_000, "log_interval": 6}, _ONE_CORE
        ),
        **dict.fromkeys(
            THREE,
            Length(4, 5040, SMALL_REPLAY, "the newest 600 episodes lag less; see results/README"),
        ),
    },
    "smoke": {
        "spread": Length(3, 480, _SMOKE, "shows that everything runs, and nothing else"),
        "multiwalker": Length(2, 12, _SMOKE, "as Spread"),
        "rover_tower": Length(2, 24, _SMOKE, "as Spread"),
        "pursuit": Length(2, 12, _SMOKE | {"buffer_size": 6000}, "as Spread"),
        **dict.fromkeys(THREE, Length(2, 240, _SMOKE, "as Spread")),
    },
}
"""By name, and by environment."""
QUICK = {"smoke": ("spread", "spread3_mix")}
"""Environments of a budget where none are asked for, if not all: of the others each program takes
longer to compile than all of these runs together."""
_ON_POLICY = ("mappo", "mamt_ppo")
_OWN_BATCH = (*_ON_POLICY, "lola_dqn")
_REPLAY = ("buffer_size", "batch_size")
STUDIED = {run.record: run for study in STUDIES.values() for run in study.runs if run.record}
"""Runs of the studies, by record."""


def planned(variant: str, env: str, budget: str) -> Run:
    """The run of a variant in an environment.

    Args:
        variant: One of :data:`VARIANTS`.
        env: One of :data:`FOUR` or :data:`THREE`.
        budget: One of :data:`BUDGETS`.

    Returns:
        A run whose ``record`` is where its record lies among those of all budgets.
    """
    chosen, length = VARIANTS[variant], BUDGETS[budget][env]
    settings = {
        name: value
        for name, value in length.settings.items()
        if not (variant in _OWN_BATCH and name in _REPLAY)
    }
    made = Run(
        f"{_folder(env, budget)}{env}/{variant}",
        chosen.algorithm,
        env,
        length.seeds,
        length.episodes,
        {**settings, **chosen.settings},
    )
    if made.record in STUDIED:
        return STUDIED[made.record]
    same = (each for each in STUDIED.values() if replace(made, record=each.record) == each)
    return next(same, made)


def _folder(env: str, budget: str) -> str:
    """Where records of a budget are; those that are as in the paper on a CPU, too, are together."""
    same = budget == "paper" and BUDGETS["cpu"][env] == BUDGETS["paper"][env]
    return "" if same or budget == "cpu" else f"{budget}/"


def with_seeds(run: Run, seeds: int | None) -> Run:
    """A run with another number of seeds, if one is given; it has a record of its own."""
    if seeds in (None, run.seeds):
        return run
    name = f"{run.record}_{seeds}_seeds"
    return Run(name, run.algorithm, run.env, seeds, run.episodes, run.settings)
