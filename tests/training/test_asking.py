"""What policies and critics say at observations: named, without an environment, or one sentence."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from mamt_jax.errors import ConfigError, DivergedError
from mamt_jax.training.policies import Policies
from mamt_jax.training.result import Run
from mamt_jax.types import Algorithm, Game
from tests.training import fakes

GAME = Game((3, 2), (3, 2), None, ("fox", "hen"))
WEIGHTS = jnp.array([1.0, 2.0, jnp.nan])
RNG = np.random.default_rng(0)


def asked() -> Algorithm:
    """Says what it was asked, times the weight of the seed."""

    def inspect(state: Any, obs: Any, action: Any, alive: Any) -> dict[str, jax.Array]:
        there = jnp.ones(action.shape, bool) if alive is None else alive
        pairs = jnp.where(there[:, :, None] & there[:, None], 1.0, jnp.nan)
        pairs = pairs * (action[:, :, None] * 10.0 + action[:, None, :])
        return {
            "probability": state["w"] * obs,
            "attention": state["w"] * pairs[..., None] + jnp.array([0.25, 0.5]),
            "coordination": state["w"] * pairs,
        }

    return fakes.algorithm()._replace(inspect=inspect)


def run_of(algorithm: Algorithm) -> Run:
    policies = Policies(algorithm, {"w": WEIGHTS}, (4, 7, 9), GAME)
    return Run(fakes.config(), xr.Dataset(), None, lambda: policies)


@pytest.fixture(scope="module")
def run() -> Run:
    return run_of(asked())


@pytest.mark.parametrize("outer", [(), (5,), (2, 3)])
def test_answers_are_named_and_of_their_seed(run: Run, outer: tuple[int, ...]) -> None:
    obs = RNG.normal(size=(*outer, 2, 3)).astype(np.float32)
    actions = RNG.integers(0, 2, size=(*outer, 2))
    said = run.probabilities(obs, 7)
    np.testing.assert_allclose(said.values, 2 * obs)
    leading = {(): (), (5,): ("sample",), (2, 3): ("sample_0", "sample_1")}[outer]
    assert said.dims == (*leading, "agent", "action") and said.attrs["units"] == "1"
    assert said.agent.values.tolist() == ["fox", "hen"] and said.action.values.tolist() == [0, 1, 2]
    expected = 10.0 * actions[..., :, None] + actions[..., None, :]
    np.testing.assert_allclose(run.coordination(obs, actions).values, expected)
    heads = run.attention(obs, actions, seed=7)
    assert heads.dims == (*leading, "agent", "opponent", "head")
    np.testing.assert_allclose(heads.sel(head=1).values, 2 * expected + 0.5)
    one = heads.sel(agent="fox", opponent="hen", head=0)
    np.testing.assert_allclose(one, 20 * actions[..., 0] + 2 * actions[..., 1] + 0.25)


def test_names_of_what_is_asked_are_kept(run: Run) -> None:
    obs = xr.DataArray(
        np.ones((2, 3, 2, 3)), {"moment": [4, 5, 6]}, ("episode", "moment", "agent", "obs")
    )
    said = run.probabilities(obs)
    assert said.dims == ("episode", "moment", "agent", "action")
    assert said.moment.values.tolist() == [4, 5, 6] and "episode" not in said.coords


def test_agents_that_left_are_left_out(run: Run) -> None:
    actions = np.array([[1, 1], [-1, 1]])
    said = run.coordination(np.ones((2, 2, 3)), actions)
    np.testing.assert_array_equal(said.isel(sample=0), [[11, 11], [11, 11]])
    np.testing.assert_array_equal(np.isnan(said.isel(sample=1)), [[True, True], [True, False]])


OBS, ACTIONS = np.zeros((4, 2, 3)), np.zeros((4, 2), int)


@pytest.mark.parametrize(
    ("obs", "actions", "says"),
    [
        (OBS[..., :2], ACTIONS, r"obs must be \[2, 3\] or \[..., 2, 3\], got shape \(4, 2, 2\)"),
        (OBS[:0], ACTIONS[:0], r"got shape \(0, 2, 3\)"),
        (OBS[0, 0], ACTIONS, r"got shape \(3,\)"),
        ("words", ACTIONS, "obs must be an array of numbers"),
        (OBS + np.nan, ACTIONS, "obs must hold finite numbers"),
        (OBS, ACTIONS[:3], r"actions must be \[4, 2\], .* got shape \(3, 2\)"),
        (OBS, ACTIONS + 0.5, "actions must be integers, got float64"),
        (OBS, "words", "actions must be integers"),
        (OBS, [[1], [1, 2]], "actions must be an array of integers"),
        (OBS, ACTIONS + 2, r"actions must be below \(3, 2\), .*; got 2 to 2"),
        (OBS, ACTIONS - 2, "got -2 to -2"),
    ],
)
def test_what_cannot_be_asked(run: Run, obs: Any, actions: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        run.attention(obs, actions)
    assert "\n" not in str(caught.value)


def test_who_has_nothing_to_say(run: Run) -> None:
    with pytest.raises(ConfigError, match="No seed 5; the run has 4, 7, 9"):
        run.probabilities(OBS, 5)
    with pytest.raises(DivergedError, match="seed 9 are NaN"):
        run.coordination(OBS, ACTIONS, 9)
    mute = run_of(fakes.algorithm())
    with pytest.raises(ConfigError, match="fake has no probability. It says nothing"):
        mute.probabilities(OBS)
    plain = asked()._replace(inspect=lambda state, obs, action, alive: {"value": obs[..., 0]})
    for ask, why in ((run_of(plain).attention, "critic"), (run_of(plain).coordination, "regions")):
        with pytest.raises(ConfigError, match=f"has no .*{why}.* It says value"):
            ask(OBS, ACTIONS)
