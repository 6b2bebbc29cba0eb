"""Pictures of a greedy episode.

An episode is an iterable of arrays, which is all that :func:`mamt_jax.trajectories.gif.write_gif`
asks for. Its stage plays it, and draws it moment by moment. Below each picture is written what was
done, see :mod:`mamt_jax.trajectories.strip`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from itertools import islice

import numpy as np

from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.drawing import Frame
from mamt_jax.errors import ConfigError, not_finite
from mamt_jax.trajectories.pictures import as_picture, fitted, size_for
from mamt_jax.trajectories.strip import OUT, Strip
from mamt_jax.trajectories.watched import Moment, Watched


def frames(
    watched: Watched, spec: EnvSpec, seed: int, which: slice = slice(None)
) -> Iterator[Frame]:
    """Pictures of an episode, which is played while they are taken from the iterator.

    Args:
        watched: The episode.
        spec: Of its environment.
        seed: Which seed's policies play it.
        which: Pictures to take, of which there are one for the start and one for every step.

    Returns:
        The start and what every step led to, each uint8 ``[H, W, 3]`` of the same size.

    Raises:
        ConfigError: At once, if no episode is long enough for `which`; later, if this one ended
            before.
        DivergedError: Later, if the policies are not finite.
    """
    _check_range(which, watched.longest)
    return _pictures(spec, watched, which, seed)


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


def _pictures(spec: EnvSpec, watched: Watched, which: slice, seed: int) -> Iterator[Frame]:
    first, strip, step = which.start or 0, None, 0
    with closing(watched.moments) as moments:
        for moment in islice(moments, which.stop):
            step, actions = moment.step, _actions(moment, seed)
            if step < first:
                continue
            picture = as_picture(moment.draw(), spec.name)
            if strip is None:
                size = size_for(picture, watched.foreign)
                strip = Strip(spec, watched.names, size[1])
            below = strip.write(step, moment.return_so_far, actions)
            yield np.concatenate([fitted(picture, size), below])
    if strip is None:
        raise ConfigError(
            f"The episode was over after step {step}: there are no pictures {_written(which)}."
        )


def _actions(moment: Moment, seed: int) -> np.ndarray | None:
    """Actions [n] that led to the moment, `OUT` of agents that took none; None at the start."""
    if moment.action is None or moment.alive is None:
        return None
    if (moment.alive & (moment.action < 0)).any():
        raise not_finite(seed)
    return np.where(moment.alive, moment.action, OUT)
