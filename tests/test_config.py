"""Settings: what is accepted, what is refused, and in which words."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mamt_jax.config import ConfigError, make_config


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"seed": 2**31 - 8}, r"seed \+ seeds must be at most 2\*\*31 - 1, got 2147483648"),
        ({"seeds": 2**31}, r"seed \+ seeds must be at most"),
        ({"tsallis_q": 2.0}, r"tsallis_q must be in \[0, 2\), got 2.0"),
        ({"tsallis_q": -0.1}, "tsallis_q must be in"),
        ({"delta_exploration": -1.0}, "delta_exploration must be 0 or greater"),
        ({"delta_fixed": 200.0}, "delta_fixed must be between delta_min and delta_max"),
        ({"delta_init": 200.0}, "delta_init must be between delta_min and delta_max"),
        ({"batch_size": 1}, "batch_size must be 2 or greater"),
        ({"hyper": "x"}, "hyper must be an AlgorithmConfig or a dict, got 'x'"),
        ({"seeds": True}, "seeds must be an integer"),
        ({"seeds": np.float32(2)}, "seeds must be an integer"),
        ({"learning_rate": np.float32("inf")}, "learning_rate must be a finite number"),
    ],
)
def test_values_out_of_range(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_config(**options)


def test_numbers_of_numpy_become_python_s() -> None:
    config = make_config(seeds=np.int64(2), learning_rate=np.float32(0.5), delta_init=2)
    assert config == make_config(seeds=2, learning_rate=0.5, delta_init=2.0)
    assert '"seeds": 2' in json.dumps(config.to_dict())
    assert type(config.hyper.delta_init) is float


def test_largest_seed() -> None:
    assert make_config(seed=2**31 - 9).seed == 2**31 - 9
