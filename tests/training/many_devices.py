"""Trains with as many devices as ``XLA_FLAGS`` forces, in a process of its own.

python -m tests.training.many_devices FOLDER 3 8 11 list [--resume EPISODES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import jax

import mamt_jax
from tests.training.test_together import CLIMBING, TINY

SMALL = TINY | {"episodes": 20, "evaluation_interval": 1, "evaluation_episodes": 3}


def train(folder: Path, what: str, resume: bool = False, **options: int) -> None:
    """One run of that many seeds; or of a list of settings, 2 seeds each."""
    given = SMALL | options | {"out": folder / what, "resume": resume}
    if what == "list":
        mamt_jax.train(CLIMBING, "toy_matching", learning_rate=[0.1, 0.3, 5.0], **given)
    else:
        mamt_jax.train(CLIMBING, "toy_matching", **given | {"seeds": int(what)})


if __name__ == "__main__":
    folder, *asked = sys.argv[1:]
    print(jax.local_device_count())
    longer = "--resume" in asked
    for what in (each for each in asked if not each.startswith("-")):
        train(Path(folder), what, longer, **({"episodes": 40} if longer else {}))
