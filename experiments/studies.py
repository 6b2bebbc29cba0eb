"""Studies: what is run for each set of results, and what is shown of it, as data.

A run is one call: ``mamt_jax.train(**STUDIES["pursuit"].runs[0].options(), out="runs/pursuit")``.
Its record lies in ``results/`` under the run's name; ``mamt report`` of all records of a study, in
the order of its runs, prints its table and draws its figures, into ``results/NAME``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Run:
    """One configuration."""

    record: str
    """Path of its record below ``results/``, without ``.json``; empty if none is kept."""
    algorithm: str
    """Registered algorithm."""
    env: str
    """Registered environment."""
    seeds: int
    """Number of seeds."""
    episodes: int
    """Episodes per seed."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of ``mamt_jax.train`` that are not as they are by default."""
    recorded: Mapping[str, Any] = field(default_factory=dict)
    """Where the record's config is another than this one: its values."""
    note: str = ""
    """What else of the record is not as it is written here."""
    stopped_at: int | None = None
    """Updates after which the recorded run was stopped, before its end."""

    def options(self) -> dict[str, Any]:
        """Keywords of ``mamt_jax.train``."""
        named = {name: getattr(self, name) for name in ("algorithm", "env", "seeds", "episodes")}
        return named | dict(self.settings)


@dataclass(frozen=True)
class Study:
    """Runs, and what is shown of them."""

    question: str
    """What they are to tell."""
    runs: tuple[Run, ...]
    """In the order of the table."""
    figures: tuple[str, ...]
    """Those that are kept of what ``mamt report`` draws of all runs."""
    like_paper: bool = False
    """Whether the runs are columns of the paper's Table 10."""


ALL_FIGURES = (
    "learning_curve.png",
    "delta.png",
    "local_kl.png",
    "nonstationarity.png",
    "coordination.png",
)
SMALL_REPLAY = {"buffer_size": 15_000}
"""The newest 600 episodes of three agents: the critic and the modelling policies lag less."""
SMALL_BATCH = {"batch_size": 256}
"""For environments with long episodes, on one core."""


EQ_8 = {"delta_rule": "penalty"}
"""The rule for δ that MAMT had before there was a budget of KL."""


def _rule(algorithm: str) -> dict[str, str]:
    """How δ moved in the records of an algorithm, where that is a setting with another default."""
    return EQ_8 if algorithm in ("mamt", "mamt_ws") else {}


def _early(run: Run, **recorded: Any) -> Run:
    """A run whose config says what today's default and whole logging points come to, or less."""
    return replace(run, recorded={"log_interval": 60} | recorded)


def _spread(algorithm: str) -> Run:
    return Run(f"spread/{algorithm}", algorithm, "spread", 8, 10_000, _rule(algorithm))


def _three(algorithm: str, dependence: str) -> Run:
    """Three agents, of which some depend on each other: sep none, mix two, ful all."""
    env, seeds = f"spread3_{dependence}", 4 if dependence == "mix" else 2
    return Run(f"{env}/{algorithm}", algorithm, env, seeds, 5040, SMALL_REPLAY | _rule(algorithm))


def _early_three(algorithm: str, dependence: str) -> Run:
    return _early(_three(algorithm, dependence), episodes=5000)


def _whole_replay(record: str, algorithm: str, stopped_at: int | None = None) -> Run:
    settings = _rule(algorithm)
    run = Run(record, algorithm, "spread3_mix", 4, 5040, settings, stopped_at=stopped_at)
    return _early(run, episodes=5000)


def _walkers(name: str, seeds: int, episodes: int, **settings: Any) -> Run:
    """Episodes are planned at 500 steps each, and most end far earlier.

    They were run when the environment of this name was PettingZoo's own, on the host.
    """
    chosen, then = SMALL_BATCH | settings, {"env": "multiwalker"}
    record = f"multiwalker_host/{name}"
    return Run(record, "maac", "multiwalker_host", seeds, episodes, chosen, recorded=then)


def _alpha_001(seed: int, stopped_at: int) -> Run:
    run = _walkers(f"maac_alpha_0.01_seed_{seed}", 1, 8000, target_tau=0.02, seed=seed)
    return replace(run, stopped_at=stopped_at)


_WIDTHS = (0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
_STARTS = (0.1, 1.0, 30.0)


def _widths(game: str, env: str, episodes: int, **settings: Any) -> tuple[Run, ...]:
    """MAMD with each of several widths."""

    def run(width: float) -> Run:
        chosen = SMALL_BATCH | settings | {"delta_fixed": width}
        return Run(f"width/{game}_mamd_{width:g}", "mamd", env, 3, episodes, chosen)

    return tuple(map(run, _WIDTHS))


def _starts(game: str, env: str, seeds: int, episodes: int, **settings: Any) -> tuple[Run, ...]:
    """MAMT from each of several widths."""

    def run(width: float) -> Run:
        chosen = SMALL_BATCH | settings | {"delta_init": width}
        return Run(f"width/{game}_mamt_from_{width:g}", "mamt", env, seeds, episodes, chosen)

    return tuple(map(run, _STARTS))


_ROVERS = SMALL_BATCH | {"log_interval": 120}
_ROVERS_MAAC = Run("rover_tower/maac", "maac", "rover_tower", 3, 12_000, _ROVERS)
_PURSUIT = SMALL_BATCH | {"buffer_size": 160_000}
_MIX = _early_three("maac", "mix"), _early_three("mamd", "mix")
_ONE = EQ_8 | {"modelling_opponents": "one"}

STUDIES = {
    "spread": Study(
        "Which algorithm learns Spread with two agents, and how fast? (Table 10)",
        (
            _early(_spread("maac")),
            _spread("mappo"),
            _spread("maddpg"),
            _spread("lola_dqn"),
            _early(_spread("mamt")),
            _early(_spread("mamd")),
            _spread("mamt_ws"),
            _spread("mamt_ppo"),
        ),
        ALL_FIGURES,
        like_paper=True,
    ),
    "figure8": Study(
        "Does prior knowledge of who depends on whom help? (Figure 8)",
        (
            _three("maac", "sep"),
            _three("mamd", "sep"),
            *_MIX,
            _three("mamd_op", "mix"),
            _three("maac", "ful"),
            _three("mamd", "ful"),
        ),
        ("learning_curve.png",),
    ),
    "spread3_mix": Study(
        "Does δ follow the dependence between agents? Agents 0 and 2 share a task.",
        (*_MIX, _early_three("mamt", "mix")),
        ALL_FIGURES,
    ),
    "spread3_even": Study(
        "Is δ even where nobody depends on anybody, and where everybody does?",
        (_early_three("mamt", "sep"), _early_three("mamt", "ful")),
        (),
    ),
    "whole_replay": Study(
        "What does the whole history do to D and δ, in place of the newest 600 episodes?",
        (
            _whole_replay("spread3_mix/maac_whole_replay", "maac"),
            _whole_replay("spread3_mix/mamt_whole_replay_partial", "mamt", stopped_at=2360),
        ),
        (),
    ),
    "rover_tower": Study(
        "Rover-Tower with eight agents, on a quarter of the paper's episodes and less.",
        (
            _ROVERS_MAAC,
            Run("rover_tower/mamt", "mamt", "rover_tower", 2, 8000, _ROVERS | EQ_8),
        ),
        ("learning_curve.png", "delta.png", "coordination.png"),
    ),
    "pursuit": Study(
        "Pursuit with eight agents, on a fraction of the paper's episodes.",
        (Run("pursuit/maac", "maac", "pursuit", 3, 300, _PURSUIT | {"log_interval": 6}),),
        ("learning_curve.png",),
    ),
    "pursuit_mamt": Study(
        "A first look at MAMT on Pursuit.",
        (Run("pursuit/mamt", "mamt", "pursuit", 2, 72, _PURSUIT | EQ_8 | {"buffer_size": 40_000}),),
        (),
    ),
    "multiwalker_host": Study(
        "What makes Multi-Walker's return rise: the critic's target, or the temperature?",
        (
            _walkers("maac", 2, 1000),
            _walkers("maac_tau_0.02", 2, 2000, target_tau=0.02, soft_reward_scale=1000.0),
            _alpha_001(seed=0, stopped_at=62452),
            _alpha_001(seed=1, stopped_at=18832),
        ),
        ("learning_curve.png",),
    ),
    "width_spread": Study(
        "How wide should regions be on Spread, and does MAMT find it?",
        (
            *_widths("spread", "spread", 6000),
            *_starts("spread", "spread", 2, 3000),
        ),
        ("learning_curve.png", "delta.png"),
    ),
    "width_mix": Study(
        "How wide should regions be on Spread-3-Mix, and does MAMT find it?",
        (
            *_widths("mix", "spread3_mix", 2520, **SMALL_REPLAY, log_interval=60),
            *_starts("mix", "spread3_mix", 2, 2520, **SMALL_REPLAY, log_interval=60),
        ),
        ("learning_curve.png", "delta.png"),
    ),
    "width_rover": Study(
        "Do regions within a budget of KL learn Rover-Tower, from any width at the start?",
        (
            _ROVERS_MAAC,
            Run("rover_tower/mamd_kl", "mamd_kl", "rover_tower", 5, 12_000, _ROVERS),
            Run(
                "rover_tower/mamt_budget",
                "mamt",
                "rover_tower",
                5,
                12_000,
                _ROVERS | {"modelling_opponents": "one"},
            ),
            *(
                replace(run, stopped_at=1552)
                for run in _starts(
                    "rover", "rover_tower", 1, 6000, log_interval=120, modelling_opponents="one"
                )
            ),
        ),
        ("learning_curve.png", "delta.png"),
    ),
    "gpu": Study(
        "What a GPU gives, at the budget of Spread.",
        (Run("gpu/spread_mamt_h200", "mamt", "spread", 8, 10_000, EQ_8),),
        (),
    ),
    "less_work": Study(
        "Does MAMT learn as well on one opponent a sample, and C and D of a part of it?",
        (
            Run("gpu/rover_tower_mamt", "mamt", "rover_tower", 8, 10_000, EQ_8, stopped_at=8420),
            Run(
                "gpu/rover_tower_mamt_one", "mamt", "rover_tower", 8, 10_000, _ONE, stopped_at=8900
            ),
            Run(
                "gpu/rover_tower_mamt_one_256",
                "mamt",
                "rover_tower",
                8,
                10_000,
                _ONE | {"region_samples": 256},
            ),
        ),
        ("learning_curve.png", "delta.png"),
    ),
    "demo": Study(
        "What MAMT learns on Spread in six minutes on two cores.",
        (Run("", "mamt", "spread", 8, 1380),),
        ("learning_curve.png", "delta.png"),
    ),
}
"""By name, which is also the folder of the figures below ``results/``."""
