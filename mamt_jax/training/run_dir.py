"""The directory of a run: config, game, versions, metrics, checkpoints, and what may go wrong."""

from __future__ import annotations

import dataclasses
import errno
import importlib.metadata
import json
import os
import platform
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from numbers import Integral
from pathlib import Path
from typing import Any, TypeVar

import jax
import xarray as xr

from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError, MamtError, RunError
from mamt_jax.files import write_whole
from mamt_jax.training import checkpoint, metrics_store
from mamt_jax.training.game import game_from_json
from mamt_jax.types import Game

T = TypeVar("T")
_PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "distrax",
    "jraph",
    "tfp-nightly",
    "chex",
    "numpy",
    "xarray",
    "zarr",
    "mamt-jax",
)
_LOCK_TRIES, _LOCK_PAUSE = 3, 0.05  # seconds; :meth:`RunDir.is_written` holds it for an instant
_DEEPEST = "metrics.zarr/" + "n" * 60  # about as long as the names in a run directory get


@dataclasses.dataclass(frozen=True)
class RunDir:
    """Paths of one run directory and how they are read and written."""

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints lie."""
        return self.path / "checkpoints"

    @property
    def metrics(self) -> Path:
        """The recorded Dataset, a zarr store."""
        return self.path / "metrics.zarr"

    def holds_run(self) -> bool:
        """Whether a run was started here."""
        return os.path.exists(self.path / "config.json")

    def check_free(self) -> None:
        """Raises RunError if the directory holds a run or other files."""
        if self.holds_run():
            raise RunError(
                f"{self.path} already holds a run; resume it (--resume) or choose another one."
            )
        with disk_errors(self.path, "use the directory", "nothing is kept"):
            if os.path.lexists(self.path) and not (self.path.is_dir() and _is_empty(self.path)):
                raise RunError(
                    f"{self.path} exists and is not an empty directory; choose another one."
                )

    def check_present(self) -> None:
        """Raises RunError if the run has gone from here since it was started."""
        if not self.holds_run():
            raise RunError(f"{self.path} was moved or deleted while the run was being written.")

    def create(self, config: TrainConfig, game: Game | None = None) -> None:
        """Starts a run here.

        Args:
            config: Of the run.
            game: Sizes of its environment, from which its policies can be read without it.

        Raises:
            RunError: The directory holds a run or other files, or cannot be written.
            ConfigError: ``env_options`` cannot be written as JSON.
        """
        self.check_free()
        text = _config_text(config)
        with disk_errors(self.path, "create the run directory", "nothing is kept"):
            with suppress(FileNotFoundError, NotADirectoryError):
                os.lstat(self.path / _DEEPEST)  # fails where the path is too long for its files
            self.checkpoints.mkdir(parents=True)
            write_whole(self.path / "versions.json", _json(versions()).encode())
            if game is not None:
                write_whole(self.path / "game.json", _json(game._asdict()).encode())
            write_whole(self.path / "config.json", text.encode())

    def update_config(self, config: TrainConfig) -> None:
        """Records settings that were changed on resuming; errors as those of :meth:`create`."""
        text = _config_text(config)
        with disk_errors(self.path, "write the settings", "the run is kept as it was"):
            if (self.path / "config.json").read_text(encoding="utf-8") != text:
                write_whole(self.path / "config.json", text.encode())

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from writing here; the system lifts it when this process ends.

        Raises:
            RunError: Another process holds the lock, or its file cannot be opened.
        """
        try:
            import fcntl
        except ImportError:  # not a POSIX system
            yield
            return
        with disk_errors(self.path, "open the lock", "the run is kept"):
            file = (self.path / "lock").open("w")
        with file:
            for left in reversed(range(_LOCK_TRIES)):
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError as error:
                    if not left:
                        text = f"{self.path} is being written by another process."
                        raise RunError(text) from error
                    time.sleep(_LOCK_PAUSE)
                    continue
                except OSError:  # a file system without locks
                    pass
                break
            yield

    def is_written(self) -> bool:
        """Whether a process trains this run now; False as well where the system has no locks."""
        try:
            import fcntl

            with (self.path / "lock").open() as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except (ImportError, OSError):
            return False
        return False

    def read_config(self) -> TrainConfig:
        """The config of the run.

        Raises:
            RunError: There is no run here, or its config cannot be read.
        """
        try:
            values = json.loads((self.path / "config.json").read_text(encoding="utf-8"))
            return TrainConfig.from_dict(values)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise RunError(f"{self.path} holds no run (no config.json).") from error
        except OSError as error:
            raise RunError(f"{self.path}/config.json: {error.strerror or error}.") from error
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise RunError(
                f"{self.path}/config.json is corrupt or of another version: {error}"
            ) from error

    def read_game(self) -> Game:
        """Sizes of the run's environment, as they were when it was started.

        Raises:
            RunError: They are missing or cannot be read.
        """
        file = self.path / "game.json"
        try:
            return game_from_json(json.loads(file.read_text(encoding="utf-8")))
        except FileNotFoundError as error:
            raise RunError(
                f"{self.path} has no game.json, the sizes of its environment: its metrics can be "
                f"read, its policies cannot."
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise RunError(f"{file} is corrupt or of another version: {error}") from error

    def check_same(self, config: TrainConfig) -> None:
        """Refuses to go on with another config than the one the run was started with.

        The length of the run and how it is carried out (``config.execution``) may differ.

        Raises:
            ConfigError: Names every field that differs.
        """
        before, now = _flat(self.read_config()), _flat(config)
        differing = [
            f"{name} (run: {before.get(name)!r}, asked: {now.get(name)!r})"
            for name in sorted(before | now)
            if before.get(name) != now.get(name) and name != "episodes"
        ]
        if differing:
            raise ConfigError(
                f"{self.path} was started with other settings: {'; '.join(differing)}."
            )

    def write_metrics(self, dataset: xr.Dataset) -> None:
        """Replaces the recorded metrics; readers see the old or the new ones, whole.

        Raises:
            RunError: The disk is full or refuses; the metrics recorded before stay.
        """
        kept = "the earlier metrics and checkpoints are kept"
        with disk_errors(self.path, "write the metrics", kept):
            metrics_store.write(self.metrics, dataset)

    def read_metrics(self) -> xr.Dataset:
        """The recorded metrics, in memory.

        Raises:
            RunError: There are none, or they are corrupt.
        """
        if not os.path.exists(self.metrics):
            raise RunError(f"{self.path} holds no metrics yet.")
        try:
            loaded = metrics_store.read(self.metrics)
        except Exception as error:  # zarr's codecs raise many kinds on damaged files
            raise RunError(
                f"The metrics in {self.metrics} are corrupt, or of an earlier version of mamt_jax."
            ) from error
        missing = {"return_mean", "return_sum", "episodes"} - set(loaded)
        if missing:
            raise RunError(
                f"The metrics in {self.metrics} are corrupt: no {', '.join(sorted(missing))}."
            )
        return loaded

    def save_checkpoint(
        self,
        state: Any,
        meta: checkpoint.Meta,
        keep: int | str = "all",
        planned: int = 0,
        rows: slice | None = None,
    ) -> None:
        """Writes a checkpoint and reads it back; arguments as those of :func:`checkpoint.save`.

        Raises:
            RunError: The disk is full or refuses, or gives back something else; earlier checkpoints
                stay.
        """
        kept = "the metrics and earlier checkpoints are kept"
        try:
            with disk_errors(self.path, "write a checkpoint", kept):
                checkpoint.save(self.checkpoints, state, meta, keep, planned, rows)
        except checkpoint.CorruptCheckpoint as error:
            raise RunError(
                f"A checkpoint in {self.path} was written and could not be read back: {error} "
                f"Its disk is not to be trusted; {kept}."
            ) from error

    def saved(self) -> dict[int, Path]:
        """All checkpoints, by the logging points they were made at."""
        return {int(step.name): step for step in checkpoint.steps(self.checkpoints)}

    def checkpoint_at(self, points: int) -> Path:
        """The checkpoint made after this many logging points.

        Raises:
            RunError: There is none; names those that there are.
        """
        found = self.saved()
        if not isinstance(points, Integral) or points not in found:
            held = ", ".join(map(str, found)) or "none"
            raise RunError(f"{self.path} holds no checkpoint {points!r}; it holds {held}.")
        return found[points]

    def newest_intact(self, read: Callable[[Path], T], upto: int | None = None) -> T | None:
        """What ``read`` makes of the newest checkpoint it can read; None where there is none.

        Args:
            read: Raises CorruptCheckpoint where it cannot.
            upto: Logging points after which no checkpoint is looked at.

        Warns of corrupt checkpoints that are passed over.

        Raises:
            RunError: All checkpoints are corrupt.
        """
        passed_over: list[checkpoint.CorruptCheckpoint] = []
        found = checkpoint.steps(self.checkpoints)
        for step in reversed([s for s in found if upto is None or int(s.name) <= upto]):
            try:
                made = read(step)
            except checkpoint.CorruptCheckpoint as error:
                passed_over.append(error)
                continue
            for corrupt in passed_over:
                warnings.warn(f"{corrupt} Falling back to {step}.", stacklevel=3)
            return made
        if passed_over:
            raise RunError(
                f"{passed_over[0]} {self.checkpoints} holds no other that is intact; start the run "
                "anew."
            )
        return None


@contextmanager
def disk_errors(path: Path, action: str, kept: str) -> Iterator[None]:
    """Turns a full or unwilling disk into one sentence that ends with what is ``kept``.

    Libraries wrap what the system says, so the whole chain of causes is searched for it.
    """
    try:
        yield
    except MamtError:
        raise
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            full = getattr(cause, "errno", None) in (errno.ENOSPC, errno.EDQUOT)
            if full or "No space left" in str(cause):
                raise RunError(
                    f"Could not {action} in {path}: the disk is full; {kept}."
                ) from error
            if isinstance(cause, OSError):
                raise RunError(
                    f"Could not {action} in {path}: {cause.strerror or cause}; {kept}."
                ) from error
            cause = cause.__cause__ or cause.__context__
        raise


def versions() -> dict[str, Any]:
    """Software and hardware that a run depends on."""
    from mamt_jax import __version__

    found = {"python": platform.python_version(), "mamt_jax": f"{__version__} (not installed)"}
    for package in _PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            found[package.replace("-", "_")] = importlib.metadata.version(package)
    device = jax.local_devices()[0]
    return found | {
        "git_commit": _git_commit(),
        "platform": platform.platform(),
        "device": device.platform,
        "device_kind": device.device_kind,
        "cpu_count": os.cpu_count(),
        "cpus_available": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def _git_commit() -> str | None:
    """Commit of the source tree, with ``+changes`` where it differs from that commit."""
    source = Path(__file__).resolve().parents[2]

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(source), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")).resolve() != source:
            return None
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _flat(config: TrainConfig) -> dict[str, Any]:
    """What defines a run, by name."""
    values = json.loads(_config_text(config))  # tuples compare as the lists JSON has
    del values["execution"], values["settings"]
    return values | config.settings.flat()


def _config_text(config: TrainConfig) -> str:
    try:
        return _json(config.to_dict())
    except (TypeError, ValueError) as error:
        raise ConfigError(f"env_options must be what JSON can hold: {error}.") from error


def _json(values: dict[str, Any]) -> str:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:  # bytes of a file name that are no text
        return json.dumps(values, indent=2) + "\n"
    return text


def _is_empty(path: Path) -> bool:
    return next(path.iterdir(), None) is None
