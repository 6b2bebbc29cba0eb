"""Records of runs that never were."""

from __future__ import annotations

import json
from pathlib import Path

from mamt_jax.config import make_config


def write_record(file: Path, returns: dict[str, list[float]], **config: object) -> Path:
    """A record with the given returns at logging points of 600 episodes each."""
    last = {"mean": -36.0, "std": 1.0, "low": -37.0, "high": -35.0, "iqm": -36.5}
    points = len(next(iter(returns.values())))
    summary = {
        "config": make_config(seeds=len(returns), **config).to_dict(),
        "first_return": last,
        "last_return": last,
        "episode": [600 * (point + 1) for point in range(points)],
        "update": list(range(points)),
        "return_mean": returns,
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(summary))
    return file
