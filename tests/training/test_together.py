"""Numbers as data: one program for all of them, and lists of settings beside each other."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mamt_jax
from mamt_jax.errors import ConfigError, InterruptedRun, RunError
from mamt_jax.settings import Learning, Networks, Replay, Settings, TargetNetworks
from mamt_jax.settings.tree import compose
from mamt_jax.training import loop
from mamt_jax.training.result import Run
from mamt_jax.types import Algorithm, Batch, Game

TINY: dict[str, Any] = {
    "seeds": 2,
    "episodes": 40,
    "batch_size": 8,
    "num_envs": 2,
    "steps_per_update": 10,
    "log_interval": 10,
    "checkpoint_interval": 1,
    "evaluation_interval": 2,
}
TRACES = {"update": 0}


def climbing(game: Game, settings: Settings) -> Algorithm:
    """Policies that ignore what they see and climb the immediate reward; counts its traces."""
    shape, learning = (game.num_agents, game.num_actions), settings[Learning]

    def init(key: jax.Array) -> jax.Array:
        return 0.1 * jax.random.normal(key, shape) + settings[TargetNetworks].target_tau

    def act(state: jax.Array, key: jax.Array, obs: jax.Array) -> jax.Array:
        logits = jnp.broadcast_to(state, (obs.shape[0], *shape))
        return jax.random.categorical(key, logits).astype(jnp.int32)

    def greedy(state: jax.Array, obs: jax.Array) -> jax.Array:
        return jnp.broadcast_to(state.argmax(-1), obs.shape[:2]).astype(jnp.int32)

    def update(
        state: jax.Array, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        TRACES["update"] += 1
        chosen = jax.nn.one_hot(batch.sample.action, shape[1])
        gain = (chosen * (batch.sample.reward - batch.reward_mean)[..., None]).mean(0)
        norm = jnp.linalg.norm(state, axis=-1)
        return state + learning.learning_rate * gain, {"policy_grad_norm": norm}

    return Algorithm("climbing", init, act, greedy, update)


CLIMBING = mamt_jax.Recipe(climbing, compose(Networks(), Learning(), Replay(), TargetNetworks()))


def train(**options: Any) -> Any:
    return mamt_jax.train(CLIMBING, "toy_matching", **TINY | options)


def same(one: Run, other: Run) -> None:
    assert one.config == other.config
    kept = dict(one.metrics.attrs), dict(other.metrics.attrs)
    for attrs in kept:
        for name in ("wall_seconds", "env_steps_per_second"):
            attrs.pop(name)
    assert kept[0] == kept[1]
    for name in one.metrics.variables:
        np.testing.assert_array_equal(one.metrics[name], other.metrics[name], str(name))
    np.testing.assert_array_equal(*(run.policies.learner for run in (one, other)))


@pytest.fixture(scope="module")
def alone() -> list[Run]:
    return [train(learning_rate=rate, target_tau=tau) for rate in (0.1, 5.0) for tau in (0.25, 0.5)]


def test_a_grid_of_numbers_compiles_one_program(alone: list[Run]) -> None:
    """The first run has traced everything; no other number traces anything."""
    before = TRACES["update"]
    assert before > 0
    for rate in (0.1, 0.2, 0.7):
        for tau in (0.1, 1.0):
            train(learning_rate=rate, target_tau=tau, discount=0.5)
    assert TRACES["update"] == before
    train(updates_per_event=3)  # another structure
    assert TRACES["update"] > before


def test_numbers_reach_the_update(alone: list[Run]) -> None:
    for name in ("learning_rate", "target_tau"):
        values = [run.config.settings.flat()[name] for run in alone]
        assert len(set(values)) == 2
    finals = [run.metrics.policy_grad_norm.values for run in alone]
    assert len({final.tobytes() for final in finals}) == 4


def test_settings_together_are_the_settings_alone(alone: list[Run]) -> None:
    """Bit for bit, in the order of the lists: the last one varies fastest."""
    together = train(learning_rate=[0.1, 5.0], target_tau=[0.25, 0.5])
    assert len(together) == 4
    for one, other in zip(alone, together, strict=True):
        same(one, other)


def test_side_by_side_on_one_axis(alone: list[Run]) -> None:
    """All rows vmapped, as on an accelerator."""
    for one, other in zip(
        alone, train(learning_rate=[0.1, 5.0], target_tau=[0.25, 0.5], seed_batch=8), strict=True
    ):
        for name in one.metrics.data_vars:
            np.testing.assert_allclose(one.metrics[name], other.metrics[name], 1e-5, 1e-6)


@pytest.fixture
def interrupted() -> Iterator[None]:
    """A signal comes when the second logging point is recorded."""
    append, calls = loop.Recorder.append, [0]

    def stopping(self: Any, *arguments: Any) -> None:
        append(self, *arguments)
        calls[0] += 1
        if calls[0] == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    loop.Recorder.append = stopping  # type: ignore[method-assign]
    yield
    loop.Recorder.append = append  # type: ignore[method-assign]


@pytest.mark.usefixtures("interrupted")
def test_interrupted_and_resumed_with_a_directory_each(tmp_path: Path, alone: list[Run]) -> None:
    asked = {"learning_rate": [0.1, 5.0], "target_tau": 0.25, "out": tmp_path / "grid"}
    with pytest.raises(InterruptedRun, match="after 2 of 4.*same settings again with resume=True"):
        train(**asked)
    assert sorted(path.name for path in (tmp_path / "grid").iterdir()) == [
        "learning_rate=0.1",
        "learning_rate=5.0",
    ]
    for run, one in zip(train(**asked, resume=True), (alone[0], alone[2]), strict=True):
        same(run, one)
        same(mamt_jax.load(run.path, algorithm=CLIMBING), run)
    with pytest.warns(UserWarning, match="is finished; nothing to do"):
        again = train(**asked, resume=True)
    same(again[1], alone[2])


@pytest.mark.usefixtures("interrupted")
@pytest.mark.parametrize("older", ["learning_rate=0.1", "learning_rate=5.0"])
def test_resumed_from_the_newest_that_all_have(
    tmp_path: Path, alone: list[Run], older: str
) -> None:
    """A process that was killed while it saved leaves one directory behind the others."""
    asked = {"learning_rate": [0.1, 5.0], "target_tau": 0.25, "out": tmp_path}
    with pytest.raises(InterruptedRun):
        train(**asked)
    checkpoints = tmp_path / older / "checkpoints"
    shutil.rmtree(checkpoints / "000002")
    for run, one in zip(train(**asked, resume=True), (alone[0], alone[2]), strict=True):
        same(run, one)
    shutil.rmtree(checkpoints)
    with pytest.raises(RunError, match="no checkpoint of the same logging point; resume each by"):
        train(**asked, resume=True)


def test_a_setting_that_diverges_leaves_the_others(tmp_path: Path, alone: list[Run]) -> None:
    with pytest.warns(UserWarning, match=r"learning_rate=1e\+38: 2 of 2 seeds diverged and are"):
        lost, kept = train(learning_rate=[1e38, 5.0], target_tau=0.25, out=tmp_path / "grid")
    same(kept, alone[2])
    assert np.isfinite(lost.metrics.diverged_at_update).all()
    assert lost.metrics.sizes["update"] < kept.metrics.sizes["update"]
    with pytest.warns(UserWarning, match=r"All seeds diverged in .*1e\+38; the others went on"):
        again, longer = train(
            learning_rate=[1e38, 5.0],
            target_tau=0.25,
            out=tmp_path / "grid",
            resume=True,
            episodes=60,
        )
    assert again.metrics.equals(lost.metrics) and longer.metrics.sizes["update"] == 6
    assert longer.path == kept.path


def test_directories_are_named_by_the_settings(tmp_path: Path) -> None:
    """Not by what was typed for them."""
    runs = train(learning_rate=[1, np.float32(0.5)], out=tmp_path, episodes=10)
    named = ["learning_rate=1.0", "learning_rate=0.5"]
    assert [run.path.name for run in runs] == named


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (
            {"hidden_size": [8, 16]},
            "hidden_size shapes the program, and takes one value",
        ),
        ({"learning_rate": []}, "learning_rate must be a list of different numbers, got"),
        ({"learning_rate": [[0.1]]}, "learning_rate must be a list of different numbers, got"),
        ({"learning_rate": np.array(0.1)}, "learning_rate must be a list of different numbers"),
        ({"learning_rate": [0.1, 0.2], "out": 3}, "3 is not the name of a file or folder"),
        ({"settings": CLIMBING.settings}, "settings cannot be given; settings of the algorithm"),
        ({"objects": ("env",)}, "objects cannot be given"),
        ({"learning_rate": [0.1, 0.1]}, "learning_rate must be a list of different numbers"),
        ({"learning_rate": [0.1, -1]}, "learning_rate must be greater than 0, got -1"),
        ({"seeds": [1, 2]}, r"seeds must be an integer, got \[1, 2\]"),
        ({"gae_lambda": [0.9]}, "has no gae_lambda"),
    ],
)
def test_lists_that_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        train(**options)


def test_a_place_that_is_taken_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "learning_rate=5.0").mkdir()
    (tmp_path / "learning_rate=5.0" / "file").touch()
    with pytest.raises(RunError, match="exists and is not an empty directory"):
        train(learning_rate=[0.1, 5.0], out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["learning_rate=5.0"]


def deciding(game: Game, settings: Settings) -> Algorithm:
    """Answers rightly where a number is large, else wrongly; learns nothing."""
    made, number = climbing(game, settings), settings[TargetNetworks].target_tau
    first = jnp.array([0, 0 if game.agents[0] == "left" else 1])  # of each agent, in context 0

    def greedy(state: jax.Array, obs: jax.Array) -> jax.Array:
        return (obs.argmax(-1) + first + (number < 0.5)).astype(jnp.int32) % 3

    return made._replace(act=lambda state, key, obs: greedy(state, obs), greedy=greedy)


@pytest.mark.parametrize("hosted", [False, True])
def test_numbers_reach_those_who_act(hosted: bool) -> None:
    """In training, in its evaluations, and afterwards: 5 of 5 right answers, or none."""
    recipe = mamt_jax.Recipe(deciding, CLIMBING.settings)
    env = mamt_jax.envs.make("pettingzoo", module="tests.envs.parallel_games", game="matching")
    where = env if hosted else "toy_matching"
    runs = mamt_jax.train(recipe, where, target_tau=[0.25, 1.0], **TINY | {"env_workers": 1})
    for run, expected in zip(runs, (0.0, 5.0), strict=True):
        assert (run.metrics.return_mean == expected).all()
        assert (run.metrics.greedy_return[:, -1] == expected).all()
        assert (run.evaluate(2) == expected).all()
        for greedy in (True, False):
            assert (run.play(2, greedy=greedy).returns == expected).all()
