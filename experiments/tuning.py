"""The paper's tuning ranges (Li et al., ICLR 2022, Tables 8 and 9), and the sweep through them.

    found = tune("mamt", "spread", episodes=10_000, seeds=8, out="runs/tuning/spread-mamt")

By successive halving as the paper describes it: every combination is trained for a sixth of the
episodes, the best sixth of them for a third, the best sixth of those for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mamt_jax.errors import ConfigError
from mamt_jax.experiments.budgets import BUDGETS
from mamt_jax.experiments.sheet import NONE, Sheet
from mamt_jax.experiments.studies import EQ_8

if TYPE_CHECKING:  # whoever does not tune needs no Optuna
    from mamt_jax.sweeps.results import Sweep

TABLE8: Mapping[str, Sequence[Any]] = {
    "updates_per_event": (1, 4, 8),  # "num epochs per step"
    "learning_rate": (3e-4, 1e-3),
    "soft_reward_scale": (10.0, 100.0),
    "old_policy_period": (100, 1000),  # "num of iteration delay in mirror descent"
}
"""MAMD: 24 combinations."""
TABLE9: Mapping[str, Sequence[Any]] = {
    **TABLE8,
    "delta_max": (0.01, 1.0, 100.0),  # "trust-region clip"
    "coordination_threshold": (0.002, 0.02, 0.2),  # "δ in coordination coefficient", σ of Eq. 5
}
"""MAMT: 216 combinations."""
RANGES: Mapping[str, Mapping[str, Sequence[Any]]] = {"mamd": TABLE8, "mamt": TABLE9}
"""By algorithm."""
FIXED: Mapping[str, Mapping[str, Any]] = {"mamd": {}, "mamt": {**EQ_8, "delta_init": 0.01}}
"""Settings that the ranges ask for. Table 7 clips δ to [0.01, 100]; of the "trust-region clip" that
Table 9 tunes it is not said which end it is. Here it is the upper one: with the lower one at 0.01,
0.01 holds every region there. δ begins where all three ranges have it."""


def tune(
    algorithm: str,
    env: str,
    *,
    episodes: int,
    seeds: int,
    out: str | Path,
    storage: str | None = None,
    progress: bool = False,
    ranges: Mapping[str, Sequence[Any]] | None = None,
    **settings: Any,
) -> Sweep:
    """Sweeps through the paper's ranges; what is done is not done again.

    Args:
        algorithm: ``mamd`` or ``mamt``.
        env: A registered environment.
        episodes: The whole budget of a combination, per seed.
        seeds: Of every combination.
        out: Directory of the sweep; also gets its table and figures.
        storage: As for :func:`mamt_jax.sweep`.
        progress: As for :func:`mamt_jax.sweep`.
        ranges: In place of the paper's, for a quick look.
        **settings: What else differs from the defaults; not what the ranges hold.

    Returns:
        The :class:`~mamt_jax.sweeps.results.Sweep`, best first, of which ``table()`` is for the
        terminal and ``records()`` are flat rows.

    Raises:
        ConfigError: The paper has no ranges for the algorithm, or as :func:`mamt_jax.sweep`.
        RunError: As :func:`mamt_jax.sweep`.
    """
    from mamt_jax.sweeps.plots import draw
    from mamt_jax.sweeps.run import sweep

    if algorithm not in RANGES:
        raise ConfigError(f"The paper tunes {' and '.join(RANGES)}, not {algorithm!r}.")
    found = sweep(
        algorithm,
        env,
        grid={name: list(values) for name, values in (ranges or RANGES[algorithm]).items()},
        episodes=episodes,
        seeds=seeds,
        out=out,
        halving=True,
        storage=storage,
        progress=progress,
        **{**FIXED[algorithm], **settings},
    )
    found.write_csv()
    draw(found)
    return found


QUICK = {"learning_rate": (3e-4, 1e-3), "soft_reward_scale": (10.0, 100.0)}
"""Ranges of MAMD at the smallest budget: one program."""
_SHOWN = 20


def tuning(env: str, budget: str, out: Path, seeds: int | None = None) -> list[Sheet]:
    """Tables 8 and 9 in one environment, at a budget: the best combinations of each.

    Args:
        env: One of the budget's.
        budget: One of :data:`~mamt_jax.experiments.budgets.BUDGETS`; ``smoke`` takes :data:`QUICK`.
        out: Folder, with a sweep for each algorithm in it.
        seeds: In place of the budget's.
    """
    length, quick = BUDGETS[budget][env], budget == "smoke"
    sheets = []
    for number, algorithm in (8, "mamd"), (9, "mamt"):
        if quick and algorithm == "mamt":
            continue
        found = tune(
            algorithm,
            env,
            episodes=length.episodes,
            seeds=seeds or length.seeds,
            out=out / f"{env}-{algorithm}",
            progress=True,
            ranges=QUICK if quick else None,
            **length.settings,
        )
        sheets.append(_sheet(f"Table {number}: {algorithm} on {env}", found))
    return sheets


def _sheet(title: str, found: Sweep) -> Sheet:
    records = found.records()
    columns = [name for name in records[0] if name not in ("run", "commit")]
    rows = [[_cell(record[name]) for name in columns] for record in records[:_SHOWN]]
    rest = len(records) - _SHOWN
    caption = f"Best first; {rest} more are in {found.out / 'sweep.csv'}." if rest > 0 else ""
    return Sheet(title, columns, rows, caption)


def _cell(value: Any) -> str:
    return NONE if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
