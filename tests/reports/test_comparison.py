"""Comparisons of runs: whatever they are given as, and of what they are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import mamt_jax
from mamt_jax import ConfigError, RunError
from mamt_jax.analysis.returns import last_by_seed
from mamt_jax.config import make_config
from mamt_jax.reports.record import record
from mamt_jax.training.result import Run
from tests.reports.records import diverging, made_up, write_record, write_run


def run_of(metrics: xr.Dataset, **config: Any) -> Run:
    made = make_config(**{"algorithm": "maac", "seeds": metrics.sizes["seed"]} | config)
    return Run(made, metrics, None, lambda: pytest.fail("policies were read"))


@pytest.fixture(scope="module")
def rising() -> xr.Dataset:
    return made_up(set(), seeds=5)


def shifted(metrics: xr.Dataset, by: float) -> xr.Dataset:
    """Returns that are higher by so much."""
    return metrics.assign(return_sum=metrics.return_sum + by * metrics.episodes)


def test_runs_directories_and_records_compare_alike(tmp_path: Path, rising: xr.Dataset) -> None:
    better = shifted(rising, 0.125)
    folder = write_run(tmp_path / "mamd", better, algorithm="mamd")
    kept = record(folder, tmp_path / "mamd.json")
    first = run_of(rising)
    found = [mamt_jax.compare([first, each]) for each in (run_of(better), folder, str(kept))]
    assert list(found[0].returns) == ["maac (1)", "maac (2)"]
    for each in found:
        assert each.data.estimate.values.tolist() == ["value", "low", "high"]
        assert each.data.seeds.values.tolist() == [5, 5]
        for name in ("iqm", "difference", "improvement"):
            np.testing.assert_array_equal(each.data[name].values, found[0].data[name].values)
    one, two = (last_by_seed(metrics) for metrics in (rising, better))
    wins = np.mean([[(b > a) + (b == a) / 2 for a in one] for b in two])
    data = found[1].data.sel(run="mamd")
    assert float(data.improvement.sel(estimate="value")) == wins == 0.76
    np.testing.assert_allclose(float(data.difference.sel(estimate="value")), 0.125, atol=1e-5)
    assert (
        float(data.difference.sel(estimate="low")) < 0 < float(data.difference.sel(estimate="high"))
    )
    assert np.isnan(found[1].data.difference.sel(run="maac")).all()


def test_the_table_says_what_it_compares(rising: xr.Dataset) -> None:
    lost = diverging(rising, {1: 40})
    names = ["all", "four", "<b>"]
    found = mamt_jax.compare([run_of(rising), run_of(lost), run_of(shifted(rising, 50))], names)
    lines = repr(found).splitlines()
    assert "on spread [95% bootstrap interval]; differences and" in lines[0]
    heads = ["run", "seeds", "episodes", "IQM of returns", "difference"]
    assert re.split(r" {2,}", lines[2]) == [*heads, "improves with probability"]
    episodes, value = f"{int(rising.episode[-1]):,}", f"{float(found.data.iqm[0, 0]):.2f}"
    assert lines[3].split()[:4] == ["all", "5", episodes, value]
    assert lines[4].split()[:4] == ["four", "4", "(1", "diverged)"]
    assert lines[5].endswith("  1.00 [1.00, 1.00]") and "  50.00 [49." in lines[5]
    page = found._repr_html_()
    assert page.count("<tr>") == 4 and "&lt;b&gt;" in page and "<b>" not in page
    assert found.returns["four"].tolist() == [found.returns["all"][k] for k in (0, 2, 3, 4)]


def test_runs_of_one_algorithm_are_told_apart_by_their_settings(rising: xr.Dataset) -> None:
    rates = [run_of(rising, learning_rate=rate) for rate in (1e-3, 3e-3)]
    found = mamt_jax.compare(run for run in rates)
    assert list(found.returns) == ["maac, learning_rate=0.001", "maac, learning_rate=0.003"]


def test_what_cannot_be_compared(tmp_path: Path, rising: xr.Dataset) -> None:
    good = run_of(rising)
    two_left = diverging(rising, {0: 5, 1: 5, 4: 9})
    silent = rising.assign(episodes=rising.episodes * (rising.seed != 3))
    old = write_record(tmp_path / "old.json", {"0": [-40.0, -37.0], "1": [-41.0, -36.0]})
    for runs, names, says in (
        ([good], None, "a list of at least two runs"),
        (good, None, "a list of at least two runs"),
        ([good, run_of(rising, env="pursuit")], None, "on one environment, .* spread and pursuit"),
        (
            [good, run_of(rising, env_options={"num_agents": 3})],
            None,
            'and spread {"num_agents": 3}',
        ),
        ([good, good], ["a"], "names must be 2 different ones, got"),
        ([good, good], ["a", "a"], "names must be 2 different ones, got"),
        ([good, good], ["a", "b", "b"], "names must be 2 different ones, got"),
        ([good, good], "ab", "names must be 2 different ones, got 'ab'"),
        (None, None, "a list of at least two runs"),
        ("ab", None, "a list of at least two runs"),
    ):
        with pytest.raises(ConfigError, match=says):
            mamt_jax.compare(runs, names)  # type: ignore[arg-type]
    for other, says in (
        (run_of(two_left), r"maac \(2\) has 2 seeds that did not diverge; .* at least 3"),
        (run_of(diverging(rising, dict.fromkeys(range(5), 3))), "maac: all seeds diverged"),
        (run_of(silent), "has a seed in which no episode has ended yet"),
        (old, "has 2 seeds that did not diverge"),
        (tmp_path / "nothing", "does not exist"),
    ):
        with pytest.raises(RunError, match=says):
            mamt_jax.compare([good, other])
