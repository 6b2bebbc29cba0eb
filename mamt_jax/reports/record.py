"""Summary of a run as one small JSON file, to keep under ``results/``.

    mamt report runs/mamt-spread --keep results/spread/mamt.json --note "2 cores"

It holds the config, the versions, the wall-clock time, every seed's returns, its mean local KL and
its non-stationarity, and the mean and sample standard deviation (n − 1) over seeds of all other
recorded quantities, at every logging point; and, not rounded, every seed's mean return of the last
episodes. What too few seeds cannot tell is null. Seeds that diverged are named, and count nowhere.
``mamt report`` reads such files like run directories.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mamt_jax.analysis.returns import first_and_last, last_by_seed
from mamt_jax.analysis.seeds import BY_SEED, JOINT, MOMENTS, joint, over_seeds, surviving
from mamt_jax.analysis.statistics import Summary, supported
from mamt_jax.config import TrainConfig
from mamt_jax.errors import RunError
from mamt_jax.files import user_path, write_whole
from mamt_jax.quantities import QUANTITIES
from mamt_jax.training.metrics import DERIVED
from mamt_jax.training.shards import Recorded

DIGITS = 4
"""Significant digits kept of every number."""
_KNOWN = {**QUANTITIES, "greedy_return": DERIVED["greedy_return"]}


def record(run: Path, file: Path, note: str = "") -> Path:
    """Writes the summary of a run.

    Args:
        run: Its directory.
        file: The JSON file; its folder is created if missing.
        note: What the numbers do not say, such as the machine.

    Returns:
        The file as an absolute path.

    Raises:
        RunError: The directory lacks config, versions or metrics, all its seeds diverged, or the
            file cannot be written, or is there already and no record.
    """
    run, file = user_path(run), user_path(file)
    if file.is_file():
        _check_record(file)
    _, metrics = open_directory(run)
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))  # as it is
    first, last = first_and_last(metrics)
    by_seed = zip(metrics.seed.values.tolist(), last_by_seed(metrics).tolist(), strict=True)
    summary = {
        "note": note,
        "config": config,
        "versions": _versions(run),
        "wall_seconds": metrics.attrs.get("wall_seconds"),
        "first_return": _finite(first._asdict()),
        "last_return": _finite(last._asdict()),
        "last_return_by_seed": _finite({str(seed): value for seed, value in by_seed}),
        "episode": metrics.episode_at_update.mean("seed").astype(int).values.tolist(),
        "update": metrics["update"].values.tolist(),
        "return_mean": _each(metrics.return_mean),
        "joint": {name: _each(metrics[name]) for name in JOINT if name in metrics},
        "over_seeds": {
            str(name): _over_seeds(values)
            for name, values in metrics.items()
            if name not in BY_SEED
        },
    }
    if "agent" in metrics.coords:
        summary["agents"] = metrics.agent.values.tolist()
    if "diverged" in metrics.attrs:
        summary["diverged"] = metrics.attrs["diverged"]
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_whole(file, (json.dumps(summary, separators=(",", ":")) + "\n").encode())
    except OSError as error:
        raise RunError(f"Could not write {file}: {error.strerror or error}.") from error
    return file


def _check_record(file: Path) -> None:
    """Raises RunError where a record would take the place of another kind of file."""
    try:
        read_record(file)
    except RunError as error:
        raise RunError(
            f"{file} is there already, and is no record that a new one could take the place of."
        ) from error


def open_directory(path: Path) -> tuple[TrainConfig, xr.Dataset]:
    """Config of a run directory, and its metrics over the seeds that did not diverge.

    Raises:
        RunError: It holds no run or no metrics, they cannot be read, or all seeds diverged.
    """
    directory = Recorded(path)
    config, metrics = directory.read_config(), directory.read_metrics()
    try:
        return config, over_seeds(surviving(metrics))
    except RunError as error:
        raise RunError(f"{path}: {error}") from error


def read_record(file: Path) -> tuple[TrainConfig, xr.Dataset]:
    """Config and metrics of a recorded run, laid out as those of :func:`open_directory`.

    Where those count the episodes of every collection period, these count those of a logging point.
    Means, deviations and intervals of the first and the last returns are the recorded ones. So is
    the interquartile mean, but for records from before there was one: there it is approximated
    from the rounded returns at whole logging points, each weighted by its episodes. Quantities that
    are recorded no longer, or otherwise, are passed over, and so are the deviations and intervals
    of too few seeds that old records have.

    Raises:
        RunError: The file is no such record.
    """
    try:
        summary = json.loads(file.read_text(encoding="utf-8"))
        config = TrainConfig.from_dict(summary["config"])
        seeds = [int(seed) for seed in summary["return_mean"]]
        metrics = xr.Dataset(
            _returns(summary) | _moments(summary.get("over_seeds", {}), len(seeds)),
            {
                "seed": seeds,
                "update": summary["update"],
                "moment": list(MOMENTS),
                "episode": ("update", summary["episode"]),
                "episode_at_update": (("seed", "update"), _finished(summary)),
            },
        )
        metrics = _joint(summary, metrics)
        if "agent" in metrics.dims and "agents" in summary:
            names = {dim: summary["agents"] for dim in ("agent", "opponent") if dim in metrics.dims}
            metrics = metrics.assign_coords(names)
        if lost := summary.get("diverged"):
            metrics.attrs["diverged"] = {int(seed): int(update) for seed, update in lost.items()}
        first, last = first_and_last(metrics)
        if by_seed := summary.get("last_return_by_seed"):
            each = [by_seed[str(seed)] for seed in seeds]
            metrics.attrs["last_return_by_seed"] = np.array(each, np.float64)
        return config, metrics.assign_attrs(
            first_return=_known(summary["first_return"], first.iqm, len(seeds)),
            last_return=_known(summary["last_return"], last.iqm, len(seeds)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{file} is not a record written by mamt report --keep.") from error


def _finished(summary: dict[str, Any]) -> np.ndarray:
    """Episodes finished at every logging point ``[S, T]``; a record has their mean alone."""
    return np.tile(summary["episode"], (len(summary["return_mean"]), 1))


def _returns(summary: dict[str, Any]) -> dict[str, Any]:
    """Variables of the returns by seed."""
    returns = np.array(list(summary["return_mean"].values()), np.float64)
    episodes = np.diff(_finished(summary), prepend=0, axis=1)
    return {
        "return_mean": (("seed", "update"), returns),
        "return_sum": (("seed", "event"), np.where(episodes > 0, returns * episodes, 0)),
        "episodes": (("seed", "event"), episodes),
    }


def _moments(recorded: dict[str, Any], seeds: int) -> dict[str, Any]:
    """Variables of the quantities over seeds that are recorded in this way today."""
    found = {}
    for name, values in recorded.items():
        known = _KNOWN.get(name)
        if known is None or values["dims"] != ["update", *known.dims]:
            continue
        mean, std = (np.array(values[moment], np.float64) for moment in MOMENTS)
        both = np.stack([mean, std if seeds > 1 else np.full_like(std, np.nan)])
        attrs = {"long_name": known.name, "units": known.unit}
        found[name] = (("moment", *values["dims"]), both, attrs)
    return found


def _joint(summary: dict[str, Any], metrics: xr.Dataset) -> xr.Dataset:
    """Adds the quantities of all agents together.

    Records from before they were kept have no more than their means over seeds.
    """
    means = joint(metrics.sel(moment="mean"))
    recorded, found = summary.get("joint", {}), {}
    for name, quantity in JOINT.items():
        attrs = {"long_name": quantity.name, "units": quantity.unit}
        if name in recorded:
            values = np.array(list(recorded[name].values()), np.float64)
            found[name] = (("seed", "update"), values, attrs)
        elif name in means:
            both = np.stack([means[name].values, np.full(means.sizes["update"], np.nan)])
            found[name] = (("moment", "update"), both, attrs)
    return metrics.assign(found)


def _versions(run: Path) -> Any:
    try:
        return json.loads((run / "versions.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{run}/versions.json is missing or corrupt.") from error


def _known(values: dict[str, float | None], iqm: float, seeds: int) -> Summary:
    """A recorded summary; ``iqm`` is for the records that lack it."""
    known = {name: np.nan if value is None else value for name, value in values.items()}
    return supported(Summary(**{"iqm": iqm} | known), seeds)


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if np.isfinite(value) else None for name, value in values.items()}


def _over_seeds(values: xr.DataArray) -> dict[str, Any]:
    return {
        "dims": [dim for dim in values.dims if dim != "moment"],
        "unit": values.attrs["units"],
        **{moment: _round(values.sel(moment=moment)) for moment in MOMENTS},
    }


def _each(values: xr.DataArray) -> dict[str, Any]:
    """A quantity ``[seed, ...]`` by seed."""
    return {str(int(one.seed)): _round(one) for one in values}


def _round(values: xr.DataArray) -> Any:
    """Nested lists with few digits; None where nothing was recorded."""
    flat = [
        float(f"{value:.{DIGITS}g}") if np.isfinite(value) else None for value in values.values.flat
    ]
    return np.array(flat, dtype=object).reshape(values.shape).tolist()
