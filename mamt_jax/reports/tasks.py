"""Which runs can be compared: those that were trained on the same task."""

from __future__ import annotations

from mamt_jax import envs
from mamt_jax.config import TrainConfig
from mamt_jax.env_options import is_text, written


def task(config: TrainConfig) -> str:
    """Name of what a run was trained on, such as ``spread`` or ``spread (num_agents=3)``.

    Runs are comparable where it is the same: environment and options, the length of an episode
    among them. It names the options that are not as the environment has them by default.
    """
    defaults = envs.options(config.env) if config.env in envs.names() else {}
    chosen = []
    for name, value in sorted(config.env_options.items()):
        if name == "typical_length":  # by it a run is planned; the episodes are the same
            continue
        text = is_text(config.env, name)
        shown = written(value, text)
        if name not in defaults or shown != written(defaults[name], text):
            chosen.append(f"{name}={shown}")
    return f"{config.env} ({', '.join(chosen)})" if chosen else config.env
