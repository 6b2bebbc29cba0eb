"""Episodes that are played in host environments: in workers, or in this process to be drawn.

Shape legend: S seeds, W rows of each, R = S * W rows, n agents, O observation size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.hosted import HostEnvironment, HostEpisodes, words
from mamt_jax.envs.rows import Row, Rows, private_rows
from mamt_jax.envs.workers import WorkerError
from mamt_jax.errors import ConfigError, EnvironmentFailed
from mamt_jax.training.programs import Program, as_written
from mamt_jax.trajectories.trajectory import Played
from mamt_jax.types import Algorithm

EVALUATION = 2
"""First number of the entropy of an episode that is played; training has another."""


@contextmanager
def worker_errors() -> Iterator[None]:
    """Turns a failed worker, or one that cannot be started, into an error that a command prints."""
    try:
        yield
    except (WorkerError, OSError) as error:
        raise EnvironmentFailed(str(error)) from error


class Copies(Protocol):
    """Copies of an environment and their :class:`~mamt_jax.envs.rows.Rows`."""

    rows: Rows

    def reset(self, entropy: Sequence[tuple[int, ...]]) -> Rows:
        """Starts an episode in every row."""
        ...

    def step(self, actions: np.ndarray) -> Rows:
        """Moves all agents of all rows that are not idle."""
        ...

    def set_idle(self, idle: np.ndarray) -> None:
        """Says which rows stand still."""
        ...


class Step(NamedTuple):
    """A step of all rows, whose results lie in the rows until the next."""

    action: np.ndarray | None
    """int32 [R, n], -1 where a policy is not finite; None at the start, before the first step."""
    ended: np.ndarray
    """bool [R]: the row's episode ends with this step, or because its seed is undecided."""
    undecided: np.ndarray
    """bool [R]: of these, those of which that is so."""


def actor(algorithm: Algorithm, greedy: bool) -> Program:
    """(learners [S], keys [S], obs [S, W, n, O]) -> (keys to go on with, actions [S, W, n])."""

    def act(learner: Any, key: jax.Array, obs: jax.Array) -> tuple[jax.Array, jax.Array]:
        if greedy:
            return key, algorithm.greedy(learner, obs)
        key, act_key = jax.random.split(key)
        return key, algorithm.act(learner, act_key, obs)

    return Program(jax.vmap(act))


class Acting:
    """Policies of all seeds, and their random keys as they go on.

    Args:
      program: see :func:`actor`.
      learners: leaves ``[S, ...]``.
      keys: [S].
    """

    def __init__(self, program: Callable[..., Any], learners: Any, keys: jax.Array) -> None:
        self._program, self._learners, self._keys = program, learners, keys

    def act(self, obs: np.ndarray) -> np.ndarray:
        """Observations ``[S * W, n, O]`` -> actions ``[S, W, n]``."""
        by_seed = obs.reshape(len(self._keys), -1, *obs.shape[1:])
        self._keys, action = self._program(self._learners, self._keys, by_seed)
        return np.asarray(action)  # done before a step overwrites obs


@as_written()
def entropy_of(keys: jax.Array, first: int, width: int) -> list[tuple[int, ...]]:
    """What the episodes from number `first` on are drawn from, `width` of each seed."""
    drawn = jax.vmap(lambda key: jax.random.bits(key, (2,), jnp.uint32))(keys)
    seeds = np.asarray(drawn).tolist()
    return [(EVALUATION, *seed, first + row) for seed in seeds for row in range(width)]


@as_written()
def acting_keys(keys: jax.Array, first: int) -> jax.Array:
    """What sampled actions of the episodes from number `first` on are drawn from, [S]."""
    return jax.vmap(partial(jax.random.fold_in, data=first))(keys)


def played(copies: Copies, acting: Acting, entropy: list[tuple[int, ...]]) -> Iterator[Step]:
    """Plays an episode in every row: all that are played on this stage, whatever is kept of them.

    A seed whose policies are not finite comes to its end there.
    """
    with worker_errors():
        rows, count = copies.reset(entropy), len(entropy)
    done = np.zeros(count, bool)
    yield Step(None, done, done)
    while not done.all():
        action = acting.act(rows.obs)
        lost = np.repeat((action < 0).any(axis=(1, 2)), action.shape[1]) & ~done
        action = action.reshape(count, -1)
        copies.set_idle(done | lost)
        with worker_errors():
            copies.step(np.maximum(action, 0))
        ended = lost | (rows.finished & ~done)
        done = done | ended
        yield Step(action, ended, lost)


def returns_of(rows: Rows, steps: Iterator[Step]) -> np.ndarray:
    """Returns of the episodes, as they are played, float32 [R]; NaN of undecided ones."""
    returns = np.zeros(len(rows.done), np.float32)
    for step in steps:
        returns[step.ended] = rows.return_so_far[step.ended]
        returns[step.undecided] = np.nan
    return returns


def kept_of(
    rows: Rows, steps: Iterator[Step], say: Callable[..., Any] | None, spec: EnvSpec
) -> Played:
    """All of one seed's episodes, as they are played."""
    next(steps)
    obs, kept = [rows.obs.copy()], []
    for step in steps:
        assert step.action is not None  # of the start alone
        alive = rows.alive | step.undecided[:, None]
        said = {}
        if say is not None:
            inputs = obs[-1], np.maximum(step.action, 0), alive if spec.agents_may_leave else None
            said = jax.device_get(say(*jax.tree.map(lambda leaf: leaf[None], inputs)))
            said = {name: array[0] for name, array in said.items()}
        following = np.where(rows.finished[:, None, None], rows.next_obs, rows.obs)
        obs.append(following)
        step_of_all = Played(
            obs=(),
            action=step.action,
            reward=rows.reward.copy(),
            alive=alive,
            terminated=rows.terminated.copy(),
            finished=step.ended,
            return_so_far=rows.return_so_far.copy(),
            view={},
            inspected=said,
        )
        kept.append(step_of_all)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *kept)
    return stacked._replace(obs=np.stack(obs))


def side_by_side(waves: list[Played], episodes: int) -> Played:
    """Waves of episodes as one; shorter ones get steps that mean nothing."""

    def joined(*arrays: np.ndarray) -> np.ndarray:
        steps = max(map(len, arrays))
        room = [
            np.concatenate([array, np.zeros((steps - len(array), *array.shape[1:]), array.dtype)])
            for array in arrays
        ]
        return np.concatenate(room, axis=1)[:, :episodes]

    whole: Played = jax.tree.map(joined, *waves)
    return whole


class Alone:
    """One copy in this process, which can be looked at, as the only row.

    Raises:
      ConfigError: it cannot be drawn.
    """

    def __init__(self, env: HostEnvironment) -> None:
        self._name = env.spec.name
        try:
            self._copy = HostEpisodes(env, render_mode="rgb_array")
        except ValueError as error:
            raise ConfigError(f"{self._name} cannot be drawn: {error}") from error
        self.rows = private_rows(env.spec, 1)
        self._row = Row(self.rows, 0, self._copy)

    def reset(self, entropy: Sequence[tuple[int, ...]]) -> Rows:
        with self._foreign():
            self._row.reset(entropy[0])
        return self.rows

    def step(self, actions: np.ndarray) -> Rows:
        self.rows.action[...] = actions
        if not self.rows.idle[0]:
            with self._foreign():
                self._row.step()
        return self.rows

    def set_idle(self, idle: np.ndarray) -> None:
        self.rows.idle[...] = idle

    def draw(self) -> Any:
        try:
            return self._copy.render()
        except (Exception, SystemExit) as error:  # whatever foreign code raises
            raise ConfigError(f"{self._name} cannot be drawn: {words(error)}") from error

    def close(self) -> None:
        self._copy.close()

    @contextmanager
    def _foreign(self) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:  # whatever foreign code raises
            raise EnvironmentFailed(
                f"{self._name} failed while an episode was shown: {words(error)}"
            ) from error
