"""Pictures of a greedy episode.

An episode is an iterable of arrays, which is all that :func:`mamt_jax.trajectories.gif.write_gif`
asks for. JAX environments draw their states; those on the host are asked for pictures of their own.
Below each of them is written what was done, see :mod:`mamt_jax.trajectories.strip`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import count, islice
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from mamt_jax.envs import Environment, HostEnvironment
from mamt_jax.envs.drawing import Frame
from mamt_jax.envs.hosted import HostEpisodes, words
from mamt_jax.envs.wrappers import advance, start
from mamt_jax.errors import ConfigError, EnvironmentFailed
from mamt_jax.training.policies import Policies
from mamt_jax.trajectories.pictures import as_picture, fitted, size_for
from mamt_jax.trajectories.strip import OUT, Strip


class Moment(NamedTuple):
    """An episode after `step` steps."""

    step: int
    return_so_far: float  # undiscounted, averaged over agents
    actions: NDArray[Any] | None  # [n], what led here, OUT of agents that took none; None at first
    draw: Callable[[], Any]  # the environment's own picture, to be asked for before the next step


def frames(
    env: Environment | HostEnvironment,
    policies: Policies,
    seed: int,
    key: jax.Array,
    which: slice = slice(None),
) -> Iterator[Frame]:
    """Plays one greedy episode while its pictures are taken from the iterator.

    Args:
        env: Where.
        policies: Who acts.
        seed: Which seed's policies.
        key: All randomness of the episode.
        which: Pictures to take, of which there are one for the start and one for every step.

    Returns:
        The start and what every step led to, each uint8 ``[H, W, 3]`` of the same size.

    Raises:
        ConfigError: At once, if the environment cannot be drawn, there is no such seed, or no
            episode is long enough for `which`; later, if this one ended before.
    """
    policies.check_seed(seed)
    longest = env.time_limit if isinstance(env, HostEnvironment) else env.spec.episode_length
    _check_range(which, longest)
    if isinstance(env, HostEnvironment):
        _opened_to_look_at(env).close()  # refuses what cannot be drawn
        names, moments = env.spec.agents, _play_on_host(env, policies, seed, key)
    elif hasattr(env, "render"):
        names = tuple(map(str, range(env.spec.num_agents)))
        moments = _play(env, policies, seed, key)
    else:
        raise ConfigError(f"{env.spec.name} cannot be drawn: it has no render method.")
    return _pictures(env, names, moments, which)


def _check_range(which: slice, episode_length: int) -> None:
    first, stop = which.start or 0, which.stop
    last = episode_length + 1 if stop is None else stop
    if not 0 <= first < last <= episode_length + 1 or which.step is not None:
        raise ConfigError(
            f"Pictures of an episode are chosen as FIRST:STOP within 0:{episode_length + 1}, "
            f"at least one, got {_written(which)}."
        )


def _written(which: slice) -> str:
    """As FIRST:STOP."""
    return ":".join("" if part is None else str(part) for part in (which.start, which.stop))


def _pictures(
    env: Environment | HostEnvironment,
    names: tuple[str, ...],
    moments: Generator[Moment],
    which: slice,
) -> Iterator[Frame]:
    name, first, strip, step = env.spec.name, which.start or 0, None, 0
    with closing(moments):
        for moment in islice(moments, which.stop):
            step = moment.step
            if step < first:
                continue
            picture = as_picture(moment.draw(), name)
            if strip is None:
                size = size_for(picture, isinstance(env, HostEnvironment))
                strip = Strip(env.spec, names, size[1])
            below = strip.write(step, moment.return_so_far, moment.actions)
            yield np.concatenate([fitted(picture, size), below])
    if strip is None:
        raise ConfigError(
            f"The episode was over after step {step}: there are no pictures {_written(which)}."
        )


def _play(env: Environment, policies: Policies, seed: int, key: jax.Array) -> Generator[Moment]:
    key, state, obs = start(env, key)
    alive, total = np.ones(env.spec.num_agents, bool), 0.0
    yield Moment(0, total, None, partial(env.render, state))
    for step in count(1):
        actions = policies.act(obs, seed)
        key, result = advance(env, key, state, actions)
        state, obs = result.state, result.obs
        total += float(np.where(alive, result.reward, 0.0).mean(dtype=np.float64))
        actions = np.where(alive, actions, OUT)
        yield Moment(step, total, actions, partial(env.render, state))
        if result.finished:
            return
        if result.alive is not None:
            alive = alive & np.asarray(result.alive) & ~np.asarray(result.terminated)
            obs = jnp.where(alive[:, None], obs, 0.0)


def _opened_to_look_at(env: HostEnvironment) -> HostEpisodes:
    try:
        return HostEpisodes(env, render_mode="rgb_array")
    except ValueError as error:
        raise ConfigError(f"{env.spec.name} cannot be drawn: {error}") from error


def _play_on_host(
    env: HostEnvironment, policies: Policies, seed: int, key: jax.Array
) -> Generator[Moment]:
    with closing(_opened_to_look_at(env)) as episodes:
        draw = partial(_drawn, episodes)
        with _foreign(env.spec.name):
            obs, total = episodes.reset(int(jax.random.bits(key)) >> 1), 0.0
        yield Moment(0, total, None, draw)
        for step in count(1):
            actions = policies.act(obs, seed)
            with _foreign(env.spec.name):
                result = episodes.step(actions)
            obs = np.where(result.present[:, None], result.obs, 0.0)
            total += float(result.reward.mean(dtype=np.float64))
            yield Moment(step, total, np.where(result.alive, actions, OUT), draw)
            if result.finished:
                return


@contextmanager
def _foreign(name: str) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:  # whatever foreign code raises
        raise EnvironmentFailed(
            f"{name} failed while an episode was shown: {words(error)}"
        ) from error


def _drawn(episodes: HostEpisodes) -> Any:
    try:
        return episodes.render()
    except (Exception, SystemExit) as error:  # whatever foreign code raises
        raise ConfigError(f"{episodes.spec.name} cannot be drawn: {words(error)}") from error
