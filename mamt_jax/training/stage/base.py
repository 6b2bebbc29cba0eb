"""What the two kinds of stage have in common: how they look from outside."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from mamt_jax.settings import Settings
from mamt_jax.training.learning import EpochOutput, Rule, RunState
from mamt_jax.training.plan import Plan
from mamt_jax.training.store import Store
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
    close: Callable[[], None]
    """Closes the environments of training; the next epoch opens new ones."""


class Stage(Protocol):
    """Where episodes take place: they are collected for training, and played to be looked at."""

    def loop(self, plan: Plan, rule: Rule, store: Store, seeds: Sequence[int]) -> Loop:
        """Training of these seeds; nothing is compiled or opened before it is asked for."""
        ...

    def evaluator(self, algorithm: Algorithm, episodes: int) -> Evaluator:
        """Plays that many greedy episodes per seed; compiled with the first call."""
        ...
