"""Pictures of a greedy episode.

An episode is an iterable of arrays, which is all that :func:`mamt_jax.trajectories.gif.write_gif`
asks for. JAX environments draw their states; those on the host are asked for pictures of their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from envs import Environment, HostEnvironment
from envs.hosted import HostEpisodes
from envs.wrappers import advance, start
from mamt_jax.config import ConfigError
from mamt_jax.training.policies import Policies

Frame = NDArray[np.uint8]


def frames(
    env: Environment | HostEnvironment, policies: Policies, seed: int, key: jax.Array
) -> Iterator[Frame]:
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
    policies.check_seed(seed)
    if isinstance(env, HostEnvironment):
        return _play_on_host(_opened_to_look_at(env), policies, seed, key)
    if not hasattr(env, "render"):
        raise ConfigError(f"{env.spec.name} cannot be drawn: it has no render method.")
    return _play(env, policies, seed, key)


def _play(env: Environment, policies: Policies, seed: int, key: jax.Array) -> Iterator[Frame]:
    key, state, obs = start(env, key)
    yield env.render(state)
    over = False
    while not over:
        key, result = advance(env, key, state, policies.act(obs, seed))
        state, obs = result.state, result.obs
        if result.alive is not None:
            obs = jnp.where(result.alive[:, None], obs, 0.0)
        yield env.render(state)
        over = bool(result.finished)


def _opened_to_look_at(env: HostEnvironment) -> HostEpisodes:
    try:
        return HostEpisodes(env, render_mode="rgb_array")
    except ValueError as error:
        raise ConfigError(f"{env.spec.name} cannot be drawn: {error}") from error


def _play_on_host(
    episodes: HostEpisodes, policies: Policies, seed: int, key: jax.Array
) -> Iterator[Frame]:
    obs = episodes.reset(int(jax.random.bits(key)) >> 1)
    yield _picture(episodes)
    over = False
    while not over:
        step = episodes.step(policies.act(obs, seed))
        obs, over = step.obs, step.finished
        yield _picture(episodes)


def _picture(episodes: HostEpisodes) -> Frame:
    try:
        return np.asarray(episodes.parallel_env.render(), np.uint8)
    except Exception as error:  # whatever foreign code raises
        raise ConfigError(f"{episodes.spec.name} cannot be drawn: {error}") from error
