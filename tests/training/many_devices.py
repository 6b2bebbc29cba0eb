"""What is trained with one device, and in another process with several."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mamt_jax
from tests.training.test_together import CLIMBING, TINY


def train(folder: Path, what: str) -> Any:
    """A run of so many seeds, or of a list of settings; ``-on`` goes on with it, twice as long."""
    kind, _, on = what.partition("-")
    options = TINY | {"episodes": 40 if on else 20, "evaluation_interval": 1}
    options |= {"out": folder / kind, "resume": bool(on)}
    options |= {"learning_rate": [0.1, 0.3, 5.0]} if kind == "list" else {"seeds": int(kind)}
    return mamt_jax.train(CLIMBING, "toy_matching", **options)
