"""Grids: their points, what is refused, and what goes into one program."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mamt_jax.config import TrainConfig, make_config
from mamt_jax.errors import ConfigError
from mamt_jax.experiments.tuning import FIXED, RANGES
from mamt_jax.sweeps.grid import by_structure, read_grid
from mamt_jax.sweeps.halving import Standing, decide


def base(**options: Any) -> TrainConfig:
    tiny: dict[str, Any] = {"algorithm": "mamd", "env": "toy_matching", "hidden_size": 8}
    tiny |= {"batch_size": 8}
    tiny |= {"num_envs": 2, "steps_per_update": 10}
    return make_config(**tiny | {"seeds": 2, "episodes": 60} | options)


def test_points_are_all_combinations_with_the_last_setting_fastest() -> None:
    grid = read_grid(base(), {"learning_rate": np.array([3e-4, 1e-3]), "updates_per_event": [1, 4]})
    found = [tuple(point.values.values()) for point in grid.points]
    assert found == [(3e-4, 1), (3e-4, 4), (1e-3, 1), (1e-3, 4)]
    settings = grid.points[1].config.settings.flat()
    assert (settings["learning_rate"], settings["updates_per_event"]) == (3e-4, 4)
    assert grid.points[1].name == "learning_rate=0.0003,updates_per_event=4"
    assert grid.rungs == (60,)


def test_numbers_share_a_program_and_structure_does_not() -> None:
    axes = {"learning_rate": [3e-4, 1e-3], "updates_per_event": [1, 4], "num_envs": [2, 12]}
    grid = read_grid(base(), axes)
    groups = [[point.index for point in some] for some in by_structure(grid.points).values()]
    assert groups == [[0, 4], [1, 5], [2, 6], [3, 7]]


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({}, "at least one setting"),
        ([1], "at least one setting"),
        ({"learning_rte": [1.0]}, "did you mean 'learning_rate'"),
        ({"num_agents": [2, 3]}, "options of the environment included, has one value"),
        ({"seeds": [2, 3]}, "'seeds' is none of them"),
        ({"learning_rate": []}, "learning_rate must have a list of values"),
        ({"learning_rate": 0.1}, "learning_rate must have a list of values"),
        ({"learning_rate": [1e-3, 0.001]}, "learning_rate must have different values"),
        ({"learning_rate": [1e-3, -1]}, "learning_rate must be greater than 0, got -1"),
        ({"hidden_size": [8, 10]}, "hidden_size must be a multiple of attention_heads"),
        ({"batch_size": [8, 10_000]}, "batch_size must be at most the transitions"),
    ],
)
def test_what_makes_no_grid_is_refused(axes: Any, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read_grid(base(), axes)


def test_logging_points_are_as_long_at_all_rungs() -> None:
    axes = {"learning_rate": [3e-4, 1e-3]}
    assert read_grid(base(), axes, halving=True).points[0].config.log_interval == 10
    long = read_grid(base(episodes=6000), axes, halving=True)
    assert long.points[0].config.log_interval == 0 and long.rungs == (1000, 2000, 6000)
    with pytest.raises(ConfigError, match=r"log_interval must be at most .* \(10\), got 20"):
        read_grid(base(log_interval=20), axes, halving=True)
    with pytest.raises(ConfigError, match="episodes must be at least 6 for halving, got 5"):
        read_grid(base(episodes=5), axes, halving=True)


@pytest.mark.parametrize(("algorithm", "count"), [("mamd", 24), ("mamt", 216)])
def test_the_papers_ranges_are_grids(algorithm: str, count: int) -> None:
    config = base(algorithm=algorithm, **FIXED[algorithm])
    axes = {name: list(values) for name, values in RANGES[algorithm].items()}
    grid = read_grid(config, axes, halving=True)
    assert len(grid.points) == count and len(by_structure(grid.points)) == 3


def reference(scores: np.ndarray, lost: set[int]) -> list[list[int]]:
    """Who is trained to each rung, by sorting all that is known ``[point, rung]`` at once."""
    trained = [list(range(len(scores)))]
    for rung in range(scores.shape[1] - 1):
        now = trained[-1]
        order = [now[at] for at in np.argsort(-scores[now, rung], kind="stable")]
        order = [point for point in order if point not in lost]
        trained.append(sorted(order[: max(1, len(now) // 6)]))
    return trained


@pytest.mark.parametrize("count", [1, 5, 12, 24, 72])
@pytest.mark.parametrize("lost", [set(), {0, 3}])
def test_halving_trains_the_best_sixth_on(count: int, lost: set[int]) -> None:
    scores = np.random.default_rng(count).integers(0, 30, (count, 3)).astype(float)
    lost = lost & set(range(count - 1))
    rungs, values = (10, 20, 60), {point: dict[int, float]() for point in range(count)}
    order = np.random.default_rng(0)
    trained: list[list[int]] = [[], [], []]
    while True:
        found = decide([Standing(each, values[each], each in lost) for each in range(count)], rungs)
        if not found.pending:
            break
        point = int(order.choice(list(found.pending)))  # in any order
        level = found.pending[point]
        trained[level].append(point)
        values[point][rungs[level]] = scores[point, level]
    expected = reference(scores, lost)
    assert [sorted(each) for each in trained] == [
        [point for point in each if point not in lost] for each in expected
    ]
    assert sorted(found.done) == expected[-1]
    assert set(found.out) == set(range(count)) - lost - set(found.done)
