"""What a run records: the recorder that turns epochs into a Dataset.

Two time axes, both counted per seed:

    update   one entry per logging point; its coordinate is the number of updates done so far
    event    one entry per collection period (``steps_per_update`` transitions)

``episode`` counts along ``update``, too, so that means over seeds can be drawn over episodes.
On-policy, an event is a rollout and makes one update: means over all its minibatches are recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from mamt_jax.errors import ConfigError, DivergedError
from mamt_jax.quantities import QUANTITIES, Quantity

_EVENT_QUANTITIES = {
    "return_sum": Quantity(
        (), "reward", "sum of returns", "summed return of the episodes finished in the event"
    ),
    "episodes": Quantity((), "episode", "episodes", "number of episodes finished in the event"),
}
DERIVED = {
    "return_mean": Quantity(
        (),
        "reward",
        "return per episode",
        "mean return (mean over agents) of the episodes of a logging point",
    ),
    "greedy_return": Quantity(
        (),
        "reward",
        "return of greedy policies",
        "mean return of greedy episodes; NaN at logging points without evaluation",
    ),
    "diverged_at_update": Quantity(
        (),
        "update",
        "update of divergence",
        "update at which a quantity was first NaN or infinite; NaN: there was none",
    ),
}
_AXES = {
    "seed": Quantity((), "", "seed", "number from which all randomness of a seed is drawn"),
    "update": Quantity((), "update", "updates", "updates done so far, per seed"),
    "agent": Quantity((), "", "agent", "name of the agent in its environment"),
    "opponent": Quantity((), "", "opponent", "name of the agent that is looked at"),
    "head": Quantity((), "", "attention head", "number of the critic's attention head"),
    "episode": Quantity(
        (),
        "episode",
        "episodes, mean over seeds",
        "episodes finished up to this logging point, mean over the seeds that have not diverged",
    ),
    "episode_at_update": Quantity(
        (), "episode", "episodes of a seed", "episodes finished up to this logging point"
    ),
    "episode_at_event": Quantity(
        (), "episode", "episodes of a seed", "episodes finished up to the end of this event"
    ),
}


class Recorder:
    """Collects the outputs of epochs on the host.

    Args:
        seeds: Seed ids, in the order of the leading axis of every output.
        updates_per_event: Updates in every event that updates at all.
        agents: Their names; agents are numbered where none are given.
        quantities: What an algorithm may report.
    """

    def __init__(
        self,
        seeds: list[int],
        updates_per_event: int,
        agents: Sequence[str] = (),
        quantities: Mapping[str, Quantity] = QUANTITIES,
    ) -> None:
        self.seeds = seeds
        self._quantities = quantities
        self.agents = agents
        self._per_event = updates_per_event
        self.updates: list[int] = []
        self._rows: dict[str, list[np.ndarray]] = {}
        self._greedy: list[np.ndarray] = []
        self._return_sum: list[np.ndarray] = []
        self._episodes: list[np.ndarray] = []
        self.diverged: dict[int, str] = {}
        """By seed that is lost: what was found, as a sentence without its full stop."""
        self._diverged_at = np.full(len(seeds), np.nan)

    @property
    def points(self) -> int:
        """Logging points recorded so far."""
        return len(self.updates)

    @property
    def update_count(self) -> int:
        """Updates done so far, per seed."""
        return self.updates[-1] if self.updates else 0

    @property
    def evaluated(self) -> bool:
        """Whether there was an evaluation at the newest logging point."""
        return bool(self._greedy) and bool(np.isfinite(self._greedy[-1]).any())

    def at(self, point: int) -> dict[str, np.ndarray]:
        """Copies of what was recorded at a logging point (0 is the first), by name ``[S, ...]``.

        Greedy returns only where there was an evaluation.
        """
        total = self._return_sum[point].sum(axis=1, dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = total / self._episodes[point].sum(axis=1)
        found = {"return_mean": mean.astype(np.float32)}
        found |= {name: rows[point].copy() for name, rows in self._rows.items()}
        if np.isfinite(self._greedy[point]).any():
            found["greedy_return"] = self._greedy[point].copy()
        return found

    def dims(self, name: str) -> tuple[str, ...]:
        """Dimensions of a quantity at a logging point."""
        return ("seed", *{**self._quantities, **DERIVED}[name].dims)

    def lost_at(self, point: int) -> list[int]:
        """Seeds that had diverged up to a logging point."""
        gone = self._diverged_at <= self.updates[point]
        return [seed for seed, lost in zip(self.seeds, gone, strict=True) if lost]

    def episodes_at(self, point: int) -> np.ndarray:
        """Episodes finished up to a logging point ``[S]``."""
        return np.sum(self._episodes[: point + 1], axis=(0, 2))

    def replace_greedy(self, greedy: np.ndarray | None) -> None:
        """Puts another evaluation in the place of the newest logging point's, or none."""
        missing = np.full(len(self.seeds), np.nan, np.float32)
        self._greedy[-1] = missing if greedy is None else np.asarray(greedy, np.float32)

    def append(self, output: Any, greedy: np.ndarray | None = None) -> None:
        """Adds one logging point, finite or not.

        A seed with a value that is NaN or infinite is lost: from the next point on all of its
        quantities are NaN.

        Args:
            output: ``EpochOutput`` with numpy leaves: metrics ``[S, events, U, ...]``, ``updated
                [events]``, ``return_sum``, ``episodes`` and ``undecided [S, events]``.
            greedy: Mean returns of greedy episodes ``[S]``, if there was an evaluation.

        Raises:
            DivergedError: No seed is left. The logging point is recorded first.
            ConfigError: The algorithm reports what is no known quantity.
        """
        unknown = sorted(set(output.metrics) - set(self._quantities))
        if unknown:
            raise ConfigError(
                f"The algorithm reports {', '.join(unknown)}, and nothing says what that is; its "
                f"Recipe has quantities for that."
            )
        updated = np.asarray(output.updated, bool)
        before, lost = self.update_count, np.isfinite(self._diverged_at)
        done: dict[str, np.ndarray] = {}
        for name, value in output.metrics.items():
            value = np.asarray(value)
            kept = value[:, updated]
            done[name] = kept.reshape(kept.shape[0], -1, *value.shape[3:])
            row = np.full((value.shape[0], *value.shape[3:]), np.nan, np.float32)
            if updated.any():
                row = done[name].mean(axis=1, dtype=np.float64).astype(np.float32)
            row[lost] = np.nan
            self._rows.setdefault(name, []).append(row)
        self.updates.append(before + int(updated.sum()) * self._per_event)
        returns = np.array(output.return_sum, np.float32)
        returns[lost] = np.nan
        self._return_sum.append(returns)
        self._episodes.append(np.asarray(output.episodes, np.int32))
        missing = np.full(len(self.seeds), np.nan, np.float32)
        self._greedy.append(missing if greedy is None else np.asarray(greedy, np.float32))
        undecided = np.any(output.undecided, axis=1)
        if greedy is not None:
            undecided |= ~np.isfinite(greedy)
        self._find_diverged(done, before, undecided)

    def _find_diverged(self, done: dict[str, np.ndarray], before: int, undecided: Any) -> None:
        """Notes the seeds with a value that is not finite, each with its earliest update.

        Args:
            done: Per quantity ``[S, updates of this logging point, ...]``.
            before: Updates done before this logging point.
            undecided: Whether a policy of the seed could not act ``[S]``.

        Raises:
            DivergedError: No seed is left.
        """
        # Losses first, then others, as they are listed.
        blame = sorted(self._quantities, key=lambda name: not name.endswith("_loss"))
        for index, seed in enumerate(self.seeds):
            if seed in self.diverged:
                continue
            found = _first_bad({name: values[index] for name, values in done.items()}, blame)
            if found:
                update, name = before + found[0] + 1, found[1]
                reason = f"{name} of seed {seed} is NaN or infinite at update {update}"
            else:
                update, reason = self.update_count, ""
                what = f"of seed {seed} is NaN or infinite before update {update + 1}"
                if not np.isfinite(self._return_sum[-1][index]).all():
                    reason = f"The return {what}"
                elif undecided[index]:
                    reason = f"The policy {what}"
            if reason:
                self.diverged[seed], self._diverged_at[index] = reason, update
        if len(self.diverged) == len(self.seeds):
            first = self.diverged[self.seeds[int(np.argmin(self._diverged_at))]]
            others = "" if len(self.seeds) == 1 else ", and no other seed is left"
            raise DivergedError(f"{first}{others}; training stopped")

    def last_return(self) -> float:
        """Mean return over seeds of the newest logging point in which an episode has ended.

        Over those that have not diverged; NaN while no episode has ended.
        """
        kept = np.isnan(self._diverged_at)
        for returns, episodes in zip(self._return_sum[::-1], self._episodes[::-1], strict=True):
            if count := episodes[kept].sum():
                return float(returns[kept].sum() / count)
        return float("nan")

    def summary(self) -> str:
        """The newest return, and how many seeds are lost, in a few words."""
        lost = f" ({len(self.diverged)} of {len(self.seeds)} seeds lost)" if self.diverged else ""
        return f"return {self.last_return():.2f}{lost}"

    def to_dataset(self, **attrs: Any) -> xr.Dataset:
        """Everything recorded; attributes of each variable say its unit and what it is."""
        points, seeds = self.points, len(self.seeds)
        return_sum = np.stack(self._return_sum, 1) if points else np.zeros((seeds, 0, 0), "f4")
        episodes = np.stack(self._episodes, 1) if points else np.zeros((seeds, 0, 0), "i4")
        count = episodes.sum(axis=2)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = (return_sum.sum(axis=2, dtype=np.float64) / count).astype(np.float32)
        data = {"return_mean": _variable(("seed", "update"), mean, DERIVED["return_mean"])}
        for name, rows in self._rows.items():
            quantity = self._quantities[name]
            dims = ("seed", "update", *quantity.dims)
            data[name] = _variable(dims, np.stack(rows, 1), quantity)
        if np.isfinite(self._greedy).any():
            greedy = np.stack(self._greedy, 1)
            data["greedy_return"] = _variable(("seed", "update"), greedy, DERIVED["greedy_return"])
        for name, value in (("return_sum", return_sum), ("episodes", episodes)):
            flat = value.reshape(seeds, -1)
            data[name] = _variable(("seed", "event"), flat, _EVENT_QUANTITIES[name])
        lost = _variable(("seed",), self._diverged_at.copy(), DERIVED["diverged_at_update"])
        data["diverged_at_update"] = lost
        if self.diverged:
            attrs["divergence"] = [self.diverged.get(seed, "") for seed in self.seeds]
        dataset = xr.Dataset(data, attrs={"points": points, **attrs})
        return dataset.assign_coords(self._coordinates(dataset, episodes))

    def _coordinates(self, dataset: xr.Dataset, episodes: np.ndarray) -> dict[str, Any]:
        """Coordinates of what was recorded; ``episodes`` are ``[S, points, events of each]``."""
        by_event = np.cumsum(episodes.reshape(len(self.seeds), -1), axis=1)
        by_point = np.cumsum(episodes.sum(axis=2), axis=1)
        kept = np.isnan(self._diverged_at)
        counting = by_point[kept] if kept.any() else by_point
        found: dict[str, tuple[tuple[str, ...], Any]] = {
            "seed": (("seed",), np.asarray(self.seeds, np.int64)),
            "update": (("update",), np.asarray(self.updates, np.int64)),
            "episode": (("update",), counting.mean(axis=0)),
            "episode_at_update": (("seed", "update"), by_point),
            "episode_at_event": (("seed", "event"), by_event),
        }
        for dim in ("agent", "opponent"):
            if size := dataset.sizes.get(dim):
                names = self.agents or [f"agent_{i}" for i in range(size)]
                found[dim] = ((dim,), np.asarray(names, np.str_))
        if heads := dataset.sizes.get("head"):
            found["head"] = (("head",), np.arange(heads))
        return {name: _variable(*where, _AXES[name]) for name, where in found.items()}

    @classmethod
    def from_dataset(
        cls,
        dataset: xr.Dataset,
        points: int,
        updates_per_event: int,
        quantities: Mapping[str, Quantity] = QUANTITIES,
    ) -> Recorder:
        """Recorder that holds the first ``points`` logging points of a recorded run."""
        agents = [str(name) for name in dataset["agent"].values] if "agent" in dataset else []
        seeds = [int(seed) for seed in dataset.seed.values]
        recorder = cls(seeds, updates_per_event, agents, quantities)
        recorder.updates = [int(update) for update in dataset["update"].values[:points]]
        for name in recorder._quantities:
            if name in dataset:
                values = dataset[name].values
                recorder._rows[name] = [values[:, point] for point in range(points)]
        missing = np.full((len(recorder.seeds), points), np.nan, np.float32)
        greedy = dataset["greedy_return"].values if "greedy_return" in dataset else missing
        recorder._greedy = [greedy[:, point] for point in range(points)]
        if "diverged_at_update" in dataset:
            at = dataset["diverged_at_update"].values
            recorder._diverged_at = np.where(at <= recorder.update_count, at, np.nan)
            for index in np.flatnonzero(np.isfinite(recorder._diverged_at)):
                recorder.diverged[recorder.seeds[index]] = dataset.attrs["divergence"][index]
        recorded = dataset.sizes["update"]
        for name, rows in (
            ("return_sum", recorder._return_sum),
            ("episodes", recorder._episodes),
        ):
            by_point = dataset[name].values.reshape(len(recorder.seeds), max(recorded, 1), -1)
            rows.extend(by_point[:, point] for point in range(points))
        return recorder


def _first_bad(done: dict[str, np.ndarray], order: list[str]) -> tuple[int, str] | None:
    """The first update with a value that is not finite, and which quantity is to blame.

    Args:
        done: Of one seed, per quantity ``[updates, ...]``.
        order: Which quantity is named first where several are not finite.
    """
    first: tuple[int, str] | None = None
    for name in sorted(done, key=order.index):
        values = done[name]
        bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
        if bad.any() and (first is None or int(np.argmax(bad)) < first[0]):
            first = int(np.argmax(bad)), name
    return first


def _variable(dims: tuple[str, ...], values: np.ndarray, quantity: Quantity) -> tuple[Any, ...]:
    attrs = {"long_name": quantity.name, "description": quantity.description}
    return dims, values, ({"units": quantity.unit} if quantity.unit else {}) | attrs
