"""Recordings made by hand, for the page."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from mamt_jax.envs.scene import scene
from mamt_jax.training.trajectory import Trajectory


def dataset(trajectory: Trajectory, env: Any, **about: Any) -> xr.Dataset:
    spec, found = trajectory.spec, {}
    layouts = trajectory.fields
    own = {name: getattr(trajectory, name) for name in ("obs", "reward", "alive", "terminated")}
    own |= {name: getattr(trajectory, name) for name in ("truncated", "return_so_far", "length")}
    own |= {"action_taken": trajectory.action, **trajectory.view, **trajectory.inspected}
    for name, array in own.items():
        dims = layouts["action" if name == "action_taken" else name].dims
        if len(dims) > 1:
            array, dims = array.swapaxes(0, 1), (dims[1], dims[0], *dims[2:])
        found[name] = (dims, array)
    for name, layout in trajectory.view_fields.items():
        if layout.still is not None:
            found[name] = (layout.dims, layout.still)
    words = spec.action_names or tuple(tuple(map(str, range(k))) for k in spec.action_counts)
    most = max(map(len, words))
    padded = [[*own, *[""] * (most - len(own))] for own in words]
    drawn = scene(env)
    attrs = {"algorithm": "mamt", "env": spec.name, "env_options": "{}", "seed": 0} | {
        "checkpoint": -1,
        "update": -1,
        "greedy": 1,
        "key": 0,
        "mamt_jax": "0",
    }
    attrs["scene"] = drawn.as_json() if drawn else ""
    coords = {"agent": list(spec.agents), "action_name": (("agent", "action"), np.array(padded))}
    return xr.Dataset(found, coords, attrs | about)
