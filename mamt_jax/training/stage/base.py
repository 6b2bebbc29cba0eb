"""What the two kinds of stage have in common: how they look from outside."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax

from mamt_jax.training.learning import EpochOutput, Learning, RunState
from mamt_jax.training.plan import Plan
from mamt_jax.types import Algorithm

Evaluator = Callable[[Any, jax.Array], Any]
"""(the algorithm's states, leaves ``[S, ...]``; keys [S], from which every seed draws starts of its
own) -> float32 ``[S, episodes]``: undiscounted returns, averaged over agents; NaN for seeds whose
policies are not finite."""


class Loop(NamedTuple):
    """Training of all seeds: collects, and learns of what was collected."""

    init: Callable[[jax.Array], RunState]
    """Integer seeds [S] -> the state of a run that begins."""
    epoch: Callable[[RunState], tuple[RunState, EpochOutput]]
    """One logging point: ``plan.collect`` events of all seeds. Donates its argument. Raises
    EnvironmentFailed where a worker of a host environment crashed or hangs."""
    compile_ahead: Callable[[RunState], Any]
    """Shapes of a state -> the compiled program that updates it, which ``epoch`` uses from then on;
    None where nothing is to be compiled."""
    close: Callable[[], None]
    """Closes the environments of training; the next epoch opens new ones."""


class Stage(Protocol):
    """Where episodes take place: they are collected for training, and played to be looked at."""

    def loop(self, plan: Plan, learning: Learning) -> Loop:
        """Training on this stage; nothing is compiled or opened before it is asked for."""
        ...

    def evaluator(self, algorithm: Algorithm, episodes: int) -> Evaluator:
        """Plays that many greedy episodes per seed; compiled with the first call."""
        ...
