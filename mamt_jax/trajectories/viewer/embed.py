"""What the page is given of a recording: only what it shows, as data that JSON holds."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mamt_jax.envs.scene import At, Box, Layer, Marks, Scene, fields_in
from mamt_jax.errors import RunError
from mamt_jax.trajectories.trajectory import FIELDS, INSPECTED
from mamt_jax.trajectories.viewer.columns import column

_STRIPS = ("return_so_far", "reward", "probability", "entropy", "delta", "nonstationarity")
_EDGES = ("coordination", "attention")
_MOMENTS = ("episode", "moment")


def embedded(recording: xr.Dataset) -> dict[str, Any]:
    """A recording as the page takes it.

    Args:
        recording: Episodes of one seed at one checkpoint.

    Raises:
        RunError: It says in a way that nobody understands how it is drawn.
    """
    scene = _scene(recording)
    drawn = sorted(fields_in(scene)) if scene else []
    still = [name for name in drawn if "episode" not in recording[name].dims]
    names = [name for name in drawn if name not in still]
    arrays = {name: recording[name].values for name in names}
    plotted = {name: _plotted(recording, name) for name in (*_STRIPS, *_EDGES)}
    arrays |= {name: array for name, array in plotted.items() if array is not None}
    arrays["action_taken"] = recording.action_taken.values
    if "probability" in arrays:
        arrays["entropy"] = entropy(arrays["probability"])
    if (alive := _alive(recording)) is not None:
        arrays["alive"] = alive
    lengths = recording.length.values.astype(int)
    returns = recording.return_so_far.values[np.arange(len(lengths)), lengths - 1]
    about = recording.attrs
    return {
        "algorithm": str(about.get("algorithm", "")),
        "env": str(about.get("env", "")),
        "seed": int(about.get("seed", 0)),
        "checkpoint": int(about.get("checkpoint", -1)),
        "update": int(about.get("update", -1)),
        "greedy": bool(about.get("greedy", 1)),
        "key": int(about.get("key", 0)),
        "agents": [str(name) for name in recording.agent.values],
        "actions": _action_names(recording),
        "episodes": recording.episode.values.tolist(),  # of a part, their numbers in the whole
        "lengths": lengths.tolist(),
        "returns": [float(value) if np.isfinite(value) else None for value in returns],
        "starts": [_digest(first) for first in recording.obs.values[:, 0]],
        "scene": scene,
        "still": {name: recording[name].values.astype(float).ravel().tolist() for name in still},
        "columns": {name: column(array) for name, array in arrays.items()},
    }


def _plotted(recording: xr.Dataset, name: str) -> NDArray[Any] | None:
    """A field [episode, step, ...]; None where whoever edited the recording left another shape."""
    field, known = recording.get(name), FIELDS | INSPECTED
    if field is None or name not in known or field.dtype.kind not in "biuf":
        return None
    dims = ("episode", "step", *known[name].dims[2:])
    if set(field.dims) != set(dims):
        return None
    if name in _EDGES and not _same_agents(recording, field):
        return None
    found: NDArray[Any] = field.transpose(*dims).values
    return found


def _same_agents(recording: xr.Dataset, edges: xr.DataArray) -> bool:
    """Whether edges lead from all agents to the same ones, in the same order."""
    if "opponent" in recording.coords:
        return bool(np.array_equal(recording.agent, recording.opponent))
    return edges.sizes["agent"] == edges.sizes["opponent"]


def entropy(probability: NDArray[Any]) -> NDArray[np.float64]:
    """Entropy in nat of probabilities [..., A]; NaN where those are."""
    chances = probability.astype(np.float64)
    logs = np.log(np.where(chances > 0, chances, 1.0))
    found: NDArray[np.float64] = 0.0 - (chances * logs).sum(axis=-1)
    return found


def _alive(recording: xr.Dataset) -> NDArray[Any] | None:
    """Who acts in each step [E, T, n]; None if everyone does until the end."""
    alive: NDArray[Any] = recording.alive.values
    within = np.arange(alive.shape[1]) < recording.length.values[:, None]
    return None if alive[within].all() else alive


def _action_names(recording: xr.Dataset) -> list[list[str]]:
    """Words for the actions of each agent; numbers where there are none."""
    count = len(recording.agent)
    if "action_name" in recording.coords or "action_name" in recording:
        return [[str(word) for word in own if str(word)] for own in recording.action_name.values]
    if "action" in recording.coords:
        return [[str(word) for word in recording.action.values]] * count
    most = int(recording.sizes.get("action", recording.action_taken.values.max() + 1))
    return [[str(number) for number in range(most)]] * count


def _digest(start: NDArray[Any]) -> str:
    """Equal for equal starts."""
    return hashlib.blake2b(np.ascontiguousarray(start).tobytes(), digest_size=6).hexdigest()


def _scene(recording: xr.Dataset) -> dict[str, Any] | None:
    """How the recording is drawn: as its environment says, or places as they are; else None."""
    text = recording.attrs.get("scene", "")
    try:
        found: dict[str, Any] | None = json.loads(text) if text else _guessed(recording)
        drawable = found is not None and all(
            _is_drawn(recording, name) for name in fields_in(found)
        )
        if found is not None and not (np.array(found["low"]) < np.array(found["high"])).all():
            raise ValueError(f"no box from {found['low']} to {found['high']}")
        json.dumps(found, allow_nan=False)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"The scene of the recording is none: {error!r}.") from error
    return found if drawable else None


def _is_drawn(recording: xr.Dataset, name: str) -> bool:
    """Whether a field is there, and of numbers at every moment, or at none."""
    field = recording.variables.get(name)
    if field is None or field.dtype.kind not in "biuf":
        return False
    still = not {"episode", "moment", "step"} & set(field.dims)
    return bool(np.isfinite(field.values).all()) if still else field.dims[:2] == _MOMENTS


def _guessed(recording: xr.Dataset) -> dict[str, Any] | None:
    """Agents and whatever else has a place, of environments that have a view and no scene."""
    placed = {
        str(name): own
        for name, own in recording.variables.items()
        if own.dims[:2] == _MOMENTS and own.ndim == 4 and own.dims[-1] == "xy"
        if own.shape[-1] == 2 and np.isfinite(own.values).any()
    }
    agents = next((name for name, own in placed.items() if "agent" in own.dims), None)
    if agents is None:
        return None
    things = [name for name, own in placed.items() if "agent" not in own.dims]
    low, high = _extent([placed[name].values for name in (agents, *things)])
    size = 0.03 * float(max(high[0] - low[0], high[1] - low[1]))
    layers: tuple[Layer, ...] = (
        Box(low, high),
        *(Marks(At(name), 0.6 * size, "square", colour="ink", name=name) for name in things),
        Marks(At(agents), size, name="agent", agents=True, label=True),
    )
    drawn: dict[str, Any] = json.loads(Scene(low, high, layers).as_json())
    return drawn


def _extent(arrays: Sequence[NDArray[Any]]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Corners of a rectangle that holds all places, with a margin."""
    places = np.concatenate([array.reshape(-1, 2) for array in arrays]).astype(np.float64)
    low, high = np.nanmin(places, axis=0), np.nanmax(places, axis=0)
    margin = 0.1 * max(*(high - low), 1e-3)
    (x0, y0), (x1, y1) = low - margin, high + margin
    return (float(x0), float(y0)), (float(x1), float(y1))


def as_script(data: Mapping[str, Any]) -> str:
    """Data as JSON that may stand in a script element: no markup, and plain ASCII."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text
