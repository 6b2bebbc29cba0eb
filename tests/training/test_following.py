"""Whoever follows a run while it trains: a function, TensorBoard, Weights & Biases."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import mamt_jax
from mamt_jax import InterruptedRun, LoggingPoint
from mamt_jax.config import TrainConfig
from mamt_jax.errors import ConfigError
from mamt_jax.quantities import QUANTITIES
from mamt_jax.training import trackers
from mamt_jax.training.points import scalars
from mamt_jax.training.prepare import PreparedTogether
from mamt_jax.training.run import Run, run_trainer, run_trainers
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.trackers import KINDS
from tests.training import fakes


def go(
    path: Path | None,
    callback: Any = None,
    *,
    resume: bool = False,
    trainer: Any = None,
    **options: Any,
) -> Run:
    """Starts or resumes a run of the fake trainer, of seven logging points."""
    config, directory = fakes.config(**options), None if path is None else RunDir(path)
    if directory is not None and not resume:
        directory.create(config)
    made = trainer or fakes.trainer()
    return run_trainer(made, fakes.algorithm(), config, directory, resume, callback=callback)


def same(one: Run, other: Run) -> None:
    assert set(one.metrics.variables) == set(other.metrics.variables)
    for name in one.metrics.variables:
        np.testing.assert_array_equal(one.metrics[name], other.metrics[name], str(name))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run that nobody follows."""
    return go(tmp_path_factory.mktemp("whole") / "run")


def test_a_callback_sees_what_is_recorded(whole: Run) -> None:
    """At every logging point, by name, seeds first; and what it writes there goes nowhere."""
    seen: list[LoggingPoint] = []
    copies: list[dict[str, np.ndarray]] = []

    def callback(point: LoggingPoint) -> None:
        seen.append(point)
        copies.append({name: values.copy() for name, values in point.metrics.items()})
        for values in point.metrics.values():
            values[:] = 7

    run = go(None, callback)
    same(whole, run)
    assert [(point.point, point.points) for point in seen] == [(i, 7) for i in range(1, 8)]
    assert [point.update for point in seen] == run.metrics["update"].values.tolist()
    assert [point.episode for point in seen] == run.metrics["episode"].values.tolist()
    assert all(a.seconds < b.seconds for a, b in zip(seen, seen[1:], strict=False))
    assert all((one.config, one.path, one.diverged) == (run.config, None, ()) for one in seen)
    names = {"return_mean", "critic_loss", "critic_grad_norm"}
    for index, (point, metrics) in enumerate(zip(seen, copies, strict=True)):
        evaluated = {"greedy_return"} if index in (2, 5, 6) else set()
        assert set(metrics) == names | evaluated
        for name, values in metrics.items():
            assert point.dims[name] == tuple(d for d in run.metrics[name].dims if d != "update")
            np.testing.assert_array_equal(values, run.metrics[name].isel(update=index), name)


def test_a_callback_ends_a_run_that_can_go_on(tmp_path: Path, whole: Run) -> None:
    """True does, and nothing else that a function may return; then only new points are told."""
    told: list[int] = []

    def callback(point: LoggingPoint) -> object:
        told.append(point.point)
        return np.bool_(True) if point.point == 3 else "no"

    run = go(tmp_path / "run", callback)
    assert run.metrics.sizes["update"] == 3 and told == [1, 2, 3]
    directory = RunDir(tmp_path / "run")
    assert max(directory.saved()) == 3 and directory.read_metrics().sizes["update"] == 3
    same(whole, go(tmp_path / "run", callback, resume=True))
    assert told == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("error", [KeyError("mine"), SystemExit(3), KeyboardInterrupt()])
def test_a_callback_that_raises_loses_nothing(
    tmp_path: Path, whole: Run, error: BaseException
) -> None:
    """Its own error comes out, after the run is saved, with a note on what is there."""

    def callback(point: LoggingPoint) -> None:
        if point.point == at:
            raise error

    at = 5
    with pytest.raises(type(error)) as raised:
        go(tmp_path / "run", callback)
    assert raised.value is error and raised.traceback[-1].name == "callback"
    assert error.__notes__ == [
        "The callback raised this after 5 of 7 logging points; saved. To go on: mamt train "
        f"--resume --out {tmp_path}/run"
    ]
    assert max(RunDir(tmp_path / "run").saved()) == 5
    at = 7
    with pytest.raises(type(error)):
        go(tmp_path / "run", callback, resume=True)
    assert error.__notes__[1].endswith("7 of 7 logging points; the run is finished and saved.")
    with pytest.warns(UserWarning, match="is finished; nothing to do"):
        same(whole, go(tmp_path / "run", resume=True))


def test_an_interrupt_is_still_one(tmp_path: Path) -> None:
    def callback(point: LoggingPoint) -> bool:
        os.kill(os.getpid(), signal.SIGINT)
        return True

    with pytest.raises(InterruptedRun, match="after 1 of 7 logging points; saved"):
        go(tmp_path / "run", callback)


def test_lost_seeds_are_named_and_do_not_count(tmp_path: Path) -> None:
    seen: list[LoggingPoint] = []
    with pytest.warns(UserWarning, match="1 of 3 seeds diverged"):
        go(None, seen.append, trainer=fakes.trainer(7, (0, 8)))
    assert [point.diverged for point in seen] == [(), *[(1,)] * 6]
    losses = seen[-1].metrics["critic_loss"]
    assert np.isnan(losses[1]).all() and np.isfinite(losses[[0, 2]]).all()
    shown = scalars(seen[-1])
    assert shown["seed_1"].keys() <= {"greedy_return"}
    np.testing.assert_allclose(
        shown["mean"]["critic_loss/right"], losses[[0, 2], 1].astype(np.float64).mean()
    )


def test_each_run_of_a_list_is_told(tmp_path: Path) -> None:
    """By its own config and path; whoever asks for the end ends all, which are one program."""
    seen: list[LoggingPoint] = []

    def callback(point: LoggingPoint) -> bool:
        seen.append(point)
        return len(seen) == 4

    configs = [fakes.config(learning_rate=rate) for rate in (1e-3, 1e-2)]
    places = [RunDir(tmp_path / name) for name in ("low", "high")]
    for place, config in zip(places, configs, strict=True):
        place.create(config)
    trainer = fakes.trainer()._replace(seeds=(0, 1, 2) * 2)
    together = PreparedTogether(trainer, [fakes.algorithm()] * 2, configs)  # type: ignore[arg-type]
    runs = run_trainers(together, places, callback=callback)
    assert [point.point for point in seen] == [1, 1, 2, 2]
    assert [point.path for point in seen] == [run.path for run in runs] * 2
    assert [point.config for point in seen] == [run.config for run in runs] * 2
    for run, point in zip(runs, seen[2:], strict=True):
        assert run.metrics.sizes["update"] == 2
        for name, values in point.metrics.items():
            np.testing.assert_array_equal(values, run.metrics[name][:, 1], name)


def test_the_note_of_a_callback_counts_runs_that_go_on(tmp_path: Path) -> None:
    """Not the first one, which is lost."""

    def callback(point: LoggingPoint) -> None:
        if point.point == 3:
            raise KeyError("mine")

    configs = [fakes.config(learning_rate=rate) for rate in (1e-3, 1e-2)]
    trainer = fakes.trainer(nan_at=(1, 1, 1))._replace(seeds=(0, 1, 2) * 2)
    together = PreparedTogether(trainer, [fakes.algorithm()] * 2, configs)  # type: ignore[arg-type]
    with pytest.raises(KeyError) as raised:
        run_trainers(together, [None, None], callback=callback)
    (note,) = raised.value.__notes__
    assert note.startswith("The callback raised this after 3 of 7 logging points; nothing is saved")


def test_only_a_function_can_be_told() -> None:
    with pytest.raises(ConfigError, match="callback must be a function of one point, got 3"):
        mamt_jax.train("maac", callback=3)  # type: ignore[arg-type]


def test_scalars_are_named_after_agents() -> None:
    """Also where another dimension has their number; pairs of one with itself are left out."""
    sizes = {"agent": 2, "opponent": 2, "head": 2}
    names = ("coordination_mean", "attention_entropy", "trd_loss")
    dims = {name: ("seed", *QUANTITIES[name].dims) for name in names}
    metrics = {
        name: np.arange(3 * 2 ** (len(of) - 1), dtype=np.float32).reshape(
            3, *[sizes[d] for d in of[1:]]
        )
        for name, of in dims.items()
    }
    metrics["trd_loss"][2] = np.nan
    config = fakes.config(seed=4)
    point = LoggingPoint(config, None, 1, 7, 6, 10.0, 1.0, metrics, dims, ("left", "right"), (5,))
    found = scalars(point)
    assert found["seed_4"] == {
        "coordination_mean/left/right": 1,
        "coordination_mean/right/left": 2,
        "attention_entropy/left/head_0": 0,
        "attention_entropy/left/head_1": 1,
        "attention_entropy/right/head_0": 2,
        "attention_entropy/right/head_1": 3,
        "trd_loss": 0,
    }
    assert found["mean"]["coordination_mean/left/right"] == (1 + 9) / 2  # without seed 5
    assert found["mean"]["trd_loss"] == 0 and "trd_loss" not in found["seed_6"]


def events(folder: Path) -> dict[str, dict[int, float]]:
    """Names to steps to values of a folder's event files; nothing may be there twice."""
    with trackers._no_torch():
        from tensorboardX.proto.event_pb2 import Event
    found: dict[str, dict[int, float]] = {}
    for file in folder.glob("events.out.tfevents.*"):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("Q", content[:8])
            event = Event.FromString(content[12 : 12 + length])
            content = content[16 + length :]
            for value in event.summary.value:
                curve = found.setdefault(value.tag, {})
                assert event.step not in curve
                curve[event.step] = value.simple_value
    return found


def killed(path: Path, after: int, **options: Any) -> None:
    """A run that ends without being saved, after so many logging points."""

    def kill(point: LoggingPoint) -> None:
        if point.point == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        go(path, kill, **options)


def test_tensorboard_has_what_is_recorded(tmp_path: Path) -> None:
    """Of every seed, and the mean; the same after a run was killed and resumed."""
    run = go(tmp_path / "one", tensorboard=True)
    killed(tmp_path / "two", 5, tensorboard=True)
    (tmp_path / "two/tensorboard/mean/notes").touch()
    assert max(events(tmp_path / "two/tensorboard/mean")["return_mean"]) == 75  # and saved: 60
    go(tmp_path / "two", resume=True, tensorboard=True)
    episodes = run.metrics["episode"].values
    for index, curve in enumerate(("seed_0", "seed_1", "seed_2", "mean")):
        one = events(tmp_path / "one/tensorboard" / curve)
        assert one == events(tmp_path / "two/tensorboard" / curve)
        assert set(one) == {
            "return_mean",
            "greedy_return",
            "critic_grad_norm",
            "critic_loss/left",
            "critic_loss/right",
        }
        rows = run.metrics if curve == "mean" else run.metrics.isel(seed=[index])
        mean = rows.astype(np.float64).mean("seed")
        steps, values = zip(*one["return_mean"].items(), strict=True)
        assert list(steps) == episodes.tolist()
        np.testing.assert_allclose(values, mean.return_mean, rtol=1e-6)
        assert list(one["greedy_return"]) == episodes[[2, 5, 6]].tolist()
        values = list(one["critic_loss/right"].values())
        np.testing.assert_allclose(values, mean.critic_loss[:, 1], rtol=1e-6)
    assert (tmp_path / "two/tensorboard/mean/notes").exists()


def test_tensorboard_begun_later_has_all(tmp_path: Path) -> None:
    go(tmp_path / "run", lambda point: point.point == 4)
    run = go(tmp_path / "run", resume=True, tensorboard=True)
    found = events(tmp_path / "run/tensorboard/seed_1")["return_mean"]
    assert list(found) == run.metrics["episode"].values.tolist()


def test_torch_is_not_loaded_for_tensorboard() -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom mamt_jax.training.trackers import _no_torch\n"
        "with _no_torch():\n    import tensorboardX\nprint('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


class Recorded:
    """Stands in for a dashboard: what it was given, by run."""

    opened: dict[str, Recorded] = {}

    def __init__(self, config: TrainConfig, path: Path, earlier: Any) -> None:
        self.points = [point.point for point in earlier()]
        self.failed: bool | None = None
        self.opened[path.name] = self

    def write(self, point: LoggingPoint) -> None:
        self.points.append(point.point)

    def close(self, failed: bool) -> None:
        self.failed = failed


def putting(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "wandb", KINDS["wandb"]._replace(make=make))


def test_a_dashboard_knows_how_a_run_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    putting(Recorded, monkeypatch)
    go(tmp_path / "whole", wandb=True)
    killed(tmp_path / "killed", 3, wandb=True)
    go(tmp_path / "enough", lambda point: True, wandb=True)
    ends = {name: (each.points, each.failed) for name, each in Recorded.opened.items()}
    assert ends == {
        "whole": (list(range(1, 8)), False),
        "killed": ([1, 2, 3], True),
        "enough": ([1], False),
    }


@pytest.mark.parametrize("where", ["open", "write", "close"])
def test_a_dashboard_that_fails_costs_one_warning(
    where: str, tmp_path: Path, whole: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Recorded):
        def __init__(self, *given: Any) -> None:
            super().__init__(*given)
            if where == "open":
                raise ImportError("no such\nlibrary.")

        def write(self, point: LoggingPoint) -> None:
            if where == "write":
                raise ImportError("no such\nlibrary.")

        def close(self, failed: bool) -> None:
            if where == "close":
                raise ImportError("no such\nlibrary.")

    putting(Failing, monkeypatch)
    with pytest.warns(UserWarning) as said:
        run = go(tmp_path / "run", wandb=True)
    assert [str(each.message) for each in said] == [
        f"Weights & Biases does not follow the run in {tmp_path}/run any more (ImportError: no "
        "such library); the run goes on."
    ]
    same(whole, run)


def test_a_warning_made_an_error_comes_after_saving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing(Recorded):
        def write(self, point: LoggingPoint) -> None:
            raise OSError("gone")

    putting(Failing, monkeypatch)
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="gone"):
        warnings.simplefilter("error")
        go(tmp_path / "run", wandb=True)
    assert list(RunDir(tmp_path / "run").saved()) == [1]


def history(path: Path) -> list[dict[str, Any]]:
    """What the files of W&B's offline runs hold, in the order of their beginnings.

    They are LevelDB's logs after seven bytes: blocks of 32 KiB with pieces of records, the last
    piece of a kind 1 or 4.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for file in sorted(path.glob("wandb/offline-run-*/*.wandb")):
        content, at, whole = file.read_bytes(), 7, b""
        while at + 7 <= len(content):
            if (left := 32768 - at % 32768) < 7:
                at += left
                continue
            _, length, kind = struct.unpack("<IHB", content[at : at + 7])
            whole += content[at + 7 : at + 7 + length]
            at += 7 + length
            if kind in (1, 4):
                items = Record.FromString(whole).history.item
                whole = b""
                values = {each.key or "/".join(each.nested_key): each.value_json for each in items}
                found += [{name: float(value) for name, value in values.items()}] * bool(values)
    return found


def test_wandb_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files below the run directory, of the new points alone after a resume; no network."""
    for name, value in (
        ("MODE", "offline"),
        ("SILENT", "true"),
        ("BASE_URL", "http://127.0.0.1:9"),
    ):
        monkeypatch.setenv(f"WANDB_{name}", value)
    monkeypatch.chdir(tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        go(tmp_path / "run", lambda point: point.point == 2, wandb=True)
        run = go(tmp_path / "run", resume=True, wandb=True)
    deadline = time.monotonic() + 20.0  # W&B's own process may still be writing
    while len(written := history(tmp_path / "run")) < 7 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [row["_step"] for row in written] == [1, 2, 3, 4, 5, 6, 7]
    assert [row["episode"] for row in written] == run.metrics["episode"].values.tolist()
    assert [row["update"] for row in written] == run.metrics["update"].values.tolist()
    for name, values in (
        ("seed_1/critic_loss/left", run.metrics.critic_loss[1, :, 0]),
        ("return_mean", run.metrics.return_mean.astype(np.float64).mean("seed")),
    ):
        np.testing.assert_allclose([row[name] for row in written], values, rtol=1e-6)
    ids = {file.name.rpartition("-")[2] for file in (tmp_path / "run/wandb").glob("offline-run-*")}
    assert ids == {(tmp_path / "run/wandb/id").read_text()}
    assert [file.name for file in tmp_path.iterdir()] == ["run"]


def test_wandb_begun_later_has_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it did not take the run at first, or was told to keep out."""
    pytest.importorskip("wandb")
    logged: list[int] = []
    fake = SimpleNamespace(
        step=0,
        disabled=True,
        define_metric=lambda *_, **__: None,
        log=lambda _, step: logged.append(step),
        finish=lambda **_: None,
    )
    ids: list[str] = []

    def init(**given: Any) -> Any:
        ids.append(given["id"])
        if len(ids) == 1:
            raise OSError("no key")
        return fake

    monkeypatch.setattr("wandb.init", init)
    with pytest.warns(UserWarning, match="no key"):
        go(tmp_path / "run", lambda point: point.point == 2, wandb=True)
    go(tmp_path / "run", lambda point: point.point == 3, resume=True, wandb=True)
    assert logged == [1, 2, 3]
    fake.disabled = False
    go(tmp_path / "run", lambda point: point.point == 4, resume=True, wandb=True)
    assert logged[3:] == [1, 2, 3, 4]
    go(tmp_path / "run", resume=True, wandb=True)
    assert logged[7:] == [5, 6, 7] and ids[2] == ids[3]


@pytest.mark.parametrize("kind", ["tensorboard", "wandb"])
def test_what_is_missing_is_said_before_anything_begins(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where a folder ``wandb`` in the working directory could be taken for the package."""
    tiny: dict[str, Any] = {"env": "toy_matching", "seeds": 1, kind: True}
    with pytest.raises(ConfigError, match=rf"{kind} writes into the run directory; give one"):
        mamt_jax.train("maac", **tiny)
    package = KINDS[kind].package
    (tmp_path / "elsewhere" / package).mkdir(parents=True)
    path = [str(tmp_path / "elsewhere")]
    hidden = [name for name in sys.modules if name.partition(".")[0] == package]
    for name in hidden:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", path)
    with pytest.raises(ConfigError) as refused:
        mamt_jax.train("maac", **tiny, out=tmp_path / "run")
    assert str(refused.value) == (
        f"{kind} needs a package that is not installed; install it with "
        f'pip install "mamt-jax[{kind}]".'
    )
    assert not (tmp_path / "run").exists()
