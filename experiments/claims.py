"""What the paper claims, what would confirm or refute each claim, and what recorded runs say.

The rules were written before the runs that they judge. Whoever changes one says so, with the
reason, in the commit that does. A verdict is of the episodes that were trained: its row says what
share of the paper's they are, and a claim that is confirmed or refuted at a quarter of the budget
is no more than that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from mamt_jax.analysis.comparison import LEAST, against, resampled
from mamt_jax.analysis.returns import last_by_seed
from mamt_jax.experiments.budgets import BUDGETS, FOUR, VARIANTS
from mamt_jax.experiments.paper import TABLE2
from mamt_jax.experiments.runs import Opened
from mamt_jax.experiments.sheet import NONE, Sheet
from mamt_jax.experiments.tables import Found, ratios, tenths, within

CONFIRMED, REFUTED, OPEN = "confirmed", "refuted", "open"
SHARE = 0.1
"""Of the paper's episodes, below which every claim stays open."""
SEEDS = 5
"""Of either run, below which an order of returns stays open."""
PROBABLE = 0.75
"""Probability of improvement that an order needs, beside an interval above 0."""
CONTROLLED, UNCONTROLLED = 0.5, 1.0
"""MAMT's local KL over MAAC's: at most, and at least."""
FALLEN, RISEN = 0.5, 1.0
"""D_ns of the last tenth over that of the first: at most, and at least."""
FOLLOWS, IGNORES = 0.8, 0.0
"""Rank correlation of δ_i and Σ_j C_ij over agents: at least, and at most."""
POINTS = 0.10
"""How far from Table 2 a share may be."""
TWICE = (1.5, 2.5)
"""Episodes of MAMT-PPO for one of MAMT, to be about twice as many."""


class Verdict(NamedTuple):
    """What the runs in one environment say of a claim."""

    outcome: str
    """:data:`CONFIRMED`, :data:`REFUTED` or :data:`OPEN`."""
    numbers: str
    needs: str = ""
    """What it would take, where it is open."""


class Claim(NamedTuple):
    """One of the paper's claims, or one of ours beside it."""

    text: str
    where: str
    """In the paper."""
    rule: str
    """What confirms and what refutes it."""
    variants: tuple[str, ...]
    """Runs that it is about."""
    envs: tuple[str, ...]
    target: str
    """Table or figure that shows it, for ``mamt reproduce``."""
    judge: Callable[[str, Mapping[str, Opened]], Verdict]
    """Takes an environment, and in it all of these runs."""


def order(env: str, runs: Mapping[str, Opened], better: str, worse: str) -> Verdict:
    """Whether one variant returns more than another."""
    one, other = (last_by_seed(runs[name].metrics) for name in (better, worse))
    fewest = min(len(one), len(other))
    if fewest < LEAST:
        return Verdict(
            OPEN,
            f"{one.mean():.2f} and {other.mean():.2f}",
            f"{len(one)} and {len(other)} seeds are too few for an interval; {SEEDS} of each",
        )
    found = against(one, resampled(one, 1), other, resampled(other, 0))
    apart, chance = found.difference, found.improvement
    numbers = (
        f"{apart.value:+.2f} [{apart.low:+.2f}, {apart.high:+.2f}], P {chance.value:.2f} "
        f"[{chance.low:.2f}, {chance.high:.2f}]; {len(one)} and {len(other)} seeds"
    )
    if fewest < SEEDS:
        return Verdict(OPEN, numbers, f"{SEEDS} seeds of each")
    if apart.low > 0 and chance.value >= PROBABLE:
        return Verdict(CONFIRMED, numbers)
    if apart.high < 0:
        return Verdict(REFUTED, numbers)
    return Verdict(OPEN, numbers, "more seeds or longer runs: the interval holds 0")


def _between(value: float, yes: float, no: float, numbers: str) -> Verdict:
    """A verdict by two thresholds, whichever of them is the greater."""
    sign = 1 if yes > no else -1
    if sign * value >= sign * yes:
        return Verdict(CONFIRMED, numbers)
    if sign * value <= sign * no:
        return Verdict(REFUTED, numbers)
    return Verdict(OPEN, numbers, f"a value beyond {yes:g} or {no:g}")


def controlled(env: str, runs: Mapping[str, Opened]) -> Verdict:
    """Local KL of the last tenth, MAMT's over MAAC's."""
    mamt, maac = (tenths(runs[name].metrics.local_kl_mean)[1] for name in ("mamt", "maac"))
    numbers = f"{mamt:.3g} and {maac:.3g} nat, ratio {mamt / maac:.2f}"
    return _between(mamt / maac, CONTROLLED, UNCONTROLLED, numbers)


def falls(env: str, runs: Mapping[str, Opened]) -> Verdict:
    """D_ns of the last tenth over that of the first."""
    first, last = tenths(runs["mamt"].metrics.nonstationarity_sum)
    numbers = f"{first:.3g} to {last:.3g} nat, ratio {last / first:.2f}"
    return _between(last / first, FALLEN, RISEN, numbers)


def follows(env: str, runs: Mapping[str, Opened]) -> Verdict:
    """Rank correlation over agents of δ_i and Σ_j C_ij, both over the last half."""
    metrics = runs["mamt"].metrics
    half = slice(metrics.sizes["update"] // 2, None)
    late = metrics[["delta", "coordination_mean"]].isel(update=half).sel(moment="mean")
    deltas = late.delta.mean("update").values
    sums = np.nansum(late.coordination_mean.mean("update").values, axis=-1)
    if np.ptp(sums) < 1e-3:
        return Verdict(OPEN, "Σ_j C_ij is the same for all agents", "agents that differ in it")
    value = float(np.corrcoef(_ranks(deltas), _ranks(sums))[0, 1])
    return _between(value, FOLLOWS, IGNORES, f"rank correlation {value:+.2f}, {len(sums)} agents")


def _ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 0, those of ties averaged."""
    below = (values[:, None] > values).sum(axis=1)
    ties = (values[:, None] == values).sum(axis=1)
    ranks: np.ndarray = below + (ties - 1) / 2
    return ranks


def shares(env: str, runs: Mapping[str, Opened]) -> Verdict:
    """Share of updates within Σδ_i ≤ δ beside Table 2."""
    share, paper = within(runs["mamt"]), TABLE2[env]
    assert share is not None
    numbers = f"{share:.1%}, paper {paper:.1%}"
    return Verdict(CONFIRMED if abs(share - paper) <= POINTS else REFUTED, numbers)


def twice(env: str, runs: Mapping[str, Opened]) -> Verdict:
    """Episodes of MAMT-PPO for one of MAMT, to the highest level that both reach."""
    known = [each for each in ratios(runs) if each[-1] is not None]
    if not known:
        return Verdict(OPEN, "no level is reached by both", "longer runs")
    level, one, other, ratio = known[-1]
    assert ratio is not None
    numbers = f"{other:,.0f} and {one:,.0f} episodes to {level:g}, ratio {ratio:.2f}"
    low, high = TWICE
    return Verdict(CONFIRMED if low <= ratio <= high else REFUTED, numbers)


_ORDER = (
    f"Confirmed: the 95% bootstrap interval of the difference of interquartile means lies above 0, "
    f"the probability of improvement is {PROBABLE} or more, and both have {SEEDS} seeds or more. "
    f"Refuted: the interval lies below 0, with as many seeds. Otherwise open."
)


def _ordered(
    text: str, where: str, better: str, worse: str, envs: tuple[str, ...], at: str
) -> Claim:
    judge = partial(order, better=better, worse=worse)
    return Claim(text, where, _ORDER, (better, worse), envs, at, judge)


def _return_claims() -> Iterator[Claim]:
    """MAMT > MAMD > MAAC, and the same with our rule for δ."""
    names = (("mamt", "mamd"), ("mamd", "maac"), ("mamt", "maac"))
    for better, worse in names:
        text = f"{VARIANTS[better].label} returns more than {VARIANTS[worse].label}"
        yield _ordered(text, "Figure 2, Table 10", better, worse, FOUR, "table10")
    for better, worse in (("mamd_kl", "maac"), ("mamt_budget", "maac"), ("mamt_budget", "mamd")):
        text = f"Ours: {VARIANTS[better].label} returns more than {VARIANTS[worse].label}"
        yield _ordered(text, NONE, better, worse, FOUR, "table10")


CLAIMS = (
    *_return_claims(),
    Claim(
        "MAMT keeps the local KL small",
        "Figure 3",
        f"Local KL of the last tenth, MAMT's over MAAC's. Confirmed: at most {CONTROLLED:g}. "
        f"Refuted: {UNCONTROLLED:g} or more.",
        ("maac", "mamt"),
        FOUR,
        "figure3",
        controlled,
    ),
    Claim(
        "D_ns falls as learning goes on",
        "Figure 3",
        f"D_ns of the last tenth over that of the first. Confirmed: at most {FALLEN:g}. Refuted: "
        f"{RISEN:g} or more.",
        ("mamt",),
        FOUR,
        "figure3",
        falls,
    ),
    Claim(
        "δ_i follows C_ij",
        "Figures 4 and 5",
        f"Rank correlation over agents of δ_i and Σ_j C_ij in the last half. Confirmed: "
        f"{FOLLOWS:g} or more. Refuted: {IGNORES:g} or less.",
        ("mamt",),
        ("spread", "spread3_mix", "multiwalker", "rover_tower", "pursuit"),
        "figure4",
        follows,
    ),
    _ordered(
        "Random coordination coefficients hurt",
        "Table 10, Appendix H",
        "mamt",
        "mamt_random",
        FOUR,
        "table10",
    ),
    _ordered(
        "Regions by prior knowledge beat equal ones where two of three agents interact",
        "Figure 8",
        "mamd_op",
        "mamd",
        ("spread3_mix",),
        "figure8",
    ),
    _ordered(
        "No region beats equal ones where no agent interacts",
        "Figure 8",
        "maac",
        "mamd",
        ("spread3_sep",),
        "figure8",
    ),
    Claim(
        "Σδ_i ≤ δ in most updates",
        "Table 2",
        f"Confirmed: within {POINTS:.0%} of the paper's share. Refuted: farther from it.",
        ("mamt",),
        FOUR,
        "table2",
        shares,
    ),
    Claim(
        "MAMT-PPO needs about twice as many episodes as MAMT",
        "Figure 12",
        f"Ratio at the highest level that both reach. Confirmed: {TWICE[0]:g} to {TWICE[1]:g}. "
        f"Refuted: otherwise.",
        ("mamt", "mamt_ppo"),
        FOUR,
        "figure12",
        twice,
    ),
)
"""In the order of the table."""


def verdicts(found: Found, budget: str) -> Sheet:
    """One row for each claim and environment.

    Args:
        found: Recorded runs by environment and variant.
        budget: Named in the commands.
    """
    rows = []
    for claim in CLAIMS:
        for env in claim.envs:
            runs = found.get(env, {})
            lacking = [name for name in claim.variants if name not in runs]
            if lacking:
                verdict = Verdict(OPEN, NONE, f"runs of {_labels(lacking)}")
            else:
                verdict = claim.judge(env, runs)
                if _share(env, runs, claim) < SHARE:
                    needs = f"{SHARE:.0%} of the paper's episodes"
                    verdict = Verdict(OPEN, verdict.numbers, needs)
            rows.append(_row(claim, env, verdict, runs, budget))
    columns = ["claim", "in the paper", "environment", "verdict", "numbers", "episodes"]
    columns += ["what it would take", "records", "command"]
    caption = (
        f"Rules: `experiments/claims.py`. Below {SHARE:.0%} of the paper's episodes every claim is "
        f"open, whatever its numbers."
    )
    return Sheet("Verdicts", columns, rows, caption)


def _row(
    claim: Claim, env: str, verdict: Verdict, runs: Mapping[str, Opened], budget: str
) -> list[str]:
    mine = [runs[name] for name in claim.variants if name in runs]
    share = _share(env, runs, claim)
    return [
        claim.text,
        claim.where,
        env,
        verdict.outcome,
        verdict.numbers,
        f"{share * BUDGETS['paper'][env].episodes:,.0f} ({share:.1%})" if mine else NONE,
        verdict.needs or NONE,
        ", ".join(each.run.record for each in mine) or NONE,
        f"mamt reproduce {claim.target} --env {env} --budget {budget}",
    ]


def _share(env: str, runs: Mapping[str, Opened], claim: Claim) -> float:
    """Episodes of the shortest run over the paper's."""
    counts = [
        float(runs[name].metrics.episodes.sum("event").mean())
        for name in claim.variants
        if name in runs
    ]
    return min(counts, default=0.0) / BUDGETS["paper"][env].episodes


def _labels(variants: Sequence[str]) -> str:
    return " and ".join(VARIANTS[name].label for name in variants)


def rules() -> Sheet:
    """What confirms and what refutes each claim."""
    rows = [[claim.text, claim.where, claim.rule] for claim in CLAIMS]
    return Sheet("Claims", ["claim", "in the paper", "rule"], rows)
