"""Runs in shards: parts of the seeds, each in a run directory of its own, read as one run.

    RUN/shards.json     the shards, in the order of their seeds, and why they are apart
    RUN/shards/0-3/     run directory of seeds 0 to 3, which may be in shards again

What a run is (config, game, versions) is in RUN as well. The list is the last thing that is written
where shards are cut anew, and what it does not name is no part of the run.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import xarray as xr

from mamt_jax.config import TrainConfig
from mamt_jax.errors import RunError
from mamt_jax.files import write_whole
from mamt_jax.training import checkpoint, merging
from mamt_jax.training.run_dir import RunDir, disk_errors
from mamt_jax.types import Game

PROCESSES, GROUPS, POINTS = "processes", "groups", "points"
"""Why seeds are apart: trained by several processes at once; one group after another, because they
do not fit together; or they have no checkpoint of the same logging point."""


class Recorded(RunDir):
    """A run directory as whoever reads it sees it: in shards or not, it holds one run."""

    def read_metrics(self) -> xr.Dataset:
        """The metrics of all seeds that have any, up to the logging point that all have reached.

        Warns of those that have none.

        Raises:
            RunError: There are none, or they are corrupt.
        """
        parts = shards(self)
        if not parts:
            return super().read_metrics()
        found, missing = [], []
        for part in map(Recorded, (each.path for each in parts)):
            if any(leaf.metrics.exists() for leaf in leaves(part)):
                found.append(part.read_metrics())
            else:
                missing.append(part.path.name)
        if not found:
            raise RunError(f"{self.path} holds no metrics yet.")
        if missing:
            warnings.warn(f"Seeds {', '.join(missing)} have recorded nothing yet.", stacklevel=2)
        return merging.joined(found, at_once=why_apart(self) != GROUPS)

    def saved(self) -> dict[int, Path]:
        """Checkpoints that there are of all seeds, by logging points; the first shard's."""
        first, *others = (RunDir.saved(leaf) for leaf in leaves(self))
        return {at: step for at, step in first.items() if all(at in other for other in others)}

    def is_written(self) -> bool:
        """Whether a process trains some of this run now."""
        return super().is_written() or any(part.is_written() for part in shards(self))

    def written_at(self) -> int:
        """When metrics were last written, in nanoseconds.

        Raises:
            OSError: There are none.
        """
        times = []
        for leaf in leaves(self):
            if leaf.metrics.exists() or leaf.path == self.path:
                times.append((leaf.metrics / "zarr.json").stat().st_mtime_ns)
        return max(times, default=0)


def shards(directory: RunDir) -> list[RunDir]:
    """The shards of a run in the order of their seeds; none where it is in one piece.

    Raises:
        RunError: Their list cannot be read.
    """
    return [RunDir(_folder(directory) / name) for name in _listed(directory)["shards"]]


def leaves(directory: RunDir) -> list[RunDir]:
    """Directories that hold metrics and checkpoints, in the order of their seeds."""
    return [leaf for part in shards(directory) for leaf in leaves(part)] or [directory]


def why_apart(directory: RunDir) -> str:
    """``PROCESSES``, ``GROUPS`` or ``POINTS``; empty where a run is in one piece."""
    return str(_listed(directory)["why"])


def is_lost(directory: RunDir) -> bool:
    """Whether all seeds of a directory in one piece have diverged."""
    return directory.metrics.exists() and merging.is_lost(directory.read_metrics())


def evenly(config: TrainConfig, count: int) -> list[range]:
    """The seeds of a run in so many parts, the first ones larger by one where it must be."""
    size, more = divmod(config.seeds, count)
    ends = [config.seed + part * size + min(part, more) for part in range(count + 1)]
    return [range(*both) for both in zip(ends, ends[1:], strict=False)]


def part_of(config: TrainConfig, seeds: Sequence[int]) -> TrainConfig:
    """The config of some seeds, one after another in number."""
    return replace(config, seed=seeds[0], seeds=len(seeds))


def divide(directory: RunDir, parts: Sequence[range], why: str) -> list[RunDir]:
    """Brings a run into other shards, with all that was saved of it.

    Nothing of what there is goes before all of the new is there. Where seeds have no checkpoint of
    a logging point in common, their shard is in shards again.

    Args:
        directory: Of the run, locked.
        parts: Seeds of each shard.
        why: ``PROCESSES`` or ``GROUPS``.

    Returns:
        The shards.

    Raises:
        RunError: It cannot be written, or read.
    """
    config, game, before = directory.read_config(), directory.read_game(), shards(directory)
    folder = _folder(directory)
    if before == [RunDir(folder / _name(seeds)) for seeds in parts]:
        return before
    held = [_held(leaf) for leaf in leaves(directory)]
    with disk_errors(directory.path, "divide the run", "it is kept as it was"):
        for seeds in parts:
            wanted = RunDir(folder / _name(seeds))
            if wanted in before:
                continue
            new = RunDir(folder / "incomplete")
            shutil.rmtree(new.path, ignore_errors=True)
            _fill(new, part_of(config, seeds), game, _pieces(held, seeds))
            shutil.rmtree(wanted.path, ignore_errors=True)
            new.path.rename(wanted.path)
        _write_list(directory, parts, why)
    for old in (*folder.iterdir(), directory.checkpoints, directory.metrics):
        if old.parent != folder or old.name not in map(_name, parts):
            shutil.rmtree(old, ignore_errors=True)
    return shards(directory)


class _Held(NamedTuple):
    """What a directory holds of its seeds, or of some of them."""

    directory: RunDir
    all_seeds: tuple[int, ...]
    seeds: tuple[int, ...]
    whole: frozenset[int]
    """Logging points of the checkpoints from which it can go on."""


def _held(leaf: RunDir) -> _Held:
    seeds, whole = leaf.read_config().seed_ids, set()
    for points, step in leaf.saved().items():
        try:
            checkpoint.check_whole(step)
        except checkpoint.CorruptCheckpoint:
            continue
        whole.add(points)
    return _Held(leaf, seeds, seeds, frozenset(whole))


def _pieces(held: Sequence[_Held], seeds: Sequence[int]) -> list[list[_Held]]:
    """What there is of some seeds, together where it can go on from the same logging point."""
    pieces: list[list[_Held]] = []
    for each in held:
        own = tuple(seed for seed in each.seeds if seed in seeds)
        if not own:
            continue
        before = [one.whole for one in pieces[-1]] if pieces else []
        common = frozenset.intersection(each.whole, *before)
        if before and (common or not any((each.whole, *before))):
            pieces[-1].append(each._replace(seeds=own))
        else:
            pieces.append([each._replace(seeds=own)])
    return pieces


def _fill(
    directory: RunDir, config: TrainConfig, game: Game, pieces: Sequence[list[_Held]]
) -> None:
    """Makes a run directory of what there is of its seeds."""
    directory.create(config, game)
    if len(pieces) == 1:
        return _copy(directory, pieces[0])
    parts = []
    for piece in pieces:
        seeds = range(piece[0].seeds[0], piece[-1].seeds[-1] + 1)
        parts.append(seeds)
        _fill(RunDir(_folder(directory) / _name(seeds)), part_of(config, seeds), game, [piece])
    _write_list(directory, parts, POINTS)


def _copy(directory: RunDir, piece: Sequence[_Held]) -> None:
    """Checkpoints that all have, up to the newest to go on from; and metrics."""
    whole = frozenset.intersection(*(each.whole for each in piece))
    if not whole:
        return  # nothing was saved, and they begin again
    metrics = [merging.of_seeds(each.directory.read_metrics(), each.seeds) for each in piece]
    directory.write_metrics(merging.joined(metrics))
    saved = [each.directory.saved() for each in piece]
    rows = [[each.all_seeds.index(seed) for seed in each.seeds] for each in piece]
    for points in sorted(set.intersection(*map(set, saved))):
        if points <= max(whole):
            steps = [each[points] for each in saved]
            try:
                checkpoint.recut(directory.checkpoints, list(zip(steps, rows, strict=True)))
            except checkpoint.CorruptCheckpoint as error:
                if points == max(whole):
                    raise
                warnings.warn(f"Left out: {error}", stacklevel=2)


def _folder(directory: RunDir) -> Path:
    return directory.path / "shards"


def _name(seeds: Sequence[int]) -> str:
    return f"{seeds[0]}-{seeds[-1]}"


def _write_list(directory: RunDir, parts: Sequence[Sequence[int]], why: str) -> None:
    content = {"why": why, "shards": [_name(seeds) for seeds in parts]}
    write_whole(directory.path / "shards.json", json.dumps(content, indent=1).encode())


def _listed(directory: RunDir) -> dict[str, Any]:
    file = directory.path / "shards.json"
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        names = [str(name) for name in listed["shards"]]
        if not names or not all(name.replace("-", "").isdecimal() for name in names):
            raise ValueError("it must name shards by their seeds")
        return {"why": str(listed["why"]), "shards": names}
    except (FileNotFoundError, NotADirectoryError):
        return {"why": "", "shards": []}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise RunError(f"{file} is corrupt or of another version: {error}") from error
