"""Seeds that count, and what is known over them; of made-up runs."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from mamt_jax.analysis.seeds import over_seeds, surviving
from mamt_jax.errors import RunError


def run(loss: list[list[float]], diverged_at: list[float] | None = None) -> xr.Dataset:
    """Metrics of seeds 5, 6, … with a loss ``[S, T]`` of one agent, and returns that are ids."""
    values = np.array(loss, np.float32)
    seeds = 5 + np.arange(len(values))
    returns = np.repeat(seeds[:, None].astype(float), values.shape[1], axis=1)
    units = {"units": "nat"}
    data = {
        "return_mean": (("seed", "update"), returns),
        "return_sum": (("seed", "event"), returns * 2),
        "episodes": (("seed", "event"), np.full(values.shape, 2)),
        "loss": (("seed", "update", "agent"), values[..., None], units),
    }
    coords = {"seed": seeds, "episode_at_update": (("seed", "update"), returns * 0)}
    metrics = xr.Dataset(data, coords, {"points": values.shape[1]})
    return (
        metrics if diverged_at is None else metrics.assign(diverged_at_update=("seed", diverged_at))
    )


def test_all_survive_where_nothing_says_otherwise() -> None:
    metrics = run([[1, 2], [3, 4]])
    assert surviving(metrics) is metrics
    kept = surviving(run([[1, 2], [3, 4]], [np.nan, np.nan]))
    assert kept.seed.values.tolist() == [5, 6] and "diverged" not in kept.attrs


def test_seeds_that_diverged_are_left_out() -> None:
    metrics = run([[1, 2], [3, np.nan], [5, 6]], [np.nan, 1234, np.nan])
    kept = surviving(metrics)
    assert kept.seed.values.tolist() == [5, 7]
    assert kept.attrs == {"points": 2, "diverged": {6: 1234}}
    assert surviving(kept).attrs == kept.attrs
    assert kept.loss.values[..., 0].tolist() == [[1, 2], [5, 6]]
    assert over_seeds(kept).attrs == kept.attrs
    assert over_seeds(kept).loss.sel(moment="mean").values[:, 0].tolist() == [3, 4]


def test_a_run_of_which_nothing_is_left() -> None:
    with pytest.raises(RunError, match="all seeds diverged, the first at update 1,200"):
        surviving(run([[np.nan], [np.nan]], [3400, 1200]))


@pytest.mark.filterwarnings("error")
def test_moments_are_of_the_sample() -> None:
    reduced = over_seeds(run([[1, np.nan, 1], [3, np.nan, np.nan], [8, np.nan, 5]]))
    assert reduced.loss.dims == ("moment", "update", "agent")
    assert reduced.loss.attrs == {"units": "nat"}
    mean, std = (reduced.loss.sel(moment=moment).values[:, 0] for moment in ("mean", "std"))
    np.testing.assert_allclose(mean, [4, np.nan, 3])
    np.testing.assert_allclose(std, [13**0.5, np.nan, 8**0.5])
    assert reduced.return_mean.dims == ("seed", "update")
    assert reduced.return_sum.dims == reduced.episodes.dims == ("seed", "event")


def test_one_seed_has_no_deviation() -> None:
    reduced = over_seeds(run([[1, 2]]))
    assert reduced.loss.sel(moment="mean").values[:, 0].tolist() == [1, 2]
    assert np.isnan(reduced.loss.sel(moment="std")).all()
