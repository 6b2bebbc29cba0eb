"""Checkpoints: orbax arrays plus a small ``meta.json`` with a checksum of every array.

Layout of a run's ``checkpoints`` directory, whose entries appear by one rename each:

    checkpoints/000120/learner    arrays of the algorithm's state, all that acting needs
    checkpoints/000120/rest       replay, environments, random keys (absent once a run is finished)
    checkpoints/000120/meta.json  logging points, updates, seconds, checksums
"""

from __future__ import annotations

import json
import shutil
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mamt_jax.errors import RunError
from mamt_jax.training.programs import as_written

KEEP = 2
_LEARNER = ".seeds.learner"  # where RunState keeps the algorithm's state


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
    finished: bool
    """The run is complete: only the learner is stored."""


def save(directory: Path, state: Any, meta: Meta) -> None:
    """Writes a checkpoint and removes all but it and the one before.

    Later checkpoints go, too: a run that has come back to this point found them corrupt. A finished
    run needs no replay: only the learner is written, and all other checkpoints go.

    Args:
        directory: The run's ``checkpoints`` directory.
        state: A ``RunState``; typed keys are stored as key data.
        meta: Counters stored beside it.

    Raises:
        OSError: Nothing of the earlier checkpoints is touched in that case.
    """
    import orbax.checkpoint as ocp

    parts = _split(state)
    if meta.finished:
        parts = {"learner": parts["learner"]}
    final = directory / f"{meta.points:06d}"
    temporary = directory / "incomplete"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    writer = ocp.PyTreeCheckpointer()
    checksums = {}
    try:
        for part, leaves in parts.items():
            stored = {name: leaf for name, leaf in leaves.items() if leaf.size}
            writer.save((temporary / part).resolve(), stored)
            checksums[part] = {name: _checksum(leaf) for name, leaf in stored.items()}
        document = json.dumps({"meta": meta._asdict(), "checksums": checksums}, indent=1)
        (temporary / "meta.json").write_text(document, encoding="utf-8")
        if final.exists():
            shutil.rmtree(final)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        writer.close()
    kept = [step for step in steps(directory) if int(step.name) <= meta.points]
    kept = kept[-1 if meta.finished else -KEEP :]
    for old in set(steps(directory)) - set(kept):
        shutil.rmtree(old)


def steps(directory: Path) -> list[Path]:
    """Checkpoints in ``directory``, oldest first."""
    if not directory.is_dir():
        return []
    found = (entry for entry in directory.iterdir() if entry.name.isdecimal())
    return sorted(found, key=lambda entry: int(entry.name))


def read_meta(step: Path) -> Meta:
    """Counters of one checkpoint."""
    return Meta(**_document(step)["meta"])


def restore(step: Path, like: Any) -> Any:
    """Reads a whole state.

    Args:
        step: One of :func:`steps`.
        like: Structure, shapes and dtypes of the state (``jax.eval_shape`` of its constructor).

    Raises:
        CorruptCheckpoint: The files cannot be read or do not hold such a state.
    """
    rest = _names(like)
    checksums = _document(step)["checksums"]
    leaves = {part: _read(step, part, checksums) for part in ("learner", "rest")}
    merged = {_LEARNER + name: leaf for name, leaf in leaves["learner"].items()}
    return _fill(step, like, rest, merged | leaves["rest"])


def restore_learner(step: Path, like: Any) -> Any:
    """Reads the learner alone; as :func:`restore`, with the structure of the learner."""
    leaves = _read(step, "learner", _document(step)["checksums"])
    return _fill(step, like, _names(like), leaves)


def _split(state: Any) -> dict[str, dict[str, np.ndarray]]:
    """Leaves by name, the learner's apart from all others."""
    parts: dict[str, dict[str, np.ndarray]] = {"learner": {}, "rest": {}}
    for name, leaf in zip(_names(state), jax.tree.leaves(state), strict=True):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaf = jax.random.key_data(leaf)
        inside = name.startswith(_LEARNER)
        short = name.removeprefix(_LEARNER) if inside else name
        parts["learner" if inside else "rest"][short] = np.asarray(leaf)
    return parts


def _names(tree: Any) -> list[str]:
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _checksum(leaf: np.ndarray) -> int:
    return zlib.crc32(np.ascontiguousarray(leaf).view(np.uint8).data)


def _document(step: Path) -> dict[str, Any]:
    try:
        document = json.loads((step / "meta.json").read_text(encoding="utf-8"))
        Meta(**document["meta"])
        return {"meta": document["meta"], "checksums": dict(document["checksums"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(
            f"Checkpoint {step} is corrupt: meta.json is unreadable."
        ) from error


def _read(step: Path, part: str, checksums: dict[str, dict[str, int]]) -> dict[str, np.ndarray]:
    import orbax.checkpoint as ocp

    if part not in checksums:
        raise CorruptCheckpoint(f"Checkpoint {step} has no part {part!r}.")
    reader = ocp.PyTreeCheckpointer()
    try:
        leaves = reader.restore((step / part).resolve())
        intact = {name: _checksum(np.asarray(leaf)) for name, leaf in leaves.items()}
    except Exception as error:  # orbax and tensorstore raise many kinds on damaged files
        raise CorruptCheckpoint(f"Checkpoint {step} is corrupt: {part} is unreadable.") from error
    finally:
        reader.close()
    if intact != checksums[part]:
        raise CorruptCheckpoint(f"Checkpoint {step} is corrupt: {part} fails its checksum.")
    return leaves


@as_written()
def _fill(step: Path, like: Any, names: list[str], leaves: dict[str, np.ndarray]) -> Any:
    """Puts named leaves into the structure of ``like``."""
    filled = []
    for name, target in zip(names, jax.tree.leaves(like), strict=True):
        is_key = jnp.issubdtype(target.dtype, jax.dtypes.prng_key)
        data = jax.eval_shape(jax.random.key_data, target) if is_key else target
        leaf = leaves.get(name)
        if leaf is None and data.size == 0:
            leaf = np.zeros(data.shape, data.dtype)
        if leaf is None or leaf.shape != data.shape or leaf.dtype != data.dtype:
            raise CorruptCheckpoint(
                f"Checkpoint {step} does not fit this version of the algorithm: {name} differs."
            )
        array = jnp.array(leaf, copy=True)  # a copy, because the training loop donates it
        filled.append(jax.random.wrap_key_data(array) if is_key else array)
    return jax.tree.unflatten(jax.tree.structure(like), filled)
