"""Which runs can be compared."""

from __future__ import annotations

from typing import Any

import pytest

from mamt_jax import envs
from mamt_jax.config import make_config
from mamt_jax.experiments.references import references
from mamt_jax.reports.tasks import task


@pytest.mark.parametrize(
    ("env", "options", "name"),
    [
        ("spread", {}, "spread"),
        ("spread", envs.options("spread"), "spread"),
        ("spread", {"num_agents": 2, "episode_length": 25.0}, "spread"),
        ("spread", {"variant": "mpe2", "num_agents": 3}, "spread (num_agents=3, variant=mpe2)"),
        ("spread3_mix", {"episode_length": 50}, "spread3_mix (episode_length=50)"),
        (
            "pettingzoo",
            {"module": "mpe2.simple_reference_v3", "agents_may_leave": True},
            "pettingzoo (module=mpe2.simple_reference_v3)",
        ),
        ("pettingzoo", {"module": "m", "sizes": (1, 2.0)}, "pettingzoo (module=m, sizes=[1, 2])"),
        ("pettingzoo", {"module": "m", "level": "3"}, "pettingzoo (level='3', module=m)"),
        ("pettingzoo", {"module": "2048", "a": "true"}, "pettingzoo (a='true', module=2048)"),
        ("pettingzoo", {"module": "m", "a": False}, "pettingzoo (a=False, module=m)"),
        ("pettingzoo", {"module": "m", "typical_length": 9}, "pettingzoo (module=m)"),
        ("somebody_else_s", {"size": 3}, "somebody_else_s (size=3)"),
    ],
)
def test_names_are_environments_and_what_is_not_default(
    env: str, options: dict[str, Any], name: str
) -> None:
    config = make_config(env=env, env_options=options)
    assert task(config) == name
    assert (references(config) is not None) == (name == "spread")
