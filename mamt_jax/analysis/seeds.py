"""Seeds of a recorded run: which of them count, and mean and deviation over those."""

from __future__ import annotations

import numpy as np
import xarray as xr

from mamt_jax.errors import RunError
from mamt_jax.quantities import Quantity

JOINT = {
    "local_kl_mean": Quantity(
        (),
        "nat",
        "local KL, mean over agents",
        "KL of the policies to their old ones, mean over agents",
    ),
    "nonstationarity_sum": Quantity(
        (), "nat", "non-stationarity D_ns", "non-stationarity, sum of D_i,ns over agents (Eq. 6)"
    ),
}
"""What :func:`joint` makes of all agents: the quantities of the paper's Figures 3 and 16 to 23."""
BY_SEED = ("return_mean", "return_sum", "episodes", *JOINT)
"""Quantities that are kept of every seed, where others are known by their moments alone."""
MOMENTS = ("mean", "std")


def diverged(metrics: xr.Dataset) -> dict[int, int]:
    """The seeds of a run that diverged, and the update at which each did.

    Args:
        metrics: With ``diverged_at_update [seed]``: NaN, or the update at which a quantity of the
            seed first was NaN or infinite. Without it, none has diverged.
    """
    if "diverged_at_update" not in metrics:
        return {}
    found = zip(metrics.seed.values, metrics.diverged_at_update.values, strict=True)
    return {int(seed): int(update) for seed, update in found if np.isfinite(update)}


def surviving(metrics: xr.Dataset) -> xr.Dataset:
    """A run's metrics without the seeds that diverged.

    Args:
        metrics: As for :func:`diverged`.

    Returns:
        ``metrics`` of the other seeds; the attribute ``diverged`` maps those left out to updates.

    Raises:
        RunError: All seeds diverged.
    """
    lost = diverged(metrics)
    if not lost:
        return metrics
    if len(lost) == metrics.sizes["seed"]:
        raise RunError(f"all seeds diverged, the first at update {min(lost.values()):,}.")
    kept = [index for index, seed in enumerate(metrics.seed.values) if int(seed) not in lost]
    return metrics.isel(seed=kept).assign_attrs(diverged=lost)


def joint(metrics: xr.Dataset) -> xr.Dataset:
    """Adds those of :data:`JOINT` whose quantities ``[..., agent]`` were recorded."""
    made = {}
    if "local_kl" in metrics:
        made["local_kl_mean"] = metrics.local_kl.mean("agent")
    if "nonstationarity" in metrics:
        made["nonstationarity_sum"] = metrics.nonstationarity.sum("agent", skipna=False)
    for name, values in made.items():
        values.attrs = {"long_name": JOINT[name].name, "units": JOINT[name].unit}
    return metrics.assign(made)


def over_seeds(metrics: xr.Dataset) -> xr.Dataset:
    """A run's metrics with returns by seed, and of all else what its seeds have in common.

    Returns:
        :data:`BY_SEED` as they are, :func:`joint` ones among them, and other quantities ``[seed,
        update, ...]`` as ``[moment, update, ...]``: mean and sample standard deviation (n − 1) over
        the seeds that recorded a number; the latter is NaN where fewer than two did.
    """
    reduced = {}
    for name, values in joint(metrics).items():
        if name in BY_SEED:
            reduced[str(name)] = values
        elif "update" in values.dims:
            reduced[str(name)] = _moments(values)
    return xr.Dataset(reduced, metrics.coords, metrics.attrs)


def _moments(values: xr.DataArray) -> xr.DataArray:
    exact = values.astype(np.float64)
    freedom = exact.notnull().sum("seed") - 1
    mean = exact.mean("seed")
    std = np.sqrt(((exact - mean) ** 2).sum("seed") / freedom.where(freedom > 0))
    dims, coords = ("moment", *mean.dims), {"moment": list(MOMENTS)}
    return xr.DataArray(np.stack([mean, std]), coords, dims, attrs=values.attrs)
