"""Runs whose rows do not fit together: groups of them, each trained to the end, then the next.

Whose place is a directory have a shard of it for each group (:mod:`mamt_jax.training.shards`).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from mamt_jax.config import TrainConfig
from mamt_jax.errors import DivergedError, InterruptedRun
from mamt_jax.files import quoted
from mamt_jax.training import resume as resuming
from mamt_jax.training.memory import DoesNotFit, fitted
from mamt_jax.training.points import Callback, LoggingPoint
from mamt_jax.training.prepare import Objects, prepare
from mamt_jax.training.progress import notice
from mamt_jax.training.result import Run
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import (
    GROUPS,
    POINTS,
    PROCESSES,
    Recorded,
    divide,
    evenly,
    is_lost,
    leaves,
    part_of,
    shards,
    why_apart,
)
from mamt_jax.training.trainer import Trainer

Train = Callable[..., list[Run]]
"""``run_together``."""


@dataclass
class Groups:
    """How groups are trained; one for all groups of a call."""

    train: Train
    trainer: Trainer
    """Of all of them: its plan and sizes are those of each."""
    objects: Objects
    progress: bool
    callback: Callback | None
    enough: bool = False
    """The callback has asked for the end."""

    def settings(
        self,
        configs: Sequence[TrainConfig],
        places: Sequence[RunDir | None],
        rows: int,
        resume: bool,
    ) -> list[Run]:
        """As many settings at a time as fit, at least one of them.

        Args:
            configs: Of all.
            places: Where they are recorded.
            rows: About how many rows fit.
            resume: The directories hold the runs already.
        """
        if rows < configs[0].seeds:  # one seed that does not fit is refused before all else
            fitted(prepare(part_of(configs[0], configs[0].seed_ids[:1]), self.objects).trainer)
        size, runs = max(1, min(rows // configs[0].seeds, len(configs) - 1)), []
        for place, config in zip(places, configs, strict=True):
            if place is not None and not resume:
                place.create(config, self.trainer.game)
        notice(self.progress, f"{len(configs)} settings do not fit: {size} at a time.")
        for start in range(0, len(configs), size):
            some = slice(start, start + size)
            outs = [place and place.path for place in places[some]]
            runs += self._train(configs[some], outs)
            if self.enough:
                break
        return runs

    def seeds(
        self, config: TrainConfig, place: RunDir | None, rows: int, resume: bool
    ) -> Recorded | list[Run]:
        """As many seeds at a time as fit.

        Returns:
            The directory of the run; of a run in memory those of the groups.
        """
        parts = self._parts(config, rows)
        notice(self.progress, f"{config.seeds} seeds do not fit: {len(parts[0])} at a time.")
        if place is None:
            return [run for part in parts for run in self._train([part_of(config, part)], [None])]
        if not resume:
            place.create(config, self.trainer.game)
        with place.lock():
            divide(place, parts, GROUPS)
        return self.shards(config, place)

    def _parts(self, config: TrainConfig, rows: int) -> list[range]:
        """The fewest groups of seeds that fit, about as large as each other.

        Raises:
            DoesNotFit: Not even one seed does.
        """
        while True:
            size = max(1, min(rows, config.seeds - 1))
            parts = evenly(config, -(-config.seeds // size))
            try:
                fitted(prepare(part_of(config, parts[0]), self.objects).trainer)
            except DoesNotFit as error:
                if len(parts[0]) == 1:
                    raise
                rows = min(error.rows, len(parts[0]) - 1)
            else:
                return parts

    def shards(self, config: TrainConfig, place: RunDir) -> Recorded:
        """Goes on with each shard of a run, one after the other.

        First those are joined that were apart for no other reason than who trained them, or how far
        they have come; for that, those behind catch up.

        A shard whose seeds have all diverged is lost, not those beside it.

        Raises:
            DivergedError: All are lost.
            InterruptedRun: With how to go on with the whole run.
        """
        reasons: list[DivergedError] = []
        over: list[RunDir] = []
        with place.lock():
            if why_apart(place) == PROCESSES or self._level(config, place):
                divide(place, evenly(config, 1), PROCESSES)
            parts = shards(place)
            for part in parts:
                own = part_of(config, part.read_config().seed_ids)
                if not shards(part) and self._is_over(part, own):
                    over.append(part)
                    continue
                try:
                    self._train([own], [part.path])
                except DivergedError as error:
                    reasons.append(error)
                except InterruptedRun as error:
                    text = str(error).replace(quoted(part.path), quoted(place.path))
                    raise InterruptedRun(text) from error
                if self.enough:
                    break
            place.update_config(config)
        if len(over) == len(parts):
            warnings.warn(f"The run in {place.path} is finished; nothing to do.", stacklevel=5)
        if len(reasons) == len(parts):
            raise reasons[0]
        for reason in reasons:
            warnings.warn(f"{reason} The other seeds went on.", stacklevel=4)
        return Recorded(place.path)

    def _level(self, config: TrainConfig, place: RunDir) -> bool:
        """Trains what is behind up to where the others are; whether anything was, and is there."""
        if why_apart(place) != POINTS:
            return False
        done = {part: min(map(resuming.done, leaves(part))) for part in shards(place)}
        behind = [part for part in done if done[part] < max(done.values()) and not is_lost(part)]
        for part in behind:
            with suppress(DivergedError):  # it is found lost when all go on
                own = part_of(config, part.read_config().seed_ids)
                self._train([own], [part.path], until=max(done.values()))
        return bool(behind) and not self.enough

    def _is_over(self, part: RunDir, own: TrainConfig) -> bool:
        """Whether a shard is trained to its end, or lost."""
        finished = resuming.done(part) == self.trainer.plan.points
        return is_lost(part) or (finished and resuming.is_complete(part, self.trainer, own))

    def _train(
        self, configs: Sequence[TrainConfig], outs: Sequence[Any], until: int = 0
    ) -> list[Run]:
        """Trains one group, to its end or ``until`` a logging point."""
        recorded = None not in outs
        return self.train(
            configs,
            outs,
            self.objects,
            resume=recorded,
            progress=self.progress,
            callback=partial(self._call, until) if self.callback or until else None,
        )

    def _call(self, until: int, point: LoggingPoint) -> bool:
        answer = None if self.callback is None else self.callback(point)
        self.enough |= isinstance(answer, bool) and answer
        return self.enough or point.point == until
