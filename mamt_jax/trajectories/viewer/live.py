"""The page one can touch: a game in JavaScript, and the trained networks that play it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, NamedTuple

import numpy as np

from mamt_jax.envs.base import view_fields
from mamt_jax.envs.scene import fields_in, scene
from mamt_jax.errors import ConfigError
from mamt_jax.settings import Settings
from mamt_jax.trajectories.viewer.embed import as_script
from mamt_jax.trajectories.viewer.page import assembled
from mamt_jax.trajectories.viewer.weights import check_algorithm, packed
from mamt_jax.types import Game

ENVIRONMENTS = ("spread", "spread3_sep", "spread3_mix", "spread3_ful", "rover_tower", "pursuit")
"""Those whose step games.mjs has."""

MODULES = (
    "columns.mjs",
    "scene.mjs",
    "drawing.mjs",
    "strips.mjs",
    "pane.mjs",
    "particles.mjs",
    "pursuit.mjs",
    "games.mjs",
    "networks.mjs",
    "world.mjs",
    "decisions.mjs",
    "hands.mjs",
    "live.mjs",
)
"""What the page runs; inlined into one module, in this order."""


class Trained(NamedTuple):
    """What plays on the page, and where."""

    env: Any
    algorithm: str
    """Its name."""
    settings: Settings
    game: Game
    learner: Any
    """State of one seed."""
    about: str = ""
    """Where it comes from, for people."""


def check_live(algorithm: str, env: str) -> None:
    """Raises ConfigError, in one sentence, where there is no live page."""
    if env not in ENVIRONMENTS:
        raise ConfigError(
            f"A live page plays {', '.join(ENVIRONMENTS)}; {env} can be recorded and viewed."
        )
    check_algorithm(algorithm)


def live_page(trained: Trained, title: str, half: bool = True) -> str:
    """The page as text: HTML that asks for nothing else.

    Args:
        trained: Who plays.
        title: Of the page.
        half: Weights as float16; otherwise float32, which is twice as much.

    Raises:
        ConfigError: There is no live page of this environment or algorithm, or the seed diverged.
    """
    env, name = trained.env, trained.env.spec.name
    check_live(trained.algorithm, name)
    described, fields = scene(env), view_fields(env)
    assert described is not None
    drawn = json.loads(described.as_json())
    still = {
        one: np.asarray(fields[one].still, float).ravel().tolist()
        for one in sorted(fields_in(drawn))
        if fields[one].still is not None
    }
    spec = env.spec
    data = {
        "title": title,
        "about": trained.about,
        "agents": list(spec.agents),
        "actions": [list(words) for words in spec.action_names],
        "length": spec.episode_length,
        "scene": drawn,
        "still": still,
        "options": {"name": name} | dataclasses.asdict(env),
        "weights": packed(*trained[1:5], half=half),
    }
    styles = "viewer.css", "live.css"
    return assembled(title, as_script(data), MODULES, "startLive();", "live.html", styles)
