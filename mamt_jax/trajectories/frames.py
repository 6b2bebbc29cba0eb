"""Pictures of a greedy episode.

An episode is an iterable of arrays, which is all that :func:`mamt_jax.trajectories.gif.write_gif`
asks for. :func:`frames` plays JAX environments, which draw their states themselves. An environment
on the host brings pictures of its own: for it, yield what its ``render`` returns.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np
from numpy.typing import NDArray

from envs import Environment
from envs.wrappers import advance, start
from mamt_jax.config import ConfigError
from mamt_jax.training.policies import Policies

Frame = NDArray[np.uint8]


def frames(env: Environment, policies: Policies, seed: int, key: jax.Array) -> Iterator[Frame]:
    """Plays one greedy episode while its pictures are taken from the iterator.

    Args:
        env: Where.
        policies: Who acts.
        seed: Which seed's policies.
        key: All randomness of the episode.

    Returns:
        The start and what every step led to, each uint8 ``[H, W, 3]`` of the same size.

    Raises:
        ConfigError: At once, if the environment cannot be drawn or there is no such seed.
    """
    if not hasattr(env, "render"):
        raise ConfigError(f"{env.spec.name} cannot be drawn: it has no render method.")
    policies.check_seed(seed)
    return _play(env, policies, seed, key)


def _play(env: Environment, policies: Policies, seed: int, key: jax.Array) -> Iterator[Frame]:
    key, state, obs = start(env, key)
    yield env.render(state)
    over = False
    while not over:
        key, result = advance(env, key, state, policies.act(obs, seed))
        state, obs = result.state, result.obs
        yield env.render(state)
        over = bool(result.terminated | result.truncated)
