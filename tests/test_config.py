"""Configs: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mamt_jax.algorithms.registry import ALGORITHMS
from mamt_jax.config import TrainConfig, make_config
from mamt_jax.errors import ConfigError
from mamt_jax.settings import PPO, LearnedRegion, Learning, Replay


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 2**31 - 8}, r"seed \+ seeds must be at most 2\*\*31 - 1, got 2147483648"),
        ({"seeds": 2**31}, r"seed \+ seeds must be at most"),
        ({"tsallis_q": 2.0}, r"tsallis_q must be in \[0, 2\), got 2.0"),
        ({"tsallis_q": -0.1}, "tsallis_q must be in"),
        ({"delta_exploration": -1.0}, "delta_exploration must be 0 or greater"),
        ({"batch_size": 1}, "batch_size must be 2 or greater"),
        ({"seeds": True}, "seeds must be an integer"),
        ({"seeds": np.float32(2)}, "seeds must be an integer"),
        ({"evaluation_episodes": 10**6}, "evaluation_episodes must be at most 100000"),
        ({"keep_checkpoints": 1}, 'keep_checkpoints must be 2 or greater, or "all", got 1'),
        ({"keep_checkpoints": "none"}, 'keep_checkpoints must be an integer or "all"'),
        ({"env_timeout": 0}, "env_timeout must be greater than 0"),
        ({"env_options": {1: 2}}, "env_options must be a dict from names to values"),
        ({"algorithm": 3}, "algorithm must be a name, got 3"),
        ({"algorithm": "mamtt"}, r"Unknown algorithm 'mamtt' \(did you mean 'mamt'\?\); accepted"),
        ({"algorithm": "nowhere:rule"}, "Cannot import nowhere: ModuleNotFoundError"),
        ({"algorithm": "json:rule"}, "json has no rule"),
        ({"algorithm": "json:__name__"}, "An algorithm is a name, a Recipe, or a function"),
        ({"algoritm": "mamt"}, r"Unknown option 'algoritm' \(did you mean 'algorithm'\?\)"),
        ({"discont": 0.5}, r"Unknown option 'discont' \(did you mean 'discount'\?\); accepted are"),
        ({"algorithm": "maac", "tsallis_q": 0.5}, "maac has no tsallis_q; its settings are hidden"),
        ({"algorithm": "mappo", "batch_size": 8}, "mappo has no batch_size; its settings are"),
    ],
)
def test_what_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_config(**options)


def test_numbers_of_numpy_become_python_s() -> None:
    config = make_config(seeds=np.int64(2), learning_rate=np.float32(0.5), delta_init=2)
    assert config == make_config(seeds=2, learning_rate=0.5, delta_init=2.0)
    assert '"seeds": 2' in json.dumps(config.to_dict())
    assert type(config.settings[LearnedRegion].delta_init) is float


def test_largest_seed() -> None:
    assert make_config(seed=2**31 - 9).seed == 2**31 - 9


@pytest.mark.parametrize("name", ALGORITHMS)
def test_every_algorithm_s_config_survives_json(name: str) -> None:
    config = make_config(algorithm=name, learning_rate=0.5, env_workers=3, seeds=2).settled()
    read = TrainConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert read == config
    assert None not in read.settings.flat().values()
    assert (read.settings[Learning].learning_rate, read.execution.env_workers) == (0.5, 3)


def test_on_policy_defaults_are_its_own() -> None:
    """Table 6, and a budget of δ that is as wide as PPO's clip ranges together."""
    settings = make_config(algorithm="mamt_ppo").settings
    assert settings[Learning].policy_clip == 10 and settings[Learning].critic_weight_decay == 0
    assert settings[LearnedRegion].delta_total_per_agent == 1
    assert settings[PPO].rollout_size == 4096 and Replay not in settings


def test_settings_of_an_algorithm_that_is_not_here_are_kept_as_recorded() -> None:
    values = make_config().to_dict() | {"algorithm": "nowhere:rule"}
    values["settings"] = {"mine": {"warmth": 0.5}}
    read = TrainConfig.from_dict(values)
    assert read.settings.flat() == {"warmth": 0.5}
    assert TrainConfig.from_dict(read.to_dict()).to_dict() == values


@pytest.mark.parametrize("damage", [{"settings": {"learning": {"x": 1}}}, {"seeds": "8"}, {"x": 1}])
def test_a_damaged_config_is_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        TrainConfig.from_dict(make_config().to_dict() | damage)
