"""Recordings: what a trajectory has, in files that plain xarray opens and nobody has to trust."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from mamt_jax import envs
from mamt_jax.envs.base import EnvSpec, Field
from mamt_jax.errors import ConfigError, OutputError, RunError
from mamt_jax.training.result import Run
from mamt_jax.training.run import load, run_trainer
from mamt_jax.training.run_dir import RunDir
from mamt_jax.training.trainer import make_stage
from mamt_jax.trajectories.recording import (
    Recording,
    as_recording,
    read_recording,
    write_recording,
)
from mamt_jax.trajectories.trajectory import Trajectory
from mamt_jax.types import Algorithm
from tests.training import fakes

ABOUT = {
    "algorithm": "fake",
    "env": "toy_elimination",
    "env_options": {"episode_length": 4},
    "seed": 3,
    "checkpoint": 12,
    "update": 340,
    "greedy": True,
    "key": 5,
    "scene": "",
}


def talking() -> Algorithm:
    """Agents miss now and then; what is said tells step, agent, opponent, and head apart."""

    def greedy(state: Any, obs: jax.Array) -> jax.Array:
        context = jnp.argmax(obs, axis=-1)
        miss = context == jnp.arange(2)
        return ((context + jnp.arange(2) + miss) % 3).astype(jnp.int32)

    def inspect(state: Any, obs: Any, action: Any, alive: Any) -> dict[str, jax.Array]:
        pair = obs[..., :2] + jnp.array([[0.25, 0.5], [0.75, 1.0]])
        return {
            "probability": jax.nn.softmax(obs),
            "attention": pair[..., None] + jnp.array([10.0, 20.0, 30.0, 40.0]),
            "coordination": pair,
            "seen": obs.astype(jnp.float16),
        }

    return fakes.algorithm()._replace(greedy=greedy, inspect=inspect)


@pytest.fixture(scope="module")
def trajectory() -> Trajectory:
    """Five episodes of many lengths."""
    stage = make_stage(envs.make("toy_elimination", episode_length=4), fakes.config())
    return stage.player(talking(), 5)({"w": jnp.zeros(4)}, jax.random.key(2))


@pytest.fixture(scope="module")
def recording(trajectory: Trajectory) -> Recording:
    return as_recording(trajectory, ABOUT)


def test_a_recording_has_all_that_its_trajectory_has(
    trajectory: Trajectory, recording: Recording
) -> None:
    assert len(np.unique(trajectory.length)) > 1
    arrays = trajectory.view | trajectory.inspected
    for name, field in trajectory.fields.items():
        kept = recording["action_taken" if name == "action" else name]
        array = arrays[name] if name in arrays else getattr(trajectory, name)
        turned = array.swapaxes(0, 1) if array.ndim > 1 else array
        np.testing.assert_array_equal(kept.values, turned.astype(kept.dtype), name)
        assert kept.attrs == {"units": field.unit or "1", "long_name": field.description}
    assert recording.obs.dims == ("episode", "moment", "agent", "obs")
    assert recording.attention.dims == ("episode", "step", "agent", "opponent", "head")
    assert recording.context.dims == ("episode", "moment")
    assert recording.agent.values.tolist() == recording.opponent.values.tolist()
    steps = recording.sizes["step"]
    assert recording.step.values.tolist() == list(range(1, steps + 1))
    assert recording.moment.values.tolist() == list(range(steps + 1))
    np.testing.assert_array_equal(recording.returns, trajectory.returns)
    expected = ABOUT | {"env_options": '{"episode_length": 4}', "greedy": 1}
    assert {name: recording.attrs[name] for name in ABOUT} == expected


@pytest.mark.parametrize(
    "part",
    [
        lambda whole: whole.sel(agent="agent_1", episode=2),
        lambda whole: whole.rename(agent="player"),
        lambda whole: whole.assign_attrs(seed="first"),
        lambda whole: whole.assign_attrs(scene="7"),
        lambda whole: whole.isel(episode=[]),
    ],
)
def test_less_than_whole_episodes_are_shown_by_xarray(recording: Recording, part: Any) -> None:
    found = part(recording)
    assert isinstance(found, Recording) and "xarray" in found._repr_html_()


@pytest.mark.parametrize(
    "part",
    [
        lambda whole: whole.isel(episode=2),
        lambda whole: whole.sel(episode=[1, 2]),
        lambda whole: whole.astype(np.float64),
        lambda whole: whole.where(whole.episode > 1, drop=True),
    ],
)
def test_whole_episodes_play(recording: Recording, part: Any) -> None:
    edited = part(recording)
    found = Recording(edited.data_vars, edited.coords, edited.attrs)
    assert found._repr_html_().startswith("<iframe")
    if "episode" in found.dims:
        chosen = found.episode.values.astype(int)
        np.testing.assert_array_equal(found.returns, recording.returns[chosen])


@pytest.mark.parametrize("name", ["kept.nc", "kept.zarr"])
def test_what_a_format_does_not_hold_is_one_sentence(
    tmp_path: Path, recording: Recording, name: str
) -> None:
    stacked = recording.stack(pair=("episode", "agent"))
    with pytest.raises(OutputError, match=f"{name}, whose format does not hold this"):
        write_recording(stacked, tmp_path / name)
    assert not list(tmp_path.iterdir())


def named(counts: tuple[int, ...], names: Any, **fields: Field) -> Trajectory:
    """One episode of one step, of agents with these actions."""
    n = len(counts)
    spec = EnvSpec("named", n, (1,) * n, counts, 5, action_names=names)
    flags, numbers = np.ones((1, 1, n), bool), np.zeros((1, 1, n), np.float32)
    return Trajectory(
        obs=np.zeros((2, 1, n, 1), np.float32),
        action=np.zeros((1, 1, n), np.int32),
        reward=numbers,
        alive=flags,
        terminated=flags,
        truncated=np.zeros((1, 1), bool),
        return_so_far=numbers[..., 0],
        length=np.ones(1, np.int32),
        view={name: np.zeros((2, 1), np.float32) for name in fields},
        inspected={},
        spec=spec,
        view_fields=fields,
    )


def test_actions_are_named_where_they_have_names() -> None:
    same = as_recording(named((2, 2), (("wait", "go"),) * 2), ABOUT)
    assert same.action.values.tolist() == ["wait", "go"] and "action_name" not in same
    other = as_recording(named((2, 1), (("wait", "go"), ("say",))), ABOUT)
    assert other.action.values.tolist() == [0, 1]
    assert other.action_name.values.tolist() == [["wait", "go"], ["say", ""]]
    assert as_recording(named((2, 1), None), ABOUT).action.values.tolist() == [0, 1]


def test_names_that_are_taken_are_refused() -> None:
    for name in ("step", "reward", "agent", "action_taken"):
        with pytest.raises(ConfigError, match=f"is called {name}, as another array"):
            as_recording(named((2, 2), None, **{name: Field((), "1", "")}), ABOUT)


@pytest.mark.parametrize("name", ["x.nc", "x.zarr"])
def test_what_is_written_is_read(tmp_path: Path, recording: Recording, name: str) -> None:
    path = write_recording(recording, tmp_path / name)
    back = read_recording(path)
    assert isinstance(back, Recording) and back.identical(recording)
    assert back.attrs == recording.attrs
    for each, variable in recording.variables.items():
        assert back[each].dtype == variable.dtype, each
    opened = xr.open_dataset(path)  # as somebody does who has xarray alone
    assert opened.alive.dtype == bool and opened.attrs["seed"] == 3
    assert opened.sel(agent="agent_1").reward.shape == (5, recording.sizes["step"])
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_xarrays_own_writers_do(tmp_path: Path, recording: Recording) -> None:
    recording.to_netcdf(tmp_path / "own.nc")
    assert read_recording(tmp_path / "own.nc").identical(recording)


@pytest.mark.parametrize("name", ["x.nc", "x.zarr"])
def test_what_is_there_stays(
    tmp_path: Path, recording: Recording, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / name, recording.isel(episode=slice(2))
    write_recording(recording, path)
    with pytest.raises(OutputError, match="exists; choose another name"):
        write_recording(other, path)
    write_recording(other, path, overwrite=True)
    assert read_recording(path).sizes["episode"] == 2

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(xr.Dataset, "to_netcdf", full)
        patched.setattr(xr.Dataset, "to_zarr", full)
        with pytest.raises(OutputError, match=f"Cannot write .*{name}: No space left"):
            write_recording(recording, path, overwrite=True)
    assert read_recording(path).sizes["episode"] == 2
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_only_recordings_are_overwritten(tmp_path: Path, recording: Recording) -> None:
    (tmp_path / "thesis.zarr").mkdir()
    (tmp_path / "thesis.zarr" / "chapter").write_text("kept")
    (tmp_path / "folder.nc").mkdir()
    (tmp_path / "file.zarr").write_text("kept")
    others = xr.Dataset({"a": ("x", [1, 2])}, attrs={"algorithm": "mamt", "env": "spread"})
    others.to_zarr(tmp_path / "metrics.zarr")  # as a run has it
    others.to_netcdf(tmp_path / "weather.nc", engine="scipy")
    for name in ("thesis.zarr", "folder.nc", "file.zarr", "metrics.zarr", "weather.nc"):
        with pytest.raises(OutputError, match="exists and is no recording"):
            write_recording(recording, tmp_path / name, overwrite=True)
    for name, says in (("x.csv", "must end in .nc or .zarr"), ("no/x.nc", "No such file")):
        with pytest.raises(OutputError, match=says):
            write_recording(recording, tmp_path / name)
    assert (tmp_path / "thesis.zarr" / "chapter").read_text() == "kept"
    xr.testing.assert_identical(xr.load_dataset(tmp_path / "weather.nc", engine="scipy"), others)


def damaged(recording: Recording, path: Path, how: str) -> None:
    """Writes what is not the recording that it seems to be."""
    folder = path.suffix == ".zarr"
    if how == "gone":
        return
    if how == "text":
        path.write_text("to whom it may concern")
    elif how == "empty":
        path.mkdir() if folder else path.touch()
    elif how == "foreign":
        write_recording(xr.Dataset({"x": ("y", [1.0])}), path)
    elif how == "poorer":
        write_recording(recording.drop_vars(["reward", "alive"]), path)
    elif how == "turned":
        write_recording(recording.transpose("agent", ...), path)
    elif how == "longer":
        write_recording(recording.assign(length=recording.length + 9), path)
    elif how == "nameless":
        write_recording(recording.assign_attrs(seed="many"), path)
    else:
        write_recording(recording, path)
        file = path / "reward/c/0/0/0" if folder else path
        with file.open("r+b") as opened:
            opened.truncate(int(file.stat().st_size * float(how)))


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("gone", "No such file"),
        ("text", "neither a NetCDF file nor a zarr folder"),
        ("empty", "neither a NetCDF file|no zarr folder"),
        ("foreign", "it has no attribute algorithm"),
        ("poorer", "no whole recording: it has no reward, alive"),
        ("turned", r"obs is \[agent, episode, moment, obs\] in it, and must be \[episode, moment"),
        ("longer", "do not fit"),
        ("nameless", "its seed is no number"),
        ("0.5", "damaged"),
        ("0.99", "damaged"),
        ("0.01", "damaged"),
    ],
)
def test_what_is_no_recording(
    tmp_path: Path, recording: Recording, suffix: str, how: str, says: str
) -> None:
    path = tmp_path / f"x{suffix}"
    damaged(recording, path, how)
    with pytest.raises(
        RunError, match=f"{path} cannot be read as a recording: .*({says})"
    ) as error:
        read_recording(path)
    assert "\n" not in str(error.value)


def test_files_of_strangers_are_not_executed(tmp_path: Path, recording: Recording) -> None:
    """zarr of version 2 unpickles what says that it is pickled; nothing here comes to that."""
    path, trace = tmp_path / "x.zarr", tmp_path / "trace"

    class Bomb:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(trace),)

    plain = xr.Dataset(recording.data_vars, recording.coords, recording.attrs)
    plain.to_zarr(path, zarr_format=2, consolidated=False)
    array = path / "length"
    about = json.loads((array / ".zarray").read_text())
    about |= {"filters": [{"id": "pickle"}], "compressor": None, "dtype": "|O"}
    (array / ".zarray").write_text(json.dumps(about))
    (array / "0").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(RunError, match="no zarr folder of version 3"):
        read_recording(path)
    shutil.rmtree(path)
    write_recording(recording, path)
    listed = path / "reward" / "zarr.json"
    about = json.loads(listed.read_text())
    about["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})
    listed.write_text(json.dumps(about))
    with pytest.raises(RunError, match="encoded by numcodecs.pickle, which is not trusted"):
        read_recording(path)
    assert not trace.exists()


def chosen(weights: Any) -> jax.Array:
    """An action that other weights do not choose."""
    return jnp.floor(jnp.abs(weights.sum()) * 100).astype(jnp.int32) % 5


def weighing() -> Algorithm:
    """Acts by its weights alone."""
    return fakes.algorithm()._replace(
        greedy=lambda state, obs: jnp.full(obs.shape[:2], chosen(state["w"]))
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the fake trainer on Spread, with checkpoints at points 2, 4, 6 and 7."""
    config = fakes.config(env_options={"episode_length": 3})
    directory = RunDir(tmp_path_factory.mktemp("recorded") / "run")
    directory.create(config, fakes.trainer().game)
    run_trainer(fakes.trainer(), fakes.algorithm(), config, directory)
    return load(directory.path, algorithm=fakes.recipe(weighing(), "mamt"))


def test_episodes_are_those_that_are_played(run: Run) -> None:
    said = run.episodes(2, 1, key=3)
    played = run.play(2, 1, key=3)
    np.testing.assert_array_equal(said.obs.values, played.obs.swapaxes(0, 1))
    np.testing.assert_array_equal(said.returns, played.returns)
    about = {"algorithm": "mamt", "env": "spread", "seed": 1, "checkpoint": 7, "update": 40}
    about |= {"greedy": 1, "key": 3, "env_options": '{"episode_length": 3}'}
    assert {name: said.attrs[name] for name in about} == about
    assert "position" in said and "value" not in said  # the fake algorithm says nothing


def test_a_checkpoints_policies_play_the_same_start(run: Run) -> None:
    assert run.path is not None
    weights = load(run.path, 2, algorithm=fakes.recipe(weighing(), "mamt")).policies.learner["w"]
    early, late = run.episodes(2, checkpoint=2), run.episodes(2)
    assert (early.checkpoint, early.attrs["update"]) == (2, 10)
    np.testing.assert_array_equal(early.obs[:, 0], late.obs[:, 0])
    actions = [int(chosen(each[0])) for each in (weights, run.policies.learner["w"])]
    assert actions[0] != actions[1]
    assert (early.action_taken == actions[0]).all() and (late.action_taken == actions[1]).all()
    with pytest.raises(RunError, match="holds no checkpoint 3; it holds 2, 4, 6, 7"):
        run.episodes(checkpoint=3)


def test_the_environment_may_have_other_options(run: Run) -> None:
    longer = run.episodes(2, env_options={"episode_length": 5})
    assert (longer.length == 5).all() and longer.env_options == '{"episode_length": 5}'
    for options, says in (
        ({"num_agents": 3}, r"spread with \{\"num_agents\": 3\} does not fit .* they learned for"),
        ({"no_such": 1}, "no option 'no_such'"),
        ({"episode_length": object()}, "env_options must be a dict by name of what JSON"),
        ([("episode_length", 5)], "env_options must be a dict by name of what JSON"),
    ):
        with pytest.raises(ConfigError, match=says):
            run.episodes(2, env_options=options)  # type: ignore[arg-type]


def test_runs_in_memory_have_no_checkpoints(run: Run) -> None:
    config = fakes.config(env_options={"episode_length": 3})
    memory = run_trainer(fakes.trainer(), fakes.algorithm(), config, None)
    assert memory.episodes(1).attrs["checkpoint"] == 7
    with pytest.raises(ConfigError, match="a run in memory has none"):
        memory.episodes(1, checkpoint=7)
