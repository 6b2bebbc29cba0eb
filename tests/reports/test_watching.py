"""Figures of runs that go on."""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from pathlib import Path

import matplotlib.image
import pytest
import xarray as xr

from mamt_jax.cli.main import main
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.reports import watching
from mamt_jax.reports.watching import plot, watch
from mamt_jax.training.run_dir import RunDir
from tests.reports.records import made_up, write_run


@pytest.fixture(scope="module")
def metrics() -> xr.Dataset:
    return made_up({"entropy"}, seeds=2, points=12)


def upto(metrics: xr.Dataset, points: int) -> xr.Dataset:
    return metrics.isel(update=slice(points), event=slice(2 * points))


def test_plot_draws_what_is_asked_for(
    tmp_path: Path,
    metrics: xr.Dataset,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = write_run(tmp_path / "runs/x", metrics)
    monkeypatch.chdir(tmp_path)
    assert main(["plot", "runs/x", "--quantity", "entropy", "--format", "svg"]) == 0
    assert capsys.readouterr().out == f"{tmp_path}/figures/entropy.svg\n"
    assert [file.name for file in Path("figures").iterdir()] == ["entropy.svg"]
    assert main(["plot", "runs", "--out", "here", "--per-seed"]) == 0
    names = ["learning_curve.png", "entropy.png"]
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path}/here/{name}" for name in names]
    assert matplotlib.image.imread("here/entropy.png").shape[2] == 4
    assert {file.name for file in run.iterdir()} >= {"config.json", "metrics.zarr"}
    for line, says in (
        (["runs/x", "--quantity", "entrop"], "'entrop' (did you mean 'entropy'?); recorded are"),
        (["runs/y"], "y does not exist."),
        (["figures"], "holds no run and no record of one."),
        (["runs/y", "--live"], "y does not exist."),
    ):
        assert main(["plot", *line]) == 1
        err = capsys.readouterr().err
        assert says in err and err.startswith("mamt: ") and len(err.splitlines()) == 1


def test_a_run_that_is_over_is_drawn_once(
    tmp_path: Path, metrics: xr.Dataset, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path / "x", metrics)
    line = ["plot", str(tmp_path), "--quantity", "entropy", "--out", str(tmp_path / "f"), "--live"]
    begun = time.monotonic()
    assert main(line) == 0
    assert time.monotonic() - begun < 5
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path}/f/entropy.png",
        "No run goes on any more; the figures are the last.",
    ]


def test_a_run_is_followed_to_its_end(tmp_path: Path, metrics: xr.Dataset) -> None:
    """From before it has anything, drawing where there is more, and once more when it is over."""
    directory, seen, drawn = RunDir(tmp_path / "x"), [], []
    directory.create(make_config(seeds=2))
    saved, looked = [0, 4, 4, 4, 8, 12], threading.Semaphore(0)

    def redraw() -> None:
        seen.append(None)
        points = directory.read_metrics().sizes["update"]  # a RunError while there are none
        drawn.append(points)

    with directory.lock():
        assert directory.is_written()
        watcher = threading.Thread(target=watch, args=([tmp_path], redraw, 0.01))
        original = watching._written_at

        def counted(run: Path) -> int | None:
            looked.release()
            return original(run)

        watching._written_at = counted
        try:
            watcher.start()
            for points in saved:
                if points:
                    directory.write_metrics(upto(metrics, points))
                for _ in range(3):
                    assert looked.acquire(timeout=10)
        finally:
            watching._written_at = original
    watcher.join(timeout=10)
    assert not watcher.is_alive() and not directory.is_written()
    assert sorted(set(drawn)) == [4, 8, 12] and drawn == sorted(drawn)
    assert len(drawn) <= 5  # once for each time that there is more, and at the end


def test_what_is_left_out_is_said_once(
    tmp_path: Path, metrics: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(write_run(tmp_path / "x", upto(metrics, 4)))
    (tmp_path / "y.json").write_text("{}")
    saved, training = iter((8, 12)), ExitStack()

    def sleep(seconds: float) -> None:
        points = next(saved, None)
        run.write_metrics(upto(metrics, points)) if points else training.close()

    monkeypatch.setattr(watching.time, "sleep", sleep)
    line = ["plot", str(tmp_path), "--quantity", "entropy", "--out", str(tmp_path / "f"), "--live"]
    with training, pytest.warns(UserWarning) as said:
        training.enter_context(run.lock())
        assert main(line) == 0
    assert [str(each.message).partition(":")[0] for each in said] == ["Left out"]


def test_what_is_wrong_is_said_at_once_or_waited_for(
    tmp_path: Path, metrics: xr.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is none cannot come; a quantity that is not there yet may."""
    run, asleep = write_run(tmp_path / "x", metrics), []
    drawn = lambda name: lambda: plot([run], tmp_path / "f", [name]) and None  # noqa: E731

    class Enough(Exception):
        pass

    def sleep(seconds: float) -> None:
        asleep.append(seconds)
        raise Enough

    monkeypatch.setattr(watching.time, "sleep", sleep)
    with RunDir(run).lock():
        with pytest.raises(ConfigError, match="did you mean"):
            watch([run], drawn("entrop"))
        assert not asleep
        with pytest.raises(Enough):
            watch([run], drawn("greedy_return"))
    with pytest.raises(RunError, match="No run has recorded 'greedy_return'"):
        watch([run], drawn("greedy_return"))


def test_looking_at_a_run_does_not_keep_it_from_beginning(tmp_path: Path) -> None:
    directory = RunDir(tmp_path / "x")
    directory.create(make_config())
    assert not directory.is_written()
    import fcntl

    with directory.lock():
        pass
    with (directory.path / "lock").open() as file:  # as a look holds it, for a little longer
        fcntl.flock(file, fcntl.LOCK_SH)
        threading.Timer(0.03, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with directory.lock():
            assert directory.is_written()
        time.sleep(0.1)
