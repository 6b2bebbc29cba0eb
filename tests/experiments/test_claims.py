"""Verdicts follow from the rules that are written beside the claims."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mamt_jax.experiments import claims
from mamt_jax.experiments.budgets import VARIANTS, planned
from mamt_jax.experiments.claims import CLAIMS, CONFIRMED, OPEN, REFUTED, verdicts
from mamt_jax.experiments.targets import TARGETS
from tests.experiments.made import opened, returning, with_quantities
from tests.reports.records import made_up


def ordered(better: list[float], worse: list[float]) -> claims.Verdict:
    runs = {
        "mamt": opened("mamt", "spread", returning(better)),
        "maac": opened("maac", "spread", returning(worse)),
    }
    return claims.order("spread", runs, "mamt", "maac")


@pytest.mark.parametrize(
    ("better", "worse", "outcome"),
    [
        ([5, 6, 7, 8, 9], [1, 2, 3, 4, 4.5], CONFIRMED),
        ([1, 2, 3, 4, 4.5], [5, 6, 7, 8, 9], REFUTED),
        ([1, 3, 5, 7, 9], [2, 4, 6, 8, 5], OPEN),
        ([2, 4, 6, 8, 10], [1, 3, 5, 7, 9], OPEN),  # ahead, by less than is sure
        ([1, 3, 5, 7, 9], [2, 4, 6, 8, 10], OPEN),
        ([5, 6, 7, 8], [1, 2, 3, 4, 4.5], OPEN),  # too few seeds
        ([5, 6], [1, 2], OPEN),
        ([5, 5, 5, 5, 5], [5, 5, 5, 5, 5], OPEN),  # no difference is none
    ],
)
def test_orders_of_returns(better: list[float], worse: list[float], outcome: str) -> None:
    verdict = ordered(better, worse)
    assert verdict.outcome == outcome and bool(verdict.needs) == (outcome == OPEN)


def test_orders_state_mann_and_whitneys_statistic() -> None:
    better, worse = [5.0, 6.0, 2.5, 8.0, 9.0], [1.0, 2.0, 3.0, 4.0, 4.5, 6.0]
    share = stats.mannwhitneyu(better, worse).statistic / 30
    assert f"P {share:.2f}" in ordered(better, worse).numbers


def divergence(early: float, late: float, maac: float) -> dict[str, claims.Opened]:
    """KL and D_ns of MAMT from one value to another, and MAAC's KL."""
    metrics = with_quantities(local_kl=0.0, nonstationarity=0.0)
    curve = np.linspace(early, late, 30)[None, :, None]
    for name in ("local_kl", "nonstationarity"):
        metrics[name] = metrics[name] + curve
    return {
        "mamt": opened("mamt", "spread", metrics),
        "maac": opened("maac", "spread", with_quantities(local_kl=maac)),
    }


@pytest.mark.parametrize(
    ("late", "kl", "falls"),
    [(0.2, CONFIRMED, CONFIRMED), (0.7, OPEN, OPEN), (1.5, REFUTED, REFUTED)],
)
def test_divergences(late: float, kl: str, falls: str) -> None:
    runs = divergence(1.0, late, maac=1.0)
    assert claims.controlled("spread", runs).outcome == kl
    assert claims.falls("spread", runs).outcome == falls


def following(deltas: list[float], sums: list[float]) -> claims.Verdict:
    pairs = np.array(sums)[:, None] * (1 - np.eye(3)) / 2
    metrics = with_quantities(delta=np.array(deltas), coordination_mean=pairs)
    return claims.follows("spread3_mix", {"mamt": opened("mamt", "spread3_mix", metrics)})


def test_delta_follows_coordination() -> None:
    assert following([1, 2, 3], [0.1, 0.2, 0.3]).outcome == CONFIRMED
    assert following([3, 2, 1], [0.1, 0.2, 0.3]).outcome == REFUTED
    assert following([2, 1, 3], [0.1, 0.2, 0.3]).outcome == OPEN  # 0.5
    assert following([1, 2, 3], [0.2, 0.2, 0.2]).outcome == OPEN


def test_ranks_are_scipys() -> None:
    values = np.array([3.0, 1.0, 3.0, 2.0, 5.0])
    np.testing.assert_allclose(claims._ranks(values) + 1, stats.rankdata(values))


def test_shares_beside_table_2() -> None:
    for share, outcome in ((0.9, CONFIRMED), (0.8, REFUTED)):
        run = opened("mamt", "spread", with_quantities(delta_within_budget=share))
        assert claims.shares("spread", {"mamt": run}).outcome == outcome


def test_twice_as_many_episodes() -> None:
    def rising(point: int) -> np.ndarray:
        return np.where(np.arange(30) >= point, -30.0, -60.0)

    def judged(mamt: int, ppo: int) -> str:
        runs = {}
        for name, point in (("mamt", mamt), ("mamt_ppo", ppo)):
            metrics = made_up(set())
            metrics["return_mean"] = metrics.return_mean * 0 + rising(point)
            runs[name] = opened(name, "spread", metrics)
        return claims.twice("spread", runs).outcome

    assert judged(10, 20) == CONFIRMED and judged(10, 11) == REFUTED and judged(10, 40) == OPEN


def test_every_claim_names_what_there_is() -> None:
    for claim in CLAIMS:
        assert claim.target in TARGETS and "Confirmed: " in claim.rule and "Refuted: " in claim.rule
        assert set(claim.variants) <= VARIANTS.keys()
        for env in claim.envs:
            for variant in claim.variants:
                assert planned(variant, env, "paper").env == env


def test_one_row_for_each_claim_and_environment() -> None:
    sheet = verdicts({}, "cpu")
    assert len(sheet.rows) == sum(len(claim.envs) for claim in CLAIMS)
    assert {row[3] for row in sheet.rows} == {OPEN}
    assert all(row[6].startswith("runs of ") for row in sheet.rows)


def test_short_runs_decide_nothing() -> None:
    """3,000 episodes are 30% of the paper's on Spread and 6% on Rover-Tower."""
    metrics = with_quantities(
        delta_within_budget=1.0, nonstationarity=1.0, delta=1.0, coordination_mean=0.5
    )
    found = {env: {"mamt": opened("mamt", env, metrics)} for env in ("spread", "rover_tower")}
    rows = {row[2]: row for row in verdicts(found, "cpu").rows if row[1] == "Table 2"}
    assert rows["spread"][3:6] == [CONFIRMED, "100.0%, paper 95.5%", "3,000 (30.0%)"]
    assert rows["rover_tower"][3] == OPEN
    assert rows["rover_tower"][5:7] == ["3,000 (6.0%)", "10% of the paper's episodes"]
