"""Recordings: trajectories of episodes as an xarray Dataset, in memory and in files.

A recording is read without JAX, the environment and this package: plain xarray opens its file, a
NetCDF file (version 3, ``.nc``) or a zarr folder (version 3, ``.zarr``). Dimensions are those of
:data:`mamt_jax.trajectories.trajectory.FIELDS`, episodes first:

    episode, step or moment, agent, and action, opponent and head, obs, or the environment's own

Names of agents and actions are coordinates. After the end of an episode numbers are NaN, whole
numbers -1, flags False.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from mamt_jax.envs.base import EnvSpec, Field
from mamt_jax.errors import ConfigError, OutputError, RunError
from mamt_jax.files import user_path
from mamt_jax.trajectories.trajectory import FIELDS, Trajectory

_RENAMED = {"action": "action_taken"}
"""Because ``action`` is a dimension, and its coordinate has the names of actions."""
_COORDINATES = {
    "episode": ("", "number of the episode"),
    "step": (
        "step",
        "number of the step, which leads from the moment before to that of its number",
    ),
    "moment": ("step", "steps done: 0 at the start"),
    "agent": ("", "name of the agent"),
    "opponent": ("", "name of the agent that is looked at"),
    "action": ("", "the action, by its name where all agents have the same, else its number"),
    "action_name": ("", "name of each action of each agent, empty where it has no such action"),
    "head": ("", "number of the critic's attention head"),
}
ABOUT: dict[str, type] = {
    "algorithm": str,
    "env": str,
    "env_options": str,
    "seed": int,
    "checkpoint": int,
    "update": int,
    "greedy": int,
    "key": int,
    "scene": str,
    "mamt_jax": str,
}
"""Attributes of every recording, see :func:`as_recording`."""

LARGEST = 2**34
"""Bytes in memory from which on a recording is not read: about a hundred times the usual."""
_SUFFIXES = (".nc", ".zarr")
_LIST = "zarr.json"
_CODECS = {"bytes", "vlen-utf8", "zstd", "gzip", "blosc", "crc32c", "transpose"}
_AS_IT_IS: dict[str, Any] = {"decode_times": False, "decode_timedelta": False, "chunks": None}


class Recording(xr.Dataset):
    """Episodes of one seed's policies, as :mod:`mamt_jax.trajectories.recording` says."""

    __slots__ = ()

    @property
    def returns(self) -> xr.DataArray:
        """Undiscounted return of each episode, averaged over agents, ``[episode]``."""
        last = self["length"].astype(int) - 1
        return self["return_so_far"].isel(step=last).drop_vars("step").rename("return")

    def _repr_html_(self) -> str:
        """The page that plays it; of less than whole episodes, xarray's own."""
        from mamt_jax.trajectories.viewer import frame

        try:
            whole = _with_episodes(self)
            check_recording(whole)
            return frame(whole)
        except Exception:  # a recording may be edited in more ways than anybody can list
            return super()._repr_html_()


def as_recording(trajectory: Trajectory, about: Mapping[str, Any]) -> Recording:
    """A trajectory as a recording.

    Args:
        trajectory: The episodes.
        about: Whose they are: ``algorithm``, ``env``, ``env_options``, ``seed``, ``checkpoint``
            (logging points done, -1 where that is not known), ``update`` (updates done, likewise),
            ``greedy``, ``key``, and ``scene``: how to draw them, as JSON, empty where nothing says
            so.

    Raises:
        ConfigError: Fields of the environment or the algorithm have names that are taken, or do
            not fit together.
    """
    from mamt_jax import __version__

    spec, coordinates = trajectory.spec, _coordinates(trajectory)
    taken = {*coordinates, *FIELDS, *_RENAMED.values()}
    for name in (*trajectory.view_fields, *trajectory.inspected):
        if name in taken:
            raise ConfigError(
                f"{spec.name}: a field of view or inspect is called {name}, as another array of "
                f"recordings is; give it another name."
            )
        taken.add(name)
    variables = {
        _RENAMED.get(name, name): _variable(trajectory, name, field)
        for name, field in trajectory.fields.items()
    }
    options = json.dumps(dict(about["env_options"]), sort_keys=True, default=repr)
    known = {**about, "env_options": options, "mamt_jax": __version__}
    attributes = {name: kind(known[name]) for name, kind in ABOUT.items()}
    try:
        return Recording(variables, coordinates, attributes)
    except ValueError as error:  # sizes of dimensions of one name differ
        raise ConfigError(f"{spec.name}: arrays of view or inspect do not fit: {error}") from error


def _with_episodes(recording: xr.Dataset) -> xr.Dataset:
    """One episode that was selected as a recording of one."""
    if "episode" in recording.dims or "episode" not in recording.coords:
        return recording
    moving = {
        name: own.set_dims(("episode", *own.dims))
        for name, own in recording.variables.items()
        if name == "length" or ({"step", "moment"} & {*own.dims} and name not in _COORDINATES)
    }
    number = recording.episode.values[None]
    return recording.drop_vars("episode").assign(moving).assign_coords(episode=number)


def check_recording(dataset: xr.Dataset) -> None:
    """Raises RunError, whose text begins with "it", unless a Dataset is a whole recording."""
    missing = [name for name in ABOUT if name not in dataset.attrs]
    if missing:
        raise RunError(f"it is no recording: it has no attribute {', '.join(missing)}.")
    for name, kind in ABOUT.items():
        try:
            kind(dataset.attrs[name])
        except (TypeError, ValueError) as error:
            raise RunError(f"its {name} is no number, but {dataset.attrs[name]!r}.") from error
    wanted = {_RENAMED.get(name, name): field for name, field in FIELDS.items()}
    missing = [name for name in wanted if name not in dataset.variables]
    missing += [name for name in ("agent", "action") if name not in dataset.coords]
    if missing:
        raise RunError(f"it is no whole recording: it has no {', '.join(missing)}.")
    for name, field in wanted.items():
        dims = _turned(field.dims)
        if dataset[name].dims != dims:
            found = ", ".join(map(str, dataset[name].dims))
            raise RunError(f"{name} is [{found}] in it, and must be [{', '.join(dims)}].")
        if dataset[name].dtype.kind not in "biuf":
            raise RunError(f"{name} holds no numbers in it, but {dataset[name].dtype}.")
    episodes, steps, moments = (dataset.sizes[name] for name in ("episode", "step", "moment"))
    length = dataset["length"].values
    if not episodes or moments != steps + 1 or not ((length >= 1) & (length <= steps)).all():
        raise RunError(
            f"its episodes are of lengths {length.tolist()}, which do not fit {steps} steps and "
            f"{moments} moments."
        )


def check_writable(path: Path, overwrite: bool = False) -> None:
    """Makes sure that a recording can be written, before any time is spent on it.

    Raises:
        OutputError: The name does not end in .nc or .zarr, something is there that is not to be
            overwritten or is no recording, or nothing can be written there.
    """
    if path.suffix not in _SUFFIXES:
        raise OutputError(f"The name of a recording must end in .nc or .zarr, got {path}.")
    folder = path.suffix == ".zarr"
    if os.path.lexists(path):
        if not overwrite:
            raise OutputError(f"{path} exists; choose another name, or overwrite it (--overwrite).")
        if path.is_dir() != folder or not set(ABOUT) <= set(_attributes(path)):
            raise OutputError(f"{path} exists and is no recording; choose another name.")
    with _output_errors(path), TemporaryDirectory(prefix=".", dir=path.parent):
        pass


def _attributes(path: Path) -> Mapping[str, Any]:
    """Of a file or folder that may be a recording; nothing where it is something else."""
    try:
        if path.is_dir():
            found = json.loads((path / _LIST).read_bytes())["attributes"]
        else:
            with xr.open_dataset(path, **_engine(path), **_AS_IT_IS) as opened:
                found = opened.attrs
        return dict(found)
    except Exception:  # readers raise many kinds
        return {}


def write_recording(
    recording: xr.Dataset, path: str | os.PathLike[str], overwrite: bool = False
) -> Path:
    """Writes a recording; it appears whole or not at all.

    Args:
        recording: What is to be kept.
        path: A NetCDF file (.nc) or a zarr folder (.zarr).
        overwrite: Replaces a recording that is there.

    Returns:
        The absolute path.

    Raises:
        OutputError: As :func:`check_writable`, or the disk is full. What was there before stays.
    """
    path = user_path(path)
    check_writable(path, overwrite)
    with _output_errors(path), TemporaryDirectory(prefix=".", dir=path.parent) as beside:
        new = Path(beside) / path.name
        if path.suffix == ".nc":
            recording.to_netcdf(new, engine="scipy")
        else:
            # zarr's own type for text; NumPy's is not in its standard.
            texts = [name for name in recording.variables if recording[name].dtype.kind == "U"]
            plain = xr.Dataset(recording.data_vars, recording.coords, recording.attrs)
            plain = plain.assign_coords({name: plain[name].astype(object) for name in texts})
            with warnings.catch_warnings():  # the list of arrays in one file is not standard yet
                warnings.simplefilter("ignore")
                plain.to_zarr(new, mode="w", zarr_format=3, consolidated=True)
            if os.path.lexists(path):
                path.rename(Path(beside) / "before")
        os.replace(new, path)
    return path


@contextmanager
def _output_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error
    except (TypeError, ValueError, NotImplementedError) as error:  # the format has no such thing
        raise OutputError(
            f"Cannot write {path}, whose format does not hold this: {error}"
        ) from error


def read_recording(path: str | os.PathLike[str]) -> Recording:
    """Reads a recording into memory. Whoever made the file, nothing in it is executed.

    Raises:
        RunError: There is none, or it is damaged; or larger than :data:`LARGEST`.
    """
    path = user_path(path)
    try:
        if path.is_dir():
            _check_codecs(path)
            opened = xr.open_zarr(path, consolidated=False, zarr_format=3, **_AS_IT_IS)
        else:
            opened = xr.open_dataset(path, **_engine(path), **_AS_IT_IS)
        with opened:
            if opened.nbytes > LARGEST:
                raise RunError(f"it holds {opened.nbytes / 1e9:,.0f} GB.")
            check_recording(opened)
            loaded = opened.load()
        texts = {
            name: (variable.dims, np.array(variable.values.tolist(), str), variable.attrs)
            for name, variable in loaded.coords.variables.items()
            if variable.dtype.kind in "OT"
        }
        loaded = loaded.assign_coords(texts)
        attributes = {name: kind(loaded.attrs[name]) for name, kind in ABOUT.items()}
        check_recording(loaded)
        return Recording(loaded.data_vars, loaded.coords, attributes)
    except RunError as error:
        raise RunError(f"{path} cannot be read as a recording: {error}") from error
    except Exception as error:  # readers raise many kinds on damaged files
        reason = getattr(error, "strerror", None) or "it is damaged, or no recording"
        raise RunError(f"{path} cannot be read as a recording: {reason}.") from error


def _engine(path: Path) -> dict[str, Any]:
    """How xarray is to read a NetCDF file; one of version 4 as it can, if it can."""
    with path.open("rb") as file:
        first = file.read(4)
    if first[:3] == b"CDF":
        return {"engine": "scipy", "mmap": False}
    if first == b"\x89HDF":
        return {}
    raise RunError("it is neither a NetCDF file nor a zarr folder.")


def _check_codecs(path: Path) -> None:
    """Refuses a zarr folder whose arrays are to be decoded by more than plain codecs.

    There are some (``pickle``, or those that a package brings) which execute what they read.
    """
    if not (path / _LIST).is_file():
        raise RunError(f"it is no zarr folder of version 3: it has no {_LIST}.")
    for file in path.glob(f"*/{_LIST}"):
        codecs = json.loads(file.read_bytes()).get("codecs", [])
        unknown = [str(one["name"]) for one in codecs if one["name"] not in _CODECS]
        if unknown:
            raise RunError(f"it is encoded by {', '.join(unknown)}, which is not trusted.")


def _coordinates(trajectory: Trajectory) -> dict[str, xr.Variable]:
    spec, (steps, episodes) = trajectory.spec, trajectory.return_so_far.shape
    agents, names = list(spec.agents), spec.action_names
    shared = names is not None and len(set(names)) == 1
    values: dict[str, tuple[tuple[str, ...], Any]] = {
        "episode": (("episode",), np.arange(episodes, dtype=np.int32)),
        "step": (("step",), np.arange(1, steps + 1, dtype=np.int32)),
        "moment": (("moment",), np.arange(steps + 1, dtype=np.int32)),
        "agent": (("agent",), agents),
        "opponent": (("opponent",), agents),
        "action": (
            ("action",),
            list(names[0])
            if names is not None and shared
            else np.arange(spec.num_actions, dtype=np.int32),
        ),
    }
    if names is not None and not shared:
        values["action_name"] = (("agent", "action"), _padded(spec))
    if "attention" in trajectory.inspected:
        heads = trajectory.inspected["attention"].shape[-1]
        values["head"] = (("head",), np.arange(heads, dtype=np.int32))
    return {
        name: xr.Variable(dims, array, _described(*_COORDINATES[name]))
        for name, (dims, array) in values.items()
    }


def _padded(spec: EnvSpec) -> list[list[str]]:
    """Names of actions [agent, action]."""
    assert spec.action_names is not None
    return [list(names) + [""] * (spec.num_actions - len(names)) for names in spec.action_names]


def _variable(trajectory: Trajectory, name: str, field: Field) -> xr.Variable:
    attributes = _described(field.unit, field.description)
    if field.still is not None:
        return xr.Variable(field.dims, _plain(field.still), attributes)
    kept = trajectory.view | trajectory.inspected
    array = _plain(kept[name] if name in kept else getattr(trajectory, name))
    if len(field.dims) > 1:
        array = np.ascontiguousarray(array.swapaxes(0, 1))
    return xr.Variable(_turned(field.dims), array, attributes)


def _turned(dims: tuple[str, ...]) -> tuple[str, ...]:
    """Episodes before steps or moments."""
    return (*dims[1::-1], *dims[2:])


def _described(unit: str, text: str) -> dict[str, str]:
    return {"units": unit or "1", "long_name": text}


def _plain(array: NDArray[Any]) -> NDArray[Any]:
    """In a type that every file format has."""
    kind = array.dtype.kind
    if kind in "iu":
        return array.astype(np.int32)
    if kind == "b" or array.dtype == np.float64:
        return array
    return array.astype(np.float32)  # half precision, too
