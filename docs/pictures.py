"""Draws the pictures of the environments' pages: ``python -m docs.pictures``.

Each is what an environment's own ``render`` makes of a state, some random steps after a reset.
"""

from __future__ import annotations

from pathlib import Path

import jax
from PIL import Image

from mamt_jax import envs

FOLDER = Path(__file__).parent / "environments" / "pictures"
STEPS = {"spread": 6, "spread3_mix": 6, "rover_tower": 3, "pursuit": 40, "multiwalker": 0}
"""Steps before the picture; compiling a step of Multi-Walker is not worth one."""


def draw(name: str, steps: int) -> Path:
    """Draws one environment; returns the file."""
    env, key = envs.make(name), jax.random.key(1)
    state, _ = jax.jit(env.reset)(key)
    step = jax.jit(env.step)
    for each in jax.random.split(key, steps):
        actions = jax.random.randint(each, (env.spec.num_agents,), 0, env.spec.num_actions)
        state = step(each, state, actions).state
    file = FOLDER / f"{name}.png"
    Image.fromarray(env.render(state)).quantize(64).save(file, optimize=True)
    return file


if __name__ == "__main__":
    for name, steps in STEPS.items():
        print(draw(name, steps))
