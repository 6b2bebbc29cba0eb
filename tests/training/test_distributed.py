"""Several processes train one run: what they make is what one makes, and they end together."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mamt_jax
from mamt_jax.cli import main as cli
from mamt_jax.errors import ConfigError, MamtError, RunError
from mamt_jax.training import distributed, link, merging
from mamt_jax.training.distributed import position, train_distributed
from mamt_jax.training.link import Link, Position
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.shards import Recorded, leaves
from tests.training.test_together import TINY, same

NAME = "tests.training.test_together:CLIMBING"
OPTIONS = TINY | {"algorithm": NAME, "env": "toy_matching", "seeds": 5}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def together(
    out: Path, count: int, resume: bool = False, where: Any = (), **options: Any
) -> list[Any]:
    """What as many threads come to as there were processes: a run, None, or an error."""
    config, port = mamt_jax.make_config(**OPTIONS | options), free_port()

    def one(index: int) -> Any:
        try:
            here = Position("127.0.0.1", port, index, count)
            return train_distributed(config, out, here, resume)
        except MamtError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, where or range(count)))


def test_the_run_of_several_is_that_of_one_also_gone_on_with_by_others(tmp_path: Path) -> None:
    """Two, then three, then one process without ``distributed``; seeds do not divide evenly."""
    whole, place = mamt_jax.train(**OPTIONS), tmp_path / "run"
    run, nothing = together(place, 2, episodes=20)
    assert nothing is None and [leaf.path.name for leaf in leaves(RunDir(place))] == ["0-2", "3-4"]
    assert run.metrics.sizes["update"] == 2 and len(run.evaluate(2)) == 5
    run, *others = together(place, 3, resume=True, episodes=30)
    assert others == [None, None] and len(leaves(RunDir(place))) == 3
    assert run.metrics.sizes["update"] == 3 and run.config.episodes == 30
    same(whole, mamt_jax.train(**OPTIONS, out=place, resume=True))
    same(whole, mamt_jax.load(place))
    assert not Recorded(place).is_written()


def test_what_cannot_be_is_one_sentence_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = together(tmp_path / "run", 2, seeds=1)
    assert all("There are 2 processes and 1 seeds" in str(error) for error in found)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    found = together(tmp_path / "taken", 2)
    assert all("is not an empty directory; choose another" in str(error) for error in found)
    monkeypatch.setattr(link, "PATIENCE", 2.0)
    found = together(tmp_path / "run", 3, where=(0, 1, 1))
    assert "Not all came within 2 s: no 2/3" in str(found[0])
    assert sorted(str(error)[:15] for error in found[1:]) == ["Process 0 has e", "There is a proc"]
    assert not (tmp_path / "run").exists()
    with pytest.raises(RunError, match=r"No coordinator answers at 127.0.0.1:\d+ within 2 s"):
        train_distributed(
            mamt_jax.make_config(**OPTIONS), tmp_path, Position("127.0.0.1", free_port(), 1, 2)
        )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("host:1", "3/2"), "--process must be I/K with I from 0 to K - 1, got '3/2'"),
        (("host:1", "2/2"), "--process must be I/K"),
        (("host:1", "one"), "--process must be I/K"),
        (("host", "0/2"), "must be HOST:PORT, got 'host'"),
        (("host:99999", "0/2"), "must be HOST:PORT"),
        (("host:1", ""), "go together"),
        (("", "0/2"), "go together"),
        (("", ""), "found no Slurm, Open MPI or Kubernetes"),
    ],
)
def test_a_position_is_read_or_refused(given: tuple[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        position(*given)
    assert message in str(error.value)


def test_slurm_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"JOB_ID": "1234567", "STEP_NODELIST": "node[01-02]", "NTASKS": "4", "PROCID": "3"}
    for name, value in (told | {"LOCALID": "1", "JOB_NUM_NODES": "2"}).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    visible: dict[str, str] = {}
    monkeypatch.setattr(distributed.jax.config, "update", visible.__setitem__)
    found = position()
    assert (found.host, found.index, found.count) == ("node01", 3, 4)
    assert visible["jax_cuda_visible_devices"] == "1"
    assert position("[::1]:80", "1/2") == Position("::1", 80, 1, 2)


def test_one_that_says_nothing_any_more_has_ended(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A machine that is gone closes no connection: its silence counts."""
    monkeypatch.setattr(link, "SILENCE", 0.3)
    monkeypatch.setattr(link, "BEAT", 60.0)
    monkeypatch.setattr(link, "GRACE", 0.1)
    ended: list[int] = []
    monkeypatch.setattr(link.os, "_exit", ended.append)
    port = free_port()
    ends = [Link(Position("127.0.0.1", port, i, 2), "run", lambda *_: None) for i in range(2)]
    threads = [threading.Thread(target=end.open) for end in ends]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ends[0].watch()
    end = time.monotonic() + 10
    while not ended and time.monotonic() < end:
        time.sleep(0.02)
    assert ended == [1]  # whoever is in a computation that takes long is not waited for
    assert "mamt: Process 1/2 has ended: nothing was heard of it" in capsys.readouterr().err
    assert ends[0].lost == "Process 1/2 has ended: nothing was heard of it for 0 s"
    with pytest.raises(RunError, match="Process 1/2 has ended"):
        ends[1].receive()
    for each in ends:
        each.close()


def test_flags_go_together(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["train", "--process", "0/2", "--algorithm", "maac"]) == 1
    assert capsys.readouterr().err == "mamt: --coordinator and --process go with --distributed.\n"


def test_where_one_is_killed_the_other_ends_and_all_is_kept(tmp_path: Path) -> None:
    """Two real processes on loopback."""
    place, port = tmp_path / "run", free_port()
    long = OPTIONS | {"episodes": 200_000, "evaluation_interval": 0, "seeds": 3}
    long |= {"buffer_size": 100, "log_interval": 100}  # small checkpoints, as many as asked for
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in long.items()]
    command = [sys.executable, "-m", "mamt_jax", "train", "--distributed", *flags]
    command += [f"--out={place}", f"--coordinator=127.0.0.1:{port}"]
    started = [
        subprocess.Popen([*command, f"--process={index}/2"], stderr=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    try:
        end = time.monotonic() + 120
        while time.monotonic() < end and not all(
            len(RunDir(place / "shards" / name).saved()) > 1 for name in ("0-1", "2-2")
        ):
            assert all(each.poll() is None for each in started), started[0].communicate()
            time.sleep(0.1)
        os.kill(started[1].pid, signal.SIGKILL)
        said = started[0].communicate(timeout=60)[1].splitlines()[-1]
    finally:
        for each in started:
            each.kill()
            each.wait()
    assert started[0].returncode == 1
    assert said.startswith("mamt: Process 1/2 has ended; all processes stopped, what they have")
    assert said.endswith(f"To go on: mamt train --distributed --resume --out {place}")
    kept = mamt_jax.load(place).metrics
    points = kept.sizes["update"]
    assert points >= 2
    whole = mamt_jax.train(**long, callback=lambda point: point.point == points).metrics
    assert whole.sizes["update"] == points
    kept = merging.first(kept, points, whole)
    for name in whole.variables:
        np.testing.assert_array_equal(whole[name], kept[name], str(name))
