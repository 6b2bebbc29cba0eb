"""Worker processes and what environments leave behind: every ending, signals, deadlines, output."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mamt_jax import envs
from mamt_jax.envs.workers import HostVectorEnv, WorkerError
from tests.processes import end_all, living, mark, nothing_lives, some_live

__all__ = ["mark"]  # a fixture

GAMES = "tests.envs.parallel_games"
ACTIONS = np.zeros((2, 2), int)


def simulated(**options: Any) -> Any:
    return envs.make("pettingzoo", module=GAMES, game="simulated", **options)


def test_the_copy_opened_for_its_spec_is_closed(mark: str) -> None:
    simulated()
    assert not living(mark)


@pytest.mark.parametrize("ending", ["close", "gone", "raise", "exit", "hang", "stubborn"])
def test_nothing_is_left_after_any_ending(ending: str, mark: str) -> None:
    step = ending if ending in ("raise", "exit", "hang") else ""
    env = simulated(step=step, stubborn=ending == "stubborn")
    end_all(mark)  # what a copy that does not close was opened for: its spec
    vector = HostVectorEnv(env, 3, 2)
    vector.reset([(row,) for row in range(3)])
    assert some_live(5, mark)  # two workers, three simulators
    if step:
        vector.timeout = 0.5 if ending == "hang" else 60.0
        with pytest.raises(WorkerError) as failure:
            vector.step(np.zeros((3, 2), int))
        said = {"raise": "ConnectionResetError: the simulator is gone", "exit": "exit status 3"}
        failure.match(said.get(ending, "It hangs here"))
    elif ending == "close":
        vector.close()
    else:
        del vector
    assert nothing_lives(mark, 4.0)


@pytest.mark.parametrize("step", ["", "exit", "hang"])
def test_what_has_a_session_of_its_own_is_ended_too(step: str, mark: str) -> None:
    """As simulators are started often; no signal to a group reaches them."""
    env = simulated()
    env.options.update(session=True, stubborn=True, step=step)  # in copies from here on
    vector = HostVectorEnv(env, 2, 1)
    vector.reset([(0,), (1,)])
    assert some_live(3, mark)  # a worker, two shells, and soon what they run
    if step:
        vector.timeout = 0.5 if step == "hang" else 60.0
        with pytest.raises(WorkerError):
            vector.step(ACTIONS)
    vector.close()
    assert nothing_lives(mark, 4.0)


def test_what_is_left_by_copies_in_this_process_ends_with_it(mark: str) -> None:
    """Those opened for their spec, or to be drawn; and nothing that the user has started."""
    script = (
        "import os, subprocess\nfrom mamt_jax import envs\n"
        "subprocess.Popen(['sleep', '600'], stdout=subprocess.DEVNULL)\n"
        f"options = dict(module={GAMES!r}, game='simulated', stubborn=True, session=True)\n"
        "envs.make('pettingzoo', **options)\n"
        "if os.fork() == 0: raise SystemExit  # what is forked ends nothing\n"
        "os.wait()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
    assert [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in living(mark)] == [
        b"sleep\x00600\x00"
    ]


@pytest.mark.parametrize("step", ["", "hang"])
def test_nothing_is_left_after_the_parent_was_killed(step: str, mark: str) -> None:
    """Whatever it was doing, and though nobody told the workers."""
    script = (
        "import numpy as np, sys; from mamt_jax import envs\n"
        "from mamt_jax.envs.workers import HostVectorEnv\n"
        f"env = envs.make('pettingzoo', module={GAMES!r}, game='simulated', step={step!r}, "
        "session=True, stubborn=True)\n"
        "vector = HostVectorEnv(env, 2, 1); vector.reset([(0,), (1,)])\n"
        "print('ready', flush=True)\n"
        "while True: vector.step(np.zeros((2, 2), int))"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path.cwd()), *sys.path])}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment
    )
    assert parent.stdout is not None and parent.stdout.readline() == b"ready\n"
    time.sleep(0.2)
    parent.kill()
    parent.wait(10)
    assert nothing_lives(mark)


def test_children_of_environments_hear_signals() -> None:
    vector = HostVectorEnv(simulated(restart=True), 1, 1, timeout=5.0)
    for _ in range(2):
        vector.reset([(0,)])
    vector.close()


def test_what_environments_fork_hears_signals(mark: str) -> None:
    """Python's own processes inherit handlers, which exec would reset."""
    env = simulated()
    env.options["fork"] = True  # in copies from here on
    vector = HostVectorEnv(env, 2, 1, timeout=5.0)
    for _ in range(2):
        vector.reset([(0,), (1,)])
    begin = time.monotonic()
    vector.close()
    assert time.monotonic() - begin < 5 and not living(mark)


def test_every_copy_has_a_deadline_of_its_own() -> None:
    """Opening takes twice as long as one of them may, in all."""
    env = simulated()
    env.options["opening"] = 0.4  # in copies from here on
    vector = HostVectorEnv(env, 5, 1, timeout=1.0)
    vector.reset([(row,) for row in range(5)])
    vector.close()
    env.options["opening"] = 2.5
    slow = HostVectorEnv(env, 2, 1, timeout=1.0)
    with pytest.raises(WorkerError, match=r"has not answered for 1 seconds(.|\n)*in __init__"):
        slow.reset([(0,), (1,)])


def test_closing_takes_the_time_that_it_takes(mark: str) -> None:
    vector = HostVectorEnv(simulated(closing=0.6), 5, 1)
    vector.reset([(row,) for row in range(5)])
    begin = time.monotonic()
    vector.close()
    assert time.monotonic() - begin > 3 and not living(mark)


def test_a_thread_that_does_not_end_is_not_waited_for(mark: str) -> None:
    env = simulated()
    env.options["thread"] = True  # in copies from here on
    vector = HostVectorEnv(env, 2, 1)
    vector.reset([(0,), (1,)])
    begin = time.monotonic()
    vector.close()
    assert time.monotonic() - begin < 5 and not living(mark)


def test_only_the_end_of_what_is_printed_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty megabytes: nothing of it comes to lie in the temporary folder, or stays in memory."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    vector = HostVectorEnv(simulated(lines=1000), 2, 1)
    vector.reset([(0,), (1,)])
    for _ in range(10):
        vector.step(ACTIONS)
    output = vector._workers[0]._output
    assert output.count > 10e6 and len(output._last) <= 8192
    assert not list(tmp_path.iterdir())
    vector.close()
    assert output.text().splitlines()[-1].startswith("step 4, line 999: xxx")


def test_an_environment_that_forks_does_not_hide_the_death_of_its_worker(mark: str) -> None:
    """A forked child holds the worker's end of the pipe open."""
    script = (
        "import os, time\n"
        f"from {GAMES} import Matching\n"
        "class Forking(Matching):\n"
        "    def step(self, actions):\n"
        "        if os.fork() == 0: time.sleep(600)\n"
        "        os._exit(5)\n"
        "parallel_env = Forking\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        import tempfile

        folder = tempfile.mkdtemp()
        (Path(folder) / "forking_game.py").write_text(script)
        patch.chdir(folder)
        vector = HostVectorEnv(envs.make("pettingzoo", module="forking_game"), 1, 1)
    vector.reset([(0,)])
    with pytest.raises(WorkerError, match="exit status 5"):
        vector.step(np.zeros((1, 2), int))
    assert nothing_lives(mark, 4.0)


@pytest.mark.parametrize("folder", ["a:b", "[v2]", "sp ace", "caf\udce9", "ne\nw", "q'u\"o"])
def test_modules_are_found_in_folders_of_any_name(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the neighbours that they import in reset, and files that they open by name."""
    here = tmp_path / folder
    here.mkdir()
    (here / "game_of_theirs.py").write_text(
        f"from {GAMES} import Matching\n"
        "class parallel_env(Matching):\n"
        "    def reset(self, seed=None, options=None):\n"
        "        import neighbour_of_theirs\n"
        "        open('level.txt').close()\n"
        "        return super().reset(seed, options)\n"
    )
    (here / "neighbour_of_theirs.py").write_text("")
    (here / "level.txt").write_text("")
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [*sys.path, tmp_path, None])  # which Python passes over
    before, variables = list(sys.path), dict(os.environ)
    vector = HostVectorEnv(envs.make("pettingzoo", module="game_of_theirs"), 1, 1)
    vector.reset([(0,)])
    vector.close()
    assert sys.path == before and dict(os.environ) == variables
    for name in ("game_of_theirs", "neighbour_of_theirs"):
        sys.modules.pop(name, None)
