"""The recorder's account of what diverged, and how its Dataset is laid out."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from mamt_jax import DivergedError
from mamt_jax.analysis.seeds import surviving
from mamt_jax.quantities import QUANTITIES
from mamt_jax.training.metrics import Recorder
from tests.reports.records import made_up


def diverging(**first_bad: int) -> SimpleNamespace:
    """One event of four updates in which each quantity is NaN from an update (1 …) on."""
    updates = np.arange(1, 5)[None, None]
    metrics = {name: np.where(updates >= bad, np.nan, 0.0) for name, bad in first_bad.items()}
    return SimpleNamespace(
        metrics=metrics,
        updated=np.array([True]),
        return_sum=np.zeros((1, 1)),
        episodes=np.ones((1, 1)),
        undecided=np.zeros((1, 1), bool),
    )


def test_loss_is_blamed_before_what_follows_from_it() -> None:
    with pytest.raises(DivergedError, match="^trd_loss of seed 5 .* at update 2;"):
        Recorder([5], 4).append(diverging(switching_cost_mean=2, trd_grad_norm=2, trd_loss=2))
    with pytest.raises(DivergedError, match="^critic_loss "):
        Recorder([5], 4).append(diverging(trd_loss=2, critic_grad_norm=2, critic_loss=2))
    with pytest.raises(DivergedError, match="^trd_grad_norm .* at update 1;"):
        Recorder([5], 4).append(diverging(critic_loss=2, trd_grad_norm=1))


@pytest.fixture(scope="module")
def everything() -> xr.Dataset:
    """Every quantity of four seeds, 30 logging points of 100 episodes."""
    return made_up(set(QUANTITIES))


def test_episodes_survive_the_mean_over_seeds(everything: xr.Dataset) -> None:
    for name in ("return_mean", "delta", "coordination_mean"):
        mean = everything[name].mean("seed")
        assert mean.episode.dims == ("update",)
        assert mean.episode.values[[0, -1]].tolist() == [100, 3000]
    figure = Figure()
    everything.return_mean.mean("seed").plot(x="episode", ax=figure.subplots())
    assert figure.axes[0].get_xlabel() == "episodes, mean over seeds\n[episode]"
    assert figure.axes[0].lines[0].get_xdata()[-1] == 3000


def test_episodes_are_those_of_the_seeds_that_count() -> None:
    """Three seeds end 1, 3 and 8 episodes at each point; the last one is lost."""
    recorder = Recorder([5, 6, 7], 4)
    for bad in (9, 2):
        output = diverging(trd_loss=bad)
        loss = np.zeros((3, 1, 4))
        loss[2] = output.metrics["trd_loss"]
        output.metrics = {"trd_loss": loss}
        output.return_sum, output.undecided = np.zeros((3, 1)), np.zeros((3, 1), bool)
        output.episodes = np.array([[1], [3], [8]])
        recorder.append(output)
    metrics = recorder.to_dataset()
    assert metrics.episode.values.tolist() == [2, 4]
    assert metrics.episode_at_update.values.tolist() == [[1, 2], [3, 6], [8, 16]]
    assert surviving(metrics).episode.equals(surviving(metrics).episode_at_update.mean("seed"))


def test_axes_have_names(everything: xr.Dataset) -> None:
    assert everything["head"].values.tolist() == [0, 1]
    assert everything.agent.values.tolist() == ["agent_0", "agent_1", "agent_2"]
    recorder = Recorder([5], 4, ("knight", "archer"))
    output = diverging(critic_loss=9)
    output.metrics = {
        "delta": np.zeros((1, 1, 4, 2)),
        "coordination_mean": np.arange(16.0).reshape(1, 1, 4, 2, 2),
    }
    recorder.append(output)
    metrics = recorder.to_dataset()
    again = Recorder.from_dataset(metrics, 1, 4).to_dataset()
    assert again.agent.equals(metrics.agent) and again.opponent.equals(metrics.opponent)
    pair = metrics.coordination_mean.sel(agent="archer", opponent="knight")
    np.testing.assert_allclose(pair, [[(2 + 6 + 10 + 14) / 4]])


def test_everything_says_what_it_is_and_fits_on_an_axis(everything: xr.Dataset) -> None:
    for name, variable in everything.variables.items():
        assert 0 < len(variable.attrs["long_name"]) <= 40, name
        assert variable.attrs["description"], name
        assert variable.dtype.kind in "iufU", name
    assert set(everything.variables) >= set(QUANTITIES)
    assert all(everything[name].attrs["units"] for name in everything.data_vars)
    json.dumps([everything.attrs, *(each.attrs for each in everything.variables.values())])
