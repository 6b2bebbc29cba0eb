"""Metrics of some seeds of a run, and of all, where they were recorded apart."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr

_LOST = "diverged_at_update"
_GROW = ("update", "episode", "episode_at_update", "episode_at_event")
_TIMES = ("wall_seconds", "env_steps_per_second")


def joined(datasets: Sequence[xr.Dataset], at_once: bool = True) -> xr.Dataset:
    """Metrics of seeds side by side, up to the logging point that all of them have.

    Those whose seeds have all diverged have nothing more to record: NaN takes its place.

    Args:
        datasets: Of different seeds of one run, in that order.
        at_once: They were recorded at the same time, not one after the other.
    """
    if len(datasets) == 1:
        return datasets[0]
    going = [each for each in datasets if not is_lost(each)] or list(datasets)
    points = min(each.sizes["update"] for each in going)
    longest = max(datasets, key=lambda each: each.sizes["update"])
    cut = [first(each, points, longest) for each in datasets]
    like, rows = first(longest, points, longest), [each.sizes["seed"] for each in datasets]
    data = {}
    for name in dict.fromkeys(name for each in cut for name in each.variables):
        known = next(each[name].variable for each in cut if name in each.variables)
        if "seed" not in known.dims:
            data[name] = like[name].variable
            continue
        parts = [
            each[name].values if name in each else np.full((count, *known.shape[1:]), np.nan, "f4")
            for each, count in zip(cut, rows, strict=True)
        ]
        data[name] = xr.Variable(known.dims, np.concatenate(parts), known.attrs)
    attrs = dict(like.attrs) | {"points": points} | _times(datasets, at_once)
    attrs.pop("divergence", None)
    if any("divergence" in each.attrs for each in cut):
        texts = [each.attrs.get("divergence", [""] * each.sizes["seed"]) for each in cut]
        attrs["divergence"] = [text for some in texts for text in some]
    coordinates = [name for name in data if name in like.coords]
    made = xr.Dataset(data, attrs=attrs).set_coords(coordinates)
    return _with_episodes(made)


def is_lost(metrics: xr.Dataset) -> bool:
    """Whether all of its seeds have diverged."""
    return _LOST in metrics and bool(np.isfinite(metrics[_LOST]).all())


def of_seeds(metrics: xr.Dataset, seeds: Sequence[int]) -> xr.Dataset:
    """Metrics of some of the seeds."""
    ids = metrics.seed.values.tolist()
    index = [ids.index(seed) for seed in seeds]
    found = metrics.isel(seed=index)
    if "divergence" in metrics.attrs:
        texts = [metrics.attrs["divergence"][i] for i in index]
        found.attrs.pop("divergence")
        if any(texts):
            found.attrs["divergence"] = texts
    return _with_episodes(found)


def first(metrics: xr.Dataset, points: int, like: xr.Dataset) -> xr.Dataset:
    """So many logging points, filled up with NaN where fewer were recorded.

    Args:
        metrics: Of seeds that were trained on, or are all lost.
        points: How many.
        like: Metrics of at least that many, whose events are as many for each point.
    """
    each = like.sizes["event"] // max(like.sizes["update"], 1)
    wanted = {"update": points, "event": points * each}
    cut = metrics.isel({dim: slice(size) for dim, size in wanted.items()})
    missing = {dim: size - cut.sizes[dim] for dim, size in wanted.items()}
    if any(missing.values()):
        cut = xr.Dataset(
            {name: _filled(name, one, missing) for name, one in cut.variables.items()},
            attrs=cut.attrs,
        ).set_coords(list(cut.coords))
    if _LOST in cut and points:
        lost = cut[_LOST].where(cut[_LOST] <= like["update"].values[points - 1])
        cut = cut.assign({_LOST: lost.astype(cut[_LOST].dtype).assign_attrs(cut[_LOST].attrs)})
    return cut


def _filled(name: Hashable, variable: xr.Variable, missing: dict[str, int]) -> xr.Variable:
    """Longer by what is missing: NaN, or 0; of counts that only grow, the last one again."""
    widths = [(0, missing.get(str(dim), 0)) for dim in variable.dims]
    if not any(after for _, after in widths):
        return variable
    if name in _GROW:
        values = np.pad(variable.values, widths, mode="edge")
    else:
        nothing = np.nan if variable.dtype.kind == "f" else 0
        values = np.pad(variable.values, widths, constant_values=nothing)
    return xr.Variable(variable.dims, values, variable.attrs)


def _with_episodes(metrics: xr.Dataset) -> xr.Dataset:
    """The mean over seeds that have not diverged, as a recorder has it."""
    by_point = metrics["episode_at_update"].values
    kept = np.isnan(metrics[_LOST].values) if _LOST in metrics else np.ones(len(by_point), bool)
    mean = (by_point[kept] if kept.any() else by_point).mean(axis=0)
    return metrics.assign_coords(episode=metrics["episode"].variable.copy(data=mean))


def _times(datasets: Sequence[xr.Dataset], at_once: bool) -> dict[str, float]:
    """Wall-clock seconds of all, and their steps per second."""
    if not all(name in each.attrs for each in datasets for name in _TIMES):
        return {}
    seconds, paces = ([each.attrs[name] for each in datasets] for name in _TIMES)
    steps = sum(second * pace for second, pace in zip(seconds, paces, strict=True))
    whole = max(seconds) if at_once else sum(seconds)
    return dict(zip(_TIMES, (round(whole, 3), round(steps / max(whole, 1e-9), 1)), strict=True))
