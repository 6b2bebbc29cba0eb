"""Dashboards that follow a run: TensorBoard's event files, and Weights & Biases.

Both are optional packages, imported when a run that asks for them begins. They are copies of what
the run records anyway: one that fails ends with one warning, and the run goes on.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError
from mamt_jax.files import write_whole
from mamt_jax.training.points import MEAN, LoggingPoint, scalars

Earlier = Callable[[], Iterator[LoggingPoint]]
"""The logging points that a resumed run begins with."""


class Dashboard(Protocol):
    """Where logging points go. Anything here may raise anything."""

    def write(self, point: LoggingPoint) -> None:
        """Adds a logging point."""
        ...

    def close(self, failed: bool) -> None:
        """Ends it; ``failed`` says that the run did not end well."""
        ...


class TensorBoard:
    """Event files in RUN/tensorboard: a folder with the mean, and one for each seed.

    TensorBoard overlays the folders: one chart for each name. The horizontal axis (step) are
    episodes. A resumed run writes its files anew from what it has recorded, so nothing is there
    twice, and what was computed after its checkpoint is gone.
    """

    def __init__(self, config: TrainConfig, path: Path, earlier: Earlier) -> None:
        self._folder, self._writers = path / "tensorboard", {}
        for curve in (MEAN, *(f"seed_{seed}" for seed in config.seed_ids)):
            self._writers[curve] = self._begin(self._folder / curve)
        for point in earlier():
            self._add(point)
        self._flush()

    def write(self, point: LoggingPoint) -> None:
        """Adds a logging point, on disk when this returns."""
        self._add(point)
        self._flush()

    def close(self, failed: bool) -> None:
        """Closes all files."""
        for writer in self._writers.values():
            writer.close()

    def _begin(self, folder: Path) -> Any:
        """A new event file in the place of those that are there."""
        with _no_torch():
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("events.out.tfevents.*"):
            file.unlink()
        writer = EventsWriter(str(folder / "events"))
        # Tells a TensorBoard that has read the old files to forget them.
        start = SessionLog(status=SessionLog.START)
        writer.write_event(Event(wall_time=time.time(), step=0, session_log=start))
        return writer

    def _add(self, point: LoggingPoint) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.proto.summary_pb2 import Summary

        for curve, values in scalars(point).items():
            shown = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
            step, summary = round(point.episode), Summary(value=shown)
            event = Event(wall_time=time.time(), step=step, summary=summary)
            self._writers[curve].write_event(event)

    def _flush(self) -> None:
        for writer in self._writers.values():
            writer.flush()


class WeightsAndBiases:
    """A run on W&B with the same name as the directory, whose files are in RUN/wandb.

    A resumed run goes on where it was, by the id in RUN/wandb/id, which is there once W&B has taken
    the run. The horizontal axis are episodes; W&B's own step counts logging points.
    """

    def __init__(self, config: TrainConfig, path: Path, earlier: Earlier) -> None:
        import wandb

        file = path / "wandb" / "id"
        known = file.exists()
        file.parent.mkdir(exist_ok=True)
        run_id = file.read_text() if known else uuid.uuid4().hex[:12]
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", "mamt_jax"),
            name=path.name,
            dir=path,
            id=run_id,
            resume="allow",
            reinit="create_new",  # beside those of other runs, and of the caller
            config=config.to_dict(),
            settings=wandb.Settings(console="off"),  # the progress bar is ours
        )
        self._run.define_metric("*", step_metric="episode")
        if not (known or self._run.disabled):
            write_whole(file, run_id.encode())
        for point in () if known else earlier():
            self.write(point)

    def write(self, point: LoggingPoint) -> None:
        """Adds a logging point, unless it is there."""
        if point.point < self._run.step:
            return
        values: dict[str, float] = {
            "episode": point.episode,
            "update": point.update,
            "seconds": point.seconds,
        }
        for curve, found in scalars(point).items():
            prefix = "" if curve == MEAN else f"{curve}/"
            values |= {f"{prefix}{tag}": value for tag, value in found.items()}
        self._run.log(values, step=point.point)

    def close(self, failed: bool) -> None:
        """Hands the rest over to W&B."""
        self._run.finish(exit_code=int(failed))


class _Kind(NamedTuple):
    """A dashboard that ``Execution`` may ask for."""

    name: str
    package: str
    make: Callable[[TrainConfig, Path, Earlier], Dashboard]


KINDS = {
    "tensorboard": _Kind("TensorBoard", "tensorboardX", TensorBoard),
    "wandb": _Kind("Weights & Biases", "wandb", WeightsAndBiases),
}
"""By the setting that asks for it, which is the name of the extra, too."""


def asked(config: TrainConfig) -> list[str]:
    """Which of :data:`KINDS` a run asks for."""
    return [kind for kind in KINDS if getattr(config.execution, kind)]


def check_trackers(config: TrainConfig, has_directory: bool = True) -> None:
    """Refuses a run whose dashboards cannot be; imports nothing.

    Raises:
        ConfigError: A package is not installed, or there is nowhere to write.
    """
    for kind in asked(config):
        if not has_directory:
            raise ConfigError(f"{kind} writes into the run directory; give one (out).")
        spec = find_spec(KINDS[kind].package)
        if spec is None or spec.origin is None:  # a folder "wandb" is left wherever W&B was used
            raise ConfigError(
                f"{kind} needs a package that is not installed; install it with "
                f'pip install "mamt-jax[{kind}]".'
            )


class Tracker:
    """One dashboard of one run, which never costs the run: it ends with a warning if it fails."""

    def __init__(self, kind: str, config: TrainConfig, path: Path, earlier: Earlier) -> None:
        self._name, self._path = KINDS[kind].name, path
        self._dashboard: Dashboard | None = None
        with self._forgiving():
            self._dashboard = KINDS[kind].make(config, path, earlier)

    def write(self, point: LoggingPoint) -> None:
        """Adds a logging point."""
        with self._forgiving():
            if self._dashboard is not None:
                self._dashboard.write(point)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._forgiving():
            if self._dashboard is not None:
                self._dashboard.close(failed=error is not None)

    @contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._dashboard = None
            what = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
            warnings.warn(
                f"{self._name} does not follow the run in {self._path} any more ({what}); the run "
                f"goes on.",
                stacklevel=2,
            )


@contextmanager
def _no_torch() -> Iterator[None]:
    """Keeps tensorboardX from importing PyTorch, which it can do without and takes seconds."""
    hidden = "torch" not in sys.modules
    if hidden:
        sys.modules["torch"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules["torch"]
