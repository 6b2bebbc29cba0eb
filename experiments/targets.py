"""Every table and figure of the paper: the runs that it is made of, and how it is drawn.

``mamt reproduce NAME`` trains the runs and writes what :attr:`Target.show` makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from mamt_jax.experiments import tables
from mamt_jax.experiments.attention import attention
from mamt_jax.experiments.budgets import FOUR, THREE, VARIANTS
from mamt_jax.experiments.paper import EPISODES_RATIO
from mamt_jax.experiments.sheet import Shown
from mamt_jax.experiments.tables import OURS, PAPERS, Found
from mamt_jax.reports.figures import Panel, figure_of
from mamt_jax.reports.plots import Figure
from mamt_jax.reports.report import merge_references


class Target(NamedTuple):
    """A table or figure."""

    title: str
    variants: tuple[str, ...]
    """Of :data:`~mamt_jax.experiments.budgets.VARIANTS`."""
    envs: tuple[str, ...]
    show: Callable[[Found], Shown]
    """Takes the runs that there are, in at least one environment."""

    def cells(self, envs: Sequence[str]) -> list[tuple[str, str]]:
        """Variants and environments of its runs, those that go together."""
        return [
            (variant, env)
            for env in self.envs
            if env in envs
            for variant in self.variants
            if variant != "lola_dqn" or env == "spread"  # which is for two agents
        ]


def panels(found: Found, variants: Sequence[str], per_seed: bool = False) -> dict[str, Panel]:
    """Runs as figures take them, labelled as in the paper."""
    made = {}
    for env, runs in found.items():
        mine = {VARIANTS[name].label: runs[name] for name in variants if name in runs}
        if not mine:
            continue
        metrics = {label: each.metrics for label, each in mine.items()}
        lines = {}
        if per_seed:
            for label, each in metrics.items():
                lines[label] = each[[name for name in each if "seed" in each[name].dims]]
        levels = merge_references([each.config for each in mine.values()])
        made[env] = Panel(metrics, levels, lines)
    return made


def _curves(
    found: Found, name: str, quantities: Mapping[str, str], variants: Sequence[str], per_seed: bool
) -> dict[str, Figure]:
    """A figure for each quantity that was recorded, by stem of file."""
    made, shown = {}, panels(found, variants, per_seed)
    for quantity, suffix in quantities.items():
        if any(quantity in run for panel in shown.values() for run in panel.runs.values()):
            made[f"{name}{suffix}"] = figure_of(quantity, shown)
    return made


def _returns(found: Found, name: str, variants: Sequence[str]) -> Shown:
    sheets = [tables.returns(env, variants, runs) for env, runs in found.items()]
    return Shown(sheets, _curves(found, name, {"return_mean": ""}, variants, False))


def _table2(found: Found) -> Shown:
    drawn = _curves(found, "table2", {"delta_within_budget": ""}, ("mamt",), False)
    return Shown([tables.within_limit(found)], drawn)


_KL, _D = {"local_kl_mean": "_local_kl"}, {"nonstationarity_sum": "_nonstationarity"}


def _divergences(
    found: Found, name: str, quantities: Mapping[str, str], variants: Sequence[str], per_seed: bool
) -> Shown:
    drawn = _curves(found, name, quantities, variants, per_seed)
    return Shown([tables.divergences(found, variants)], drawn)


def _deltas(found: Found) -> Shown:
    variants = ("mamt", "mamt_budget")
    sheet = tables.agents("Local trust regions δ_i (nat)", "delta", found, variants)
    return Shown([sheet], _curves(found, "figure4", {"delta": ""}, variants, False))


def _pairs(found: Found, name: str) -> Shown:
    quantities = {"coordination_mean": "_mean", "coordination_var": "_variance"}
    drawn = _curves(found, name, quantities, ("mamt",), False)
    return Shown([tables.pairs(found, "mamt")], drawn)


def _figure12(found: Found) -> Shown:
    """Bars of the ratio at the highest level that both reach, beside the paper's."""
    envs, ours, papers = [], [], []
    for env, runs in found.items():
        reached = [ratio for *_, ratio in tables.ratios(runs) if ratio is not None]
        envs.append(env)
        ours.append(reached[-1] if reached else np.nan)
        papers.append(EPISODES_RATIO[env])
    figure = Figure((1.8 + 1.6 * len(envs), 3.6), layout="constrained")
    axes, at = figure.subplots(), np.arange(len(envs))
    axes.bar(at - 0.2, papers, 0.38, label="paper", color="#999999")
    axes.bar(at + 0.2, ours, 0.38, label="ours", color="#0072B2")
    axes.set_xticks(at, envs)
    axes.set_ylabel("episodes of MAMT-PPO per one of MAMT")
    axes.set_title("Episodes to reach a level", loc="left")
    axes.axhline(1, color="black", lw=0.8)
    axes.legend(frameon=False)
    return Shown([tables.episodes_needed(found)], {"figure12": figure})


_BOTH = ("maac", "mamt", "mamt_budget")
_EIGHT = {"rover_tower": "Rover-Tower", "pursuit": "Pursuit"}
_ALL = _EIGHT | {"multiwalker": "Multi-Walker", "spread": "Spread"}


def _per_seed(first: int, called: str, quantities: Mapping[str, str]) -> dict[str, Target]:
    """Four figures, one for each environment, with a line for each seed."""
    made = {}
    for number, (env, title) in enumerate(_ALL.items(), first):
        name, variants = f"figure{number}", _BOTH if quantities is _KL else _BOTH[1:]
        show = partial(
            _divergences, name=name, quantities=quantities, variants=variants, per_seed=True
        )
        text = f"Figure {number}: {called}, by seed, in {title}"
        made[name] = Target(text, variants, (env,), show)
    return made


def _coordination(number: int, env: str) -> dict[str, Target]:
    name, title = f"figure{number}", f"Figure {number}: C_ij in {_ALL[env]}"
    return {name: Target(title, ("mamt",), (env,), partial(_pairs, name=name))}


def _spread3(found: Found) -> Shown:
    sheet = tables.agents("Local trust regions δ_i (nat)", "delta", found, ("mamt",))
    quantities = {"delta": "_delta", "coordination_mean": "_coordination"}
    return Shown(
        [sheet, tables.pairs(found, "mamt")],
        _curves(found, "spread3", quantities, ("mamt",), False),
    )


_FIGURE2 = ("maac", "mappo", "maddpg", "mamd", "mamt", "mamd_kl", "mamt_budget")
_TABLE10 = (*PAPERS, *OURS)
_FIGURE8 = ("maac", "mamd", "mamd_op")
TARGETS = {
    "table2": Target("Table 2: share of updates within Σδ_i ≤ δ", ("mamt",), FOUR, _table2),
    "table10": Target(
        "Table 10: returns of all algorithms",
        _TABLE10,
        FOUR,
        partial(_returns, name="table10", variants=_TABLE10),
    ),
    "figure2": Target(
        "Figure 2: returns over training",
        _FIGURE2,
        FOUR,
        partial(_returns, name="figure2", variants=_FIGURE2),
    ),
    "figure3": Target(
        "Figure 3: local KL of MAAC and MAMT, and D_ns",
        _BOTH,
        FOUR,
        partial(_divergences, name="figure3", quantities=_KL | _D, variants=_BOTH, per_seed=False),
    ),
    "figure4": Target("Figure 4: δ_i of every agent", ("mamt", "mamt_budget"), FOUR, _deltas),
    "figure5": Target("Figure 5: C_ij", ("mamt",), FOUR, partial(_pairs, name="figure5")),
    "figure8": Target(
        "Figure 8: the trust-region decomposition dilemma",
        _FIGURE8,
        THREE,
        partial(_returns, name="figure8", variants=_FIGURE8),
    ),
    "figure9": Target("Figure 9: attention weights of the critics", _FIGURE8, THREE, attention),
    "figure12": Target(
        "Figure 12: episodes of MAMT-PPO for one of MAMT", ("mamt", "mamt_ppo"), FOUR, _figure12
    ),
    "spread3": Target("Ours: δ_i and C_ij in Spread-3", ("mamt",), THREE, _spread3),
    **_coordination(13, "rover_tower"),
    **_coordination(14, "pursuit"),
    **_coordination(15, "spread"),
    **_per_seed(16, "local KL of MAAC and MAMT", _KL),
    **_per_seed(20, "D_ns of MAMT", _D),
}
"""By name, in the paper's order."""
