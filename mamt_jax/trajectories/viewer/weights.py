"""Weights of one seed's policies and critic, as a page holds them.

What networks.mjs reads: an index that JSON can hold, and a text with the numbers. Numbers are
float16, or float32 where a page must compute as Python does; of an array's bytes first all lowest
ones, then all second ones: sorted so they are deflated to about five sixths.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from mamt_jax.algorithms.actor_critic import LearnerState
from mamt_jax.algorithms.coordination import ScoreUnit
from mamt_jax.algorithms.learned_region import RegionState
from mamt_jax.errors import ConfigError
from mamt_jax.settings import AttentionNetworks, Coordination, Settings
from mamt_jax.types import Game

_REGIONS = ("mamd", "mamd_kl", "mamd_op", "mamt", "mamt_random", "mamt_fixed", "mamt_ws")
ALGORITHMS = ("maac", *_REGIONS)
"""Those whose policies and critic networks.mjs has."""


def check_algorithm(name: str) -> None:
    """Raises ConfigError for algorithms whose networks a page cannot compute."""
    if name not in ALGORITHMS:
        raise ConfigError(
            f"A live page computes the policies and critics of {', '.join(ALGORITHMS)}; those of "
            f"{name} are others, so it can only be recorded and viewed."
        )


def packed(
    algorithm: str, settings: Settings, game: Game, learner: Any, half: bool = True
) -> dict[str, Any]:
    """What networks.mjs needs of a learner.

    Args:
      algorithm: its name.
      settings: of the algorithm.
      game: sizes of the environment.
      learner: state of one seed.
      half: float16 weights; otherwise float32. Running statistics are float32 either way: where an
        observation hardly varies its mean has to be exact.

    Returns:
      "index", what JSON can hold: ``arrays``, a list of [name, shape, dtype] in the order of the
      numbers; ``action_counts``, ``heads``, and ``coordination`` (``kind``, ``threshold`` and
      ``unit``; None of algorithms without). "numbers", base64 of deflated bytes.

    Raises:
      ConfigError: a page has no such networks, or they are not finite.
    """
    check_algorithm(algorithm)
    assert isinstance(learner, LearnerState)
    index, parts = [], []
    for name, array in _named(learner):
        if not np.isfinite(array).all():
            raise ConfigError("The weights of this seed are NaN or infinite: it diverged.")
        is_weight = name.startswith(("actor", "critic"))
        array = _as_half(array) if half and is_weight else array
        index.append([name, list(array.shape), array.dtype.name])
        parts.append(np.ascontiguousarray(array.reshape(-1, 1).view(np.uint8).T).tobytes())
    # No repetitions to be found: looking for them makes it a twentieth larger.
    deflate = zlib.compressobj(9, strategy=zlib.Z_HUFFMAN_ONLY)
    numbers = deflate.compress(b"".join(parts)) + deflate.flush()
    rule = _coordination(settings, game, learner.region)
    return {
        "index": {
            "arrays": index,
            "action_counts": list(game.action_counts),
            "heads": settings[AttentionNetworks].attention_heads,
            "coordination": rule,
        },
        "numbers": base64.b64encode(numbers).decode(),
    }


def _named(learner: LearnerState) -> Iterator[tuple[str, NDArray[Any]]]:
    """All arrays that acting and inspection look at, float32, as part/module/kind."""
    for part, params in (("actor", learner.actor.params), ("critic", learner.critic.params)):
        for module, leaves in params["params"].items():
            for kind, leaf in leaves.items():
                yield f"{part}/{module}/{kind}", np.asarray(leaf, np.float32)
    for part in ("norm", "action_norm"):
        for kind, leaf in getattr(learner, part)._asdict().items():
            yield f"{part}/{kind}", np.asarray(leaf, np.float32)


def _as_half(array: NDArray[Any]) -> NDArray[np.float16]:
    """Little-endian halves; numbers beyond theirs become the largest."""
    largest = float(np.finfo(np.float16).max)
    return array.clip(-largest, largest).astype("<f2")


def _coordination(settings: Settings, game: Game, region: Any) -> dict[str, Any] | None:
    """How C_ij follows from the critic, see ``algorithms.coordination``."""
    if not isinstance(region, RegionState):
        return None
    if not isinstance(region.coordination, ScoreUnit):
        return {"kind": "equal", "threshold": 0.0, "unit": 1.0}
    chosen = settings[Coordination].settled()
    unit = float(jax.device_get(region.coordination.value()))
    relative = chosen.coordination_units == "relative"
    return {
        "kind": chosen.coordination,
        "threshold": chosen.coordination_threshold,
        "unit": max(unit, float(np.finfo(np.float32).tiny)) if relative else 1.0,
    }
