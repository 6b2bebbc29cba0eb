"""What the two kinds of stage have in common: how they look from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax
from jax.sharding import Mesh

from mamt_jax.envs.base import EnvSpec
from mamt_jax.settings import Settings
from mamt_jax.training.learning import EpochOutput, Rule, RunState
from mamt_jax.training.plan import Plan
from mamt_jax.training.store import Store
from mamt_jax.trajectories.trajectory import Trajectory
from mamt_jax.trajectories.watched import Watched
from mamt_jax.types import Algorithm

Evaluator = Callable[[Any, jax.Array], Any]
"""(the algorithm's states, leaves ``[S, ...]``; keys [S], from which every seed draws starts of its
own) -> float32 ``[S, episodes]``: undiscounted returns, averaged over agents; NaN for seeds whose
policies are not finite."""


class Loop(NamedTuple):
    """Training of all seeds: collects, and learns of what was collected.

    Settings are data here (:mod:`mamt_jax.settings.numbers`): the same for all seeds, but for those
    numbers that have an axis of seeds ``[S]``.
    """

    init: Callable[[Settings, jax.Array], RunState]
    """(settings, integer seeds [S]) -> the state of a run that begins."""
    epoch: Callable[[Settings, RunState], tuple[RunState, EpochOutput]]
    """(settings, state) -> one logging point later: ``plan.collect`` events of all seeds. Donates
    the state. Raises EnvironmentFailed where a worker of a host environment crashed or hangs."""
    compile_ahead: Callable[[Settings, RunState], Any]
    """Shapes of both -> the compiled program that updates the state, which ``epoch`` uses from then
    on; None where nothing is to be compiled."""
    evaluate: Callable[[Settings, Any, jax.Array], Any]
    """(settings, states of the algorithm, keys) -> as an :data:`Evaluator` of as many episodes as
    the run's evaluations have."""
    close: Callable[[], None]
    """Closes the environments of training; the next epoch opens new ones."""


Player = Callable[[Any, jax.Array], Trajectory]
"""(the state of one seed's algorithm, key) -> that seed's episodes. With the same key they start as
those of an :data:`Evaluator` of as many."""


class Stage(Protocol):
    """Where episodes take place: they are collected for training, and played to be looked at.

    Nothing is compiled or opened before it is asked for.
    """

    @property
    def spec(self) -> EnvSpec:
        """Of its environment."""
        ...

    def mesh(self, rows: int) -> Mesh | None:
        """The devices on which it trains that many rows; None for one."""
        ...

    def loop(
        self,
        plan: Plan,
        rule: Rule,
        store: Store,
        seeds: Sequence[int],
        batch: int,
        mesh: Mesh | None,
    ) -> Loop:
        """Training of these seeds on this stage.

        Args:
            plan: Sizes of the run.
            rule: What learns.
            store: Where transitions go.
            seeds: Of each row, padded to as many on each device.
            batch: Rows that a device computes side by side.
            mesh: The devices, as :meth:`mesh` has them.
        """
        ...

    def evaluator(self, algorithm: Algorithm, episodes: int) -> Evaluator:
        """Plays that many greedy episodes per seed, of which nothing is kept but returns."""
        ...

    def player(self, algorithm: Algorithm, episodes: int, greedy: bool = True) -> Player:
        """Plays that many episodes of one seed, of which all is kept.

        Args:
          algorithm: whose policies act, and which says what it can of every step.
          episodes: E.
          greedy: most probable actions; otherwise sampled ones.
        """
        ...

    def watch(self, algorithm: Algorithm, learner: Any, key: jax.Array) -> Watched:
        """Plays one greedy episode of a seed while its pictures are taken.

        Args:
          algorithm: whose policies act.
          learner: its state, of one seed.
          key: all randomness of the episode, which is the first of an :data:`Evaluator`'s of one.

        Raises:
          ConfigError: the environment cannot be drawn.
        """
        ...
