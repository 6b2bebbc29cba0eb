"""Checkpoints: NumPy archives plus a small ``meta.json`` with a checksum of each.

Layout of a run's ``checkpoints`` directory, whose entries appear by one rename each:

    checkpoints/000120/learner.npz  arrays of the algorithm's state, all that acting needs
    checkpoints/000120/rest.npz     replay, environments, random keys; in the newest two alone
    checkpoints/000120/meta.json    logging points, updates, seconds, checksums

The newest two are whole, so that a run can go on from either. Of earlier ones the learner is kept,
for as many of them as were asked for.
"""

from __future__ import annotations

import json
import shutil
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from mamt_jax.errors import RunError
from mamt_jax.files import write_whole
from mamt_jax.training.mesh import on_host, padded, placed
from mamt_jax.training.programs import as_written

WHOLE = 2
"""Checkpoints, the newest ones, from which a run can go on."""
_ROWS = ".seeds"  # where RunState keeps what has rows
_LEARNER = ".seeds.learner"  # where RunState keeps the algorithm's state
_STORAGE = ".seeds.store.storage"  # and where a replay has its transitions, [S, capacity, ...]
_PIECE = 1 << 24  # bytes read at a time, so that no second replay is held


class CorruptCheckpoint(RunError):
    """A checkpoint's files are truncated, garbled, or of another shape than expected."""


class Meta(NamedTuple):
    """What a checkpoint says about itself."""

    points: int
    """Logging points done."""
    updates: int
    """Updates done, per seed."""
    seconds: float
    """Wall-clock training time so far, over all resumes."""


def save(
    directory: Path,
    state: Any,
    meta: Meta,
    keep: int | str = "all",
    planned: int = 0,
    rows: slice | None = None,
) -> None:
    """Writes a checkpoint, reads it back, and only then removes others.

    Those go that :func:`thinned` does not keep; and later ones, too: a run that has come back to
    this point found them corrupt.

    Args:
        directory: The run's ``checkpoints`` directory.
        state: A ``RunState``; typed keys are stored as key data.
        meta: Counters stored beside it.
        keep: How many checkpoints stay, this one included; or "all".
        planned: Logging points of the whole run.
        rows: Which of the state's rows are the run's; None for all of them.

    Raises:
        OSError: It could not be written. Nothing of the earlier checkpoints is touched.
        CorruptCheckpoint: It was written and does not come back. As above.
    """
    _write(directory, meta, _split(state, rows))
    found = {int(step.name): step for step in steps(directory)}
    kept = thinned([points for points in found if points <= meta.points], keep, planned)
    for points in set(found) - set(kept):
        shutil.rmtree(found[points])
    for points in kept[:-WHOLE]:
        _keep_learner(found[points])


def recut(directory: Path, sources: Sequence[tuple[Path, Sequence[int]]]) -> None:
    """Writes a checkpoint of rows of others, of the same logging point; whole if they all are.

    Args:
        directory: Where its run has checkpoints.
        sources: Checkpoints, and which rows of each, in the order that they come in.

    Raises:
        OSError, CorruptCheckpoint: As :func:`save`; or one of them is damaged.
    """
    parts: dict[str, dict[str, np.ndarray]] = {}
    whole = all("rest" in _document(step)["files"] for step, _ in sources)
    for part in ("learner", "rest")[: 1 + whole]:
        read = [(_read(step, part), list(rows)) for step, rows in sources]
        parts[part] = {
            name: np.concatenate([leaves[name][rows] for leaves, rows in read])
            if part == "learner" or name.startswith(_ROWS)
            else leaf
            for name, leaf in read[0][0].items()
        }
    metas = [read_meta(step) for step, _ in sources]
    _write(directory, max(metas, key=lambda meta: meta.seconds), parts)


def _write(directory: Path, meta: Meta, parts: dict[str, dict[str, np.ndarray]]) -> None:
    """Writes a checkpoint and reads it back; errors as those of :func:`save`."""
    final = directory / f"{meta.points:06d}"
    temporary = directory / "incomplete"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        for part, leaves in parts.items():
            with (temporary / f"{part}.npz").open("wb") as file:
                np.savez(file, **leaves)  # type: ignore[arg-type]
        checksums = {part: _verified(temporary, part, leaves) for part, leaves in parts.items()}
        _write_document(temporary, meta, checksums)
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
        for part in parts:
            _check(final, part)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def thinned(points: Sequence[int], keep: int | str, planned: int) -> list[int]:
    """Which checkpoints stay, oldest first, each by its logging points.

    The first and the newest two stay, and in between those that divide the planned run evenly.
    Until the run comes to these, others have their places: of them those go, between whose
    neighbours the gap is smallest. So what is left lies about evenly over the run so far, and also
    over a run that ends early or is prolonged.

    Args:
        points: Of all that there are.
        keep: How many stay, at least two; or "all".
        planned: Logging points of the whole run.
    """
    kept = sorted(points)
    if keep == "all":
        return kept
    most, first = int(keep), 0 if keep == WHOLE else 1
    parts = max(most - WHOLE, 1)
    marks = [kept[0] + (planned - kept[0]) * k / parts for k in range(parts)] if first else []
    while len(kept) > most:
        inner = range(first, len(kept) - WHOLE)
        at_mark = {next((point for point in kept if point >= mark), None) for mark in marks}
        others = [i for i in inner if kept[i] not in at_mark] or inner
        del kept[min(others, key=lambda i: kept[i + 1] - kept[max(i - 1, 0)])]
    return kept


def steps(directory: Path) -> list[Path]:
    """Checkpoints in ``directory``, oldest first."""
    if not directory.is_dir():
        return []
    found = (entry for entry in directory.iterdir() if entry.name.isdecimal())
    return sorted(found, key=lambda entry: int(entry.name))


def read_meta(step: Path) -> Meta:
    """Counters of one checkpoint."""
    return Meta(**_document(step)["meta"])


def check_whole(step: Path) -> Meta:
    """Counters of a checkpoint from which a run can go on; all of its bytes are read.

    Raises:
        CorruptCheckpoint: It is damaged, or its learner alone was kept.
    """
    for part in ("learner", "rest"):
        _check(step, part)
    return read_meta(step)


def restore(step: Path, like: Any) -> Any:
    """Reads a whole state; :func:`read` and :func:`place` in one."""
    return place([read(step, like)], like)


def read(step: Path, like: Any) -> list[np.ndarray]:
    """Leaves of a whole state as NumPy arrays, random keys as their data.

    A replay that was stored with another capacity is brought to that of ``like``: a run of another
    length has another one, and until then neither was full.

    Args:
        step: One of :func:`steps`.
        like: Structure, shapes and dtypes of the state (``jax.eval_shape`` of its constructor).

    Raises:
        CorruptCheckpoint: The files cannot be read or do not hold such a state.
    """
    leaves = {_LEARNER + name: leaf for name, leaf in _read(step, "learner").items()}
    return _fill(step, like, leaves | _read(step, "rest"))


def restore_learner(step: Path, like: Any) -> Any:
    """Reads the learner alone; as :func:`restore`, with the structure of the learner."""
    return place([_fill(step, like, _read(step, "learner"))], like)


@as_written()
def place(several: Sequence[list[np.ndarray]], like: Any, mesh: Mesh | None = None) -> Any:
    """A state, of what :func:`read` has read of one run or of several side by side.

    Args:
        several: Leaves of each; used up, so that no second replay is held.
        like: As of :func:`read`, of one of them.
        mesh: The devices that share the rows; None for one.
    """
    made = []
    for name, target in zip(_names(like), jax.tree.leaves(like), strict=True):
        leaf, *others = (leaves.pop(0) for leaves in several)
        if name.startswith(_ROWS):
            leaf = padded(np.concatenate([leaf, *others]) if others else leaf, mesh)
        array = placed(leaf, mesh)
        made.append(jax.random.wrap_key_data(array) if _is_key(target) else array)
    return jax.tree.unflatten(jax.tree.structure(like), made)


def _is_key(leaf: Any) -> bool:
    return bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def _split(state: Any, rows: slice | None) -> dict[str, dict[str, np.ndarray]]:
    """Leaves by name, the learner's apart from all others."""
    parts: dict[str, dict[str, np.ndarray]] = {"learner": {}, "rest": {}}
    for name, leaf in zip(_names(state), jax.tree.leaves(state), strict=True):
        held = on_host(jax.random.key_data(leaf) if _is_key(leaf) else leaf)
        if rows is not None and name.startswith(_ROWS):
            held = held[rows]
        inside = name.startswith(_LEARNER)
        short = name.removeprefix(_LEARNER) if inside else name
        parts["learner" if inside else "rest"][short] = held
    return parts


def _names(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _verified(step: Path, part: str, leaves: dict[str, np.ndarray]) -> dict[str, int]:
    """Checksum of an archive that gives back these very arrays.

    Raises:
        CorruptCheckpoint: It does not.
    """
    try:
        with (step / f"{part}.npz").open("rb") as file:
            with zipfile.ZipFile(file) as archive:
                same = set(archive.namelist()) == {f"{name}.npy" for name in leaves}
                same = same and all(_same(archive, name, leaf) for name, leaf in leaves.items())
            found = _checksum(file)
    except Exception as error:  # NumPy and zipfile raise many kinds on damaged files
        raise CorruptCheckpoint(f"{part}.npz cannot be read back.") from error
    if not same:
        raise CorruptCheckpoint(f"{part}.npz does not hold what was written.")
    return found


def _same(archive: zipfile.ZipFile, name: str, leaf: np.ndarray) -> bool:
    """Whether a member is this array, bit by bit; read in pieces."""
    with archive.open(f"{name}.npy") as member:
        np.lib.format.read_magic(member)
        shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        data, at = leaf.reshape(-1).view(np.uint8).data, 0
        while piece := member.read(_PIECE):
            if piece != data[at : at + len(piece)]:
                return False
            at += len(piece)
    return at == len(data) and shape == leaf.shape and dtype.itemsize == leaf.itemsize


def _checksum(file: Any) -> dict[str, int]:
    """Size and CRC-32 of an open file."""
    file.seek(0)
    size = crc = 0
    while piece := file.read(_PIECE):
        size, crc = size + len(piece), zlib.crc32(piece, crc)
    return {"bytes": size, "crc32": crc}


def _write_document(step: Path, meta: Meta, files: dict[str, dict[str, int]]) -> None:
    """Writes ``meta.json``, which carries a checksum of its own."""
    content = {"meta": meta._asdict(), "files": files}
    text = json.dumps(content | {"crc32": _crc_of(content)}, indent=1)
    write_whole(step / "meta.json", text.encode())


def _document(step: Path) -> dict[str, Any]:
    try:
        document = json.loads((step / "meta.json").read_bytes())
        if "checksums" in document:
            raise CorruptCheckpoint(f"Checkpoint {step} is of an earlier version of mamt_jax.")
        intact = document.pop("crc32") == _crc_of(document)
        Meta(**document["meta"])
        document["files"].items()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptCheckpoint(
            f"Checkpoint {step} is corrupt: meta.json is unreadable."
        ) from error
    if not intact:
        raise CorruptCheckpoint(f"Checkpoint {step} is corrupt: meta.json fails its checksum.")
    return document


def _crc_of(content: dict[str, Any]) -> int:
    return zlib.crc32(json.dumps(content, sort_keys=True).encode())


def _keep_learner(step: Path) -> None:
    """Removes what is not needed to act."""
    try:
        document = _document(step)
    except CorruptCheckpoint:
        return  # whoever reads it says so
    if document["files"].pop("rest", None):
        _write_document(step, Meta(**document["meta"]), document["files"])
        (step / "rest.npz").unlink(missing_ok=True)


def _check(step: Path, part: str) -> None:
    """Raises CorruptCheckpoint unless a part's file is, byte by byte, what was written."""
    files = _document(step)["files"]
    if part not in files:
        raise CorruptCheckpoint(f"Checkpoint {step} holds policies alone; no run goes on from it.")
    try:
        with (step / f"{part}.npz").open("rb") as file:
            intact = _checksum(file) == files[part]
    except OSError as error:
        raise CorruptCheckpoint(
            f"Checkpoint {step} is corrupt: {part}.npz is unreadable ({error.strerror})."
        ) from error
    if not intact:
        raise CorruptCheckpoint(f"Checkpoint {step} is corrupt: {part}.npz fails its checksum.")


def _read(step: Path, part: str) -> dict[str, np.ndarray]:
    """Arrays of a part. Its bytes are checked first, so that no damaged size is believed."""
    _check(step, part)
    try:
        with (
            (step / f"{part}.npz").open("rb") as file,
            np.load(file, allow_pickle=False) as archive,
        ):
            return dict(archive)
    except Exception as error:
        raise CorruptCheckpoint(
            f"Checkpoint {step} is corrupt: {part}.npz is unreadable."
        ) from error


@as_written()
def _fill(step: Path, like: Any, leaves: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Named leaves in the order of ``like``; they are used up."""
    filled = []
    for name, target in zip(_names(like), jax.tree.leaves(like), strict=True):
        data = jax.eval_shape(jax.random.key_data, target) if _is_key(target) else target
        leaf = leaves.pop(name, None)
        if leaf is not None and leaf.dtype.kind == "V" and leaf.itemsize == data.dtype.itemsize:
            leaf = leaf.view(data.dtype)  # bfloat16 and its like, which NumPy files do not name
        if leaf is not None and name.startswith(_STORAGE):
            leaf = _resized(leaf, data.shape)
        if leaf is None or leaf.shape != data.shape or leaf.dtype != data.dtype:
            raise CorruptCheckpoint(
                f"Checkpoint {step} does not fit this version of the algorithm: {name} differs."
            )
        filled.append(leaf)
    return filled


def _resized(leaf: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows ``[S, capacity, ...]`` cut or filled up with zeros to the capacity of ``shape``."""
    if leaf.ndim < 2 or leaf.shape[1] == shape[1]:
        return leaf
    rows = min(leaf.shape[1], shape[1])
    resized = np.zeros((leaf.shape[0], shape[1], *leaf.shape[2:]), leaf.dtype)
    resized[:, :rows] = leaf[:, :rows]
    return resized
