"""Recordings made by hand: what a page is given, without anybody playing."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from mamt_jax import envs
from mamt_jax.envs.base import view_fields
from mamt_jax.envs.scene import scene

E = 3
"""Episodes of each."""
HEADS = 2


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return (shares / shares.sum(axis=-1, keepdims=True)).astype(np.float32)


def recording(
    name: str,
    *,
    steps: int = 6,
    episodes: int = E,
    draw: int = 0,
    drift: float = 0.0,
    **about: Any,
) -> xr.Dataset:
    """Episodes of a native environment's layout, of random numbers; one of them is shorter.

    With a drift numbers change by so much from step to step, instead of being drawn anew.
    """
    env, rng = envs.make(name), np.random.default_rng(draw)
    spec = env.spec
    n, actions = spec.num_agents, spec.num_actions
    length = np.full(episodes, steps, np.int32)
    length[0] -= 2
    found: dict[str, Any] = {"length": ("episode", length)}

    def put(field: str, dims: tuple[str, ...], array: np.ndarray) -> None:
        """NaN, -1 or False after the end."""
        end = length + (dims[0] == "moment")
        inside = np.arange(array.shape[1]) < end[:, None]
        nothing = {"f": np.nan, "b": False}.get(array.dtype.kind, -1)
        where = inside.reshape(*inside.shape, *[1] * (array.ndim - 2))
        found[field] = (("episode", *dims), np.where(where, array, nothing).astype(array.dtype))

    def normal(*shape: int) -> np.ndarray:
        drawn = rng.standard_normal((episodes, *shape), np.float32)
        return drift * drawn.cumsum(axis=1) if drift else drawn

    reward = normal(steps, n)
    put("obs", ("moment", "agent", "obs"), normal(steps + 1, n, 2))
    put("reward", ("step", "agent"), reward)
    put("return_so_far", ("step",), reward.mean(axis=-1).cumsum(axis=1))
    put("alive", ("step", "agent"), np.ones((episodes, steps, n), bool))
    put("action_taken", ("step", "agent"), rng.integers(0, actions, (episodes, steps, n), np.int32))
    put("probability", ("step", "agent", "action"), softmax(normal(steps, n, actions)))
    put("delta", ("step", "agent"), 1 + 0.1 * normal(steps, n))
    put("nonstationarity", ("step", "agent"), np.abs(normal(steps, n)))
    put("coordination", ("step", "agent", "opponent"), softmax(2 * normal(steps, n, n)))
    attention = softmax(normal(steps, n, HEADS, n)).swapaxes(-1, -2)
    put("attention", ("step", "agent", "opponent", "head"), attention)
    sizes = {"agent": n, "xy": 2, "landmark": n, "pair": 4, "tower": 4, "evader": 30}
    for field, layout in view_fields(env).items():
        if layout.still is not None:
            found[field] = (layout.dims, layout.still)
            continue
        shape = (episodes, steps + 1, *(sizes[dim] for dim in layout.dims))
        values: np.ndarray = rng.uniform(-1, 1, shape).astype(np.float32)
        if layout.unit == "cell":
            values = rng.integers(0, 16, shape, np.int32)
        elif layout.unit == "1":
            values = rng.integers(0, 4, shape, np.int32)
        put(field, ("moment", *layout.dims), values)
    return xr.Dataset(found, _names(spec), attributes(env, **about))


def _names(spec: Any) -> dict[str, Any]:
    words = spec.action_names or tuple(tuple(map(str, range(k))) for k in spec.action_counts)
    if len(set(words)) == 1:
        return {"agent": list(spec.agents), "action": list(words[0])}
    return {"agent": list(spec.agents), "action_name": (("agent", "action"), np.array(words))}


def attributes(env: Any, **about: Any) -> dict[str, Any]:
    drawn = scene(env)
    usual = {"algorithm": "mamt", "env": env.spec.name, "env_options": "{}", "seed": 0}
    usual |= {"checkpoint": 10, "update": 40, "greedy": 1, "key": 0, "mamt_jax": "0"}
    return usual | {"scene": drawn.as_json() if drawn else ""} | about
