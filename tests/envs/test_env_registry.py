"""Names and options: what is listed, and what is refused with which words."""

from __future__ import annotations

from typing import Any

import pytest

from mamt_jax import envs

WRONG: list[tuple[str, dict[str, Any], list[str]]] = [
    ("sprad", {}, ["'sprad'", "spread", "spread3_sep", "toy_matching"]),
    ("spread", {"agents": 3}, ["'agents'", "num_agents", "variant", "episode_length"]),
    ("spread3_sep", {"num_agents": 3}, ["'num_agents'", "episode_length"]),
    ("spread", {"num_agents": 1}, ["num_agents", "at least 2", "got 1"]),
    ("spread", {"num_agents": 2.0}, ["num_agents", "integer", "2.0"]),
    ("spread", {"num_agents": "3"}, ["num_agents", "integer", "'3'"]),
    ("spread", {"num_agents": True}, ["num_agents", "integer", "True"]),
    ("spread", {"episode_length": 0}, ["episode_length", "at least 1", "got 0"]),
    ("spread", {"variant": "papr"}, ["variant", "'paper' or 'mpe2'", "'papr'"]),
    ("spread", {"variant": ["mpe2"]}, ["variant", "'paper' or 'mpe2'"]),
    ("spread", {"variant": "mpe2", "local_ratio": 1.5}, ["local_ratio", "[0, 1]", "1.5"]),
    ("spread", {"variant": "mpe2", "local_ratio": "x"}, ["local_ratio", "[0, 1]", "'x'"]),
    ("spread", {"local_ratio": 0.1}, ["local_ratio", "'mpe2' only", "'paper'"]),
    ("spread3_mix", {"episode_length": -3}, ["spread3_mix", "episode_length", "-3"]),
    ("toy_survival", {"num_actions": 1}, ["num_actions", "at least 2"]),
]


@pytest.mark.parametrize(("name", "chosen", "words"), WRONG)
def test_refusals_say_what_is_wrong(name: str, chosen: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        envs.make(name, **chosen)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert message.endswith(".") and "\n" not in message


def test_names_summaries_and_options_fit_together() -> None:
    assert set(envs.summaries()) == set(envs.names())
    assert all(envs.summaries().values())
    for name in set(envs.names()) - {"pettingzoo"}:  # which has to be told which one
        assert envs.make(name, **envs.options(name)) == envs.make(name)
    assert envs.options("spread") == {
        "num_agents": 2,
        "variant": "paper",
        "local_ratio": 0.5,
        "episode_length": 25,
    }
    with pytest.raises(ValueError, match="'nothing'"):
        envs.options("nothing")


def test_environments_cannot_be_changed() -> None:
    env = envs.make("spread")
    with pytest.raises(AttributeError):
        env.num_agents = 3  # type: ignore[attr-defined]
