"""The recorded Dataset on disk: a zarr store that grows under the eyes of its readers.

Chunks hold a fixed number of logging points, and zarr fills the last one up: rows are added to
files that keep their shape. Whoever has read the list of arrays, their sizes and all attributes
(one file, ``zarr.json``) therefore finds the rows that it speaks of, also where a chunk is newer.
So files appear by one rename each, rows before the list that speaks of them; where rows go, the
list is first.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from mamt_jax.files import write_whole

_LIST = "zarr.json"
_POINTS = 256
"""Logging points in a chunk."""
_CHANGES = "diverged_at_update"
_TRIES = 5
"""Readings, while writers keep coming in between. Any of them is whole; only a run that went back
to its checkpoint in between is worth another."""


def exists(path: Path) -> bool:
    """Whether there is a store that can be read."""
    return (path / _LIST).exists()


def write(path: Path, dataset: xr.Dataset) -> None:
    """Brings a store to hold ``dataset``: its rows so far, and more of them or fewer.

    Raises:
        OSError: The store can be read as before.
    """
    files = _files(dataset)
    try:
        before = _arrays((path / _LIST).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return _create(path, files)  # there is none, or none that anybody can read
    shrinks = any(
        size < was
        for name, array in _arrays(files[_LIST]).items()
        for size, was in zip(array["shape"], before.get(name, array)["shape"], strict=False)
    )
    for name in sorted(files, key=_rank, reverse=shrinks):
        _put(path / name, files[name])


def read(path: Path) -> xr.Dataset:
    """All of a store, in memory.

    Raises:
        Exception: Of whatever kind zarr's codecs raise on damaged files.
    """
    import zarr.core.buffer.cpu as buffers
    from zarr.storage import MemoryStore

    for _ in range(_TRIES):
        listed = (path / _LIST).read_bytes()
        files = {name: (path / name).read_bytes() for name in _chunks(listed)} | {_LIST: listed}
        if (path / _LIST).read_bytes() == listed:
            break
    store = MemoryStore({k: buffers.Buffer.from_bytes(v) for k, v in files.items()})
    with xr.open_zarr(store, consolidated=True, zarr_format=3) as dataset:
        loaded = dataset.load()
    for name, variable in loaded.variables.items():
        if variable.dtype.kind in "OT":
            text = np.array(variable.values.tolist(), str).reshape(variable.shape)
            loaded[name] = (variable.dims, text, variable.attrs)
    return _without_later_losses(loaded).drop_encoding()


def _files(dataset: xr.Dataset) -> dict[str, bytes]:
    """Name to content of all files of the store, every chunk included."""
    from zarr.codecs import ZstdCodec
    from zarr.storage import MemoryStore

    points = max(dataset.sizes.get("update", 0), 1)
    per_point = -(-dataset.sizes.get("event", 0) // points)  # events
    lengths = {"update": _POINTS, "event": _POINTS * max(per_point, 1)}
    codec = ZstdCodec(level=1, checksum=True)
    encoding = {
        name: {
            "chunks": tuple(lengths.get(str(d), max(variable.sizes[d], 1)) for d in variable.dims),
            "compressors": codec,
        }
        for name, variable in dataset.variables.items()
    }
    plain = _with_losses(dataset).drop_encoding()
    for name, variable in dataset.variables.items():
        if variable.dtype.kind == "U":  # zarr's own type for text; NumPy's is not in its standard
            plain[name] = variable.astype(object)
    store = MemoryStore()
    plain.to_zarr(
        store,
        mode="w",
        zarr_format=3,
        consolidated=False,
        encoding=encoding,
        write_empty_chunks=True,
    )
    files = {name: value.to_bytes() for name, value in store._store_dict.items()}
    arrays = {str(name): json.loads(files[f"{name}/{_LIST}"]) for name in dataset.variables}
    listed = {"kind": "inline", "must_understand": False, "metadata": arrays}
    root = json.loads(files[_LIST]) | {"consolidated_metadata": listed}
    return files | {_LIST: json.dumps(root, indent=1).encode()}


def _create(path: Path, files: dict[str, bytes]) -> None:
    """A new store, by one rename."""
    new = path.with_name(f"{path.name}.new")
    shutil.rmtree(new, ignore_errors=True)
    try:
        new.mkdir()
        for name, content in files.items():
            _put(new / name, content)
        shutil.rmtree(path, ignore_errors=True)
        new.rename(path)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _rank(name: str) -> int:
    """Place in the order of writing: what is looked at first comes last."""
    if name == _LIST:
        return 2
    return 1 if name.endswith(_LIST) else 0


def _put(path: Path, content: bytes) -> None:
    """Writes one file, unless it holds this already."""
    try:
        if path.read_bytes() == content:
            return
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def _arrays(listed: bytes) -> dict[str, Any]:
    """What the list says of each array."""
    return dict(json.loads(listed)["consolidated_metadata"]["metadata"])


def _chunks(listed: bytes) -> Iterator[str]:
    """Names of all chunks that the list speaks of."""
    for name, array in _arrays(listed).items():
        lengths = array["chunk_grid"]["configuration"]["chunk_shape"]
        counts = (-(-size // chunk) for size, chunk in zip(array["shape"], lengths, strict=True))
        for index in itertools.product(*map(range, counts)):
            yield "/".join((name, "c", *map(str, index)))


def _with_losses(dataset: xr.Dataset) -> xr.Dataset:
    """Notes in the list which seeds are lost: the one variable that does not grow by rows."""
    if _CHANGES not in dataset:
        return dataset
    lost = np.isfinite(dataset[_CHANGES].values).tolist()
    return dataset.assign({_CHANGES: dataset[_CHANGES].assign_attrs(lost=lost)})


def _without_later_losses(dataset: xr.Dataset) -> xr.Dataset:
    """What :func:`_with_losses` was given, where the values may be newer than the list."""
    if _CHANGES not in dataset:
        return dataset
    known = dataset[_CHANGES]
    values = known.copy(data=np.where(known.attrs["lost"], known.values, np.nan))
    del values.attrs["lost"]
    return dataset.assign({_CHANGES: values})
