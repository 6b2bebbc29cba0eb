"""Tables of the paper, ours beside its numbers.

Returns are those of the last 1,000 training episodes; where a run has fewer than 2,000, those of
its last tenth, and the table says so. IQM: interquartile mean over seeds. Every row says how long
the run was and where, so that nobody compares a quarter of a budget with the whole of it unawares.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from mamt_jax.analysis.returns import LAST, first_and_last, windows
from mamt_jax.experiments.budgets import VARIANTS
from mamt_jax.experiments.paper import EPISODES_RATIO, NAMES, TABLE2, TABLE10
from mamt_jax.experiments.references import references
from mamt_jax.experiments.runs import Opened
from mamt_jax.experiments.sheet import NONE, Sheet
from mamt_jax.reports.texts import (
    PASSING,
    SPREAD,
    counted,
    interval,
    mean_std,
    passed,
    passing,
    seeds,
)

Found = Mapping[str, Mapping[str, Opened]]
"""Recorded runs by environment and variant."""
_MADE = ("batch", "commit", "machine", "hours")
_LAST_TENTH = "of the last tenth of the run's updates, mean over seeds"


def returns(env: str, variants: Sequence[str], found: Mapping[str, Opened]) -> Sheet:
    """One row per variant; those without a run have no numbers of ours (Table 10)."""
    known = next(filter(None, (references(each.config) for each in found.values())), None)
    levels = known.thresholds if known else ()
    columns = ["algorithm", "seeds", "episodes", "mean ± std", "interval", "IQM", "paper"]
    columns += [f"above {level:g}" for level in levels] + list(_MADE)
    rows = [_returns_row(env, name, found.get(name), levels) for name in variants]
    title = f"Return of the last {LAST:,} episodes on {env} beside the paper's Table 10"
    return Sheet(title, columns, rows, f"{SPREAD} {PASSING}" if levels else SPREAD)


def _returns_row(
    env: str, variant: str, opened: Opened | None, levels: tuple[float, ...]
) -> list[str]:
    published = TABLE10.get(env, {}).get(variant)
    label = VARIANTS[variant].label
    paper = f"{published.mean:.2f} ± {published.std:.2f}" if published else NONE
    if opened is None:
        return [label, *[NONE] * 5, paper, *[NONE] * (len(levels) + len(_MADE))]
    metrics = opened.metrics
    _, last = first_and_last(metrics)
    episodes = f"{metrics.episodes.sum('event').mean().item():,.0f}"
    _, averaged = windows(metrics)
    return [
        label,
        seeds(metrics),
        episodes if averaged == LAST else f"{episodes}, last {averaged:,}",
        mean_std(last),
        interval(last) or NONE,
        f"{last.iqm:.2f}",
        paper,
        *(passed(metrics, level) for level in levels),
        *_made(opened),
    ]


def _made(opened: Opened) -> list[str]:
    """Batch, commit, machine and wall-clock hours of a run."""
    versions, hours = opened.summary.get("versions", {}), opened.summary.get("wall_seconds")
    batch = opened.config.settings.flat().get("batch_size")
    kind = str(versions.get("device_kind", versions.get("device", "unknown")))
    if kind == "cpu" and "cpus_available" in versions:
        kind = f"CPU, {counted(versions['cpus_available'], 'core')}"
    return [
        NONE if batch is None else f"{batch:,}",
        str(versions.get("git_commit") or "unknown")[:7],
        kind,
        NONE if hours is None else f"{hours / 3600:.2f}",
    ]


def within_limit(found: Found) -> Sheet:
    """Share of the updates whose Σδ_i is at most δ (Table 2)."""
    rows = []
    for env, paper in TABLE2.items():
        opened = found.get(env, {}).get("mamt")
        share = None if opened is None else within(opened)
        ours = [NONE] * 3
        if opened is not None and share is not None:
            ours = [seeds(opened.metrics), f"{opened.metrics.episode[-1]:,.0f}", f"{share:.2%}"]
        rows.append([env, *ours, f"{paper:.2%}"])
    columns = ["environment", "seeds", "episodes", "ours", "paper"]
    return Sheet("Share of the updates whose Σδ_i is at most δ (Table 2)", columns, rows)


def within(opened: Opened) -> float | None:
    """Share of updates within Σδ_i ≤ δ, over all updates and seeds."""
    if "delta_within_budget" not in opened.metrics:
        return None
    return float(opened.metrics.delta_within_budget.sel(moment="mean").mean())


def agents(title: str, quantity: str, found: Found, variants: Sequence[str]) -> Sheet:
    """Mean and variance over updates of what every agent has (Figure 4)."""
    rows = []
    for env, runs in found.items():
        for name in variants:
            if name not in runs or quantity not in runs[name].metrics:
                continue
            metrics = runs[name].metrics
            over = metrics[quantity].sel(moment="mean")
            for index, values in enumerate(over.transpose("agent", "update").values):
                called = str(metrics.agent.values[index]) if "agent" in metrics.coords else index
                mean, variance = np.nanmean(values), np.nanvar(values)
                late = np.nanmean(values[-max(len(values) // 10, 1) :])
                cells = [f"{each:.3g}" for each in (mean, variance, late)]
                rows.append([env, VARIANTS[name].label, str(called), *cells])
    columns = ["environment", "algorithm", "agent", "mean", "variance", "last tenth"]
    return Sheet(title, columns, rows, "Over the updates of the run, of the mean over its seeds.")


def pairs(found: Found, variant: str) -> Sheet:
    """Mean and variance of C_ij (Figures 5 and 13 to 15)."""
    rows = []
    for env, runs in found.items():
        if variant not in runs or "coordination_mean" not in runs[variant].metrics:
            continue
        metrics = runs[variant].metrics
        mean, variance = (
            metrics[name].sel(moment="mean").mean("update").values
            for name in ("coordination_mean", "coordination_var")
        )
        for i, j in np.ndindex(*mean.shape):
            if i != j:
                rows.append([env, f"{i}", f"{j}", f"{mean[i, j]:.3f}", f"{variance[i, j]:.3g}"])
    columns = ["environment", "agent i", "agent j", "mean", "variance"]
    caption = "Mean over the run; variance over the samples of a batch, mean over the run."
    return Sheet("Coordination coefficients C_ij", columns, rows, caption)


def divergences(found: Found, variants: Sequence[str]) -> Sheet:
    """Local KL and D_ns early and late (Figures 3 and 16 to 23)."""
    rows = []
    for env, runs in found.items():
        for name in variants:
            for quantity in ("local_kl_mean", "nonstationarity_sum"):
                if name in runs and quantity in runs[name].metrics:
                    early, late = tenths(runs[name].metrics[quantity])
                    number = [f"{early:.3g}", f"{late:.3g}", f"{late / early:.2f}"]
                    rows.append([env, VARIANTS[name].label, quantity, *number])
    columns = ["environment", "algorithm", "quantity", "first tenth", "last tenth", "ratio"]
    return Sheet("Divergences (nat)", columns, rows, f"First tenth: likewise; last: {_LAST_TENTH}.")


def tenths(values: xr.DataArray) -> tuple[float, float]:
    """Means over the first and the last tenth of the updates at which a quantity is known.

    Args:
        values: ``[seed, update]`` or ``[moment, update]``.
    """
    curve = values.sel(moment="mean") if "moment" in values.dims else values.mean("seed")
    known = curve.values[np.isfinite(curve.values)]
    share = max(len(known) // 10, 1)
    return float(known[:share].mean()), float(known[-share:].mean())


def episodes_needed(found: Found) -> Sheet:
    """Episodes until MAMT and MAMT-PPO stay above the levels of an environment (Figure 12)."""
    rows = []
    for env in TABLE10:
        runs = found.get(env, {})
        for level, mamt, ppo, ratio in ratios(runs):
            paper = f"{EPISODES_RATIO[env]:.2f}"
            shown = [NONE if each is None else f"{each:,.0f}" for each in (mamt, ppo)]
            rows.append(
                [env, f"{level:g}", *shown, NONE if ratio is None else f"{ratio:.2f}", paper]
            )
    columns = ["environment", "level", "MAMT", "MAMT-PPO", "ratio", "paper's ratio"]
    caption = "The paper counts to its own results in Table 10, which are other levels."
    return Sheet("Episodes until the mean return stays above a level", columns, rows, caption)


def ratios(
    runs: Mapping[str, Opened],
) -> list[tuple[float, float | None, float | None, float | None]]:
    """By level: episodes of MAMT, of MAMT-PPO, and how many times as many the latter needs."""
    if not {"mamt", "mamt_ppo"} <= runs.keys():
        return []
    known = references(runs["mamt"].config)
    found = []
    for level in known.thresholds if known else ():
        one, other = (passing(runs[name].metrics, level)[0] for name in ("mamt", "mamt_ppo"))
        found.append((level, one, other, other / one if one and other else None))
    return found


PAPERS = tuple(NAMES)
"""Variants that are columns of Table 10, in its order."""
OURS = ("mamt_literal", "mamd_kl", "mamt_budget")
"""Those that stand beside them."""
