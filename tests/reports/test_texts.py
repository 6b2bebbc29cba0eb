"""How numbers over seeds are written."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from mamt_jax.analysis.statistics import summarise
from mamt_jax.reports.texts import passed, seeds, sentence, text


def curves(*returns: list[float]) -> xr.Dataset:
    """Straight lines, which smoothing leaves alone, at logging points of 100 episodes."""
    episodes = np.tile(100 * (1 + np.arange(len(returns[0]))), (len(returns), 1))
    return xr.Dataset(
        {"return_mean": (("seed", "update"), np.array(returns))},
        {"episode_at_update": (("seed", "update"), episodes)},
    )


@pytest.mark.parametrize(
    ("values", "in_a_table", "after_it"),
    [
        ([-40.0], "-40.00", " (1 seed)"),
        ([-40.0, -30.0], "-35.00 ± 7.07", " (mean ± std over 2 seeds)"),
        (
            [-40.0, -30.0, -50.0],
            "-40.00 ± 10.00 [-50.00, -30.00]",
            " (mean ± std over 3 seeds [95% interval of the mean])",
        ),
    ],
)
def test_as_much_spread_as_the_seeds_can_tell(
    values: list[float], in_a_table: str, after_it: str
) -> None:
    summary = summarise(np.array(values))
    assert text(summary) == in_a_table
    assert sentence(summary, len(values)) == in_a_table + after_it


def test_seeds_left_out_are_counted() -> None:
    metrics = curves([0.0], [0.0])
    assert seeds(metrics) == "2"
    assert seeds(metrics.assign_attrs(diverged={7: 12})) == "2 (1 diverged)"


@pytest.mark.parametrize(
    ("level", "says"),
    [
        (-0.5, "100 (3 of 3: 100)"),
        (1.2, "200 (3 of 3: 200 to 400)"),
        (5.5, "never (2 of 3: 300 to 400)"),
        (6.5, "never (1 of 3: 400)"),
        (9.0, "never (0 of 3)"),
    ],
)
def test_seeds_that_pass_are_counted(level: float, says: str) -> None:
    """Also where the mean over seeds does not pass."""
    assert passed(curves([0.0, 3, 6, 9], [0.0, 2, 4, 6], [0.0, 0.5, 1, 1.5]), level) == says


def test_a_level_passed_by_one_seed_alone() -> None:
    assert passed(curves([0.0, 3, 6, 9]), 5.5) == "300 (1 of 1)"
    assert passed(curves([0.0, 3, 6, 9]), 9.5) == "never (0 of 1)"
