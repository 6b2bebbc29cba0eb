"""Which runs can be compared: those that were trained on the same task."""

from __future__ import annotations

import ast
from typing import Any

import envs
from mamt_jax.config import TrainConfig


def task(config: TrainConfig) -> str:
    """Name of what a run was trained on, such as ``spread`` or ``spread (num_agents=3)``.

    Runs are comparable where it is the same: environment and options, the length of an episode
    among them. It names the options that are not as the environment has them by default.
    """
    defaults = envs.options(config.env) if config.env in envs.names() else {}
    chosen = [
        f"{name}={_shown(value)}"
        for name, value in sorted(config.env_options.items())
        if name not in defaults or _shown(value) != _shown(defaults[name])
    ]
    return f"{config.env} ({', '.join(chosen)})" if chosen else config.env


def _shown(value: Any) -> str:
    """A value as ``--env-option`` takes it; what JSON or the shell made another kind is one."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        inside = (f"{name!r}: {_shown(each)}" for name, each in sorted(value.items()))
        return f"{{{', '.join(inside)}}}"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if not isinstance(value, str):
        return repr(value)
    try:
        ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return value
    return repr(value)  # a text that would be read as a number
