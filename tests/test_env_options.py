"""What KEY=VALUE means, and that it is written as it is read."""

from __future__ import annotations

from typing import Any

import pytest

from mamt_jax.env_options import read_options, read_value, written
from mamt_jax.errors import ConfigError

VALUES = [
    ("3", 3),
    ("-1.5", -1.5),
    ("1e4", 1e4),
    ("true", True),
    ("False", False),
    ("FALSE", False),
    ("null", None),
    ("None", None),
    ("none", None),
    ("yes", "yes"),
    ('"false"', "false"),
    ("'3'", "3"),
    ("mpe2", "mpe2"),
    ("[1, 2.5, 'a']", [1, 2.5, "a"]),
    ("[true, null]", [True, None]),
    ("{'a': [1]}", {"a": [1]}),
    ('{"a": false}', {"a": False}),
    ("a.b=c", "a.b=c"),
    ("...", "..."),
    ("{1}", "{1}"),
    ("b'1'", "b'1'"),
    ("{[]: 1}", "{[]: 1}"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "value"), VALUES)
def test_values_are_literals_or_texts(text: str, value: Any) -> None:
    read = read_value(text)
    assert read == value and type(read) is type(value)
    again = read_value(written(value))
    assert again == value and isinstance(again, str) == isinstance(value, str)


def test_options_that_are_texts_stay_as_they_are_written() -> None:
    pairs = ["module=2048", "level=3", "agents_may_leave=false"]
    assert read_options("pettingzoo", pairs) == {
        "module": "2048", "level": 3, "agents_may_leave": False
    }  # fmt: skip
    assert read_options("spread", ["variant=none"]) == {"variant": "none"}
    for text in ("2048", "true", "1e4", "[1]", "mpe2"):
        assert read_value(text, text=True) == text == written(text, text=True)
    assert read_value("'mpe2'", text=True) == "mpe2"
    for text in ("'mpe2'", '"3"'):
        assert read_value(written(text, text=True), text=True) == text


def test_keys_and_values() -> None:
    assert read_options("spread", ["num_agents=2", "num_agents=3"]) == {"num_agents": 3}
    for bad in ("num_agents", "=3", "a b=3", ""):
        with pytest.raises(ConfigError, match="KEY=VALUE"):
            read_options("spread", [bad])
