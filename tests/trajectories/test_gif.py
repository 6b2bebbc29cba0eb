"""Episodes in pictures, and the files they are written to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import envs
from envs.toy import ToyElimination, ToySurvival
from mamt_jax.config import ConfigError
from mamt_jax.errors import MamtError, OutputError
from mamt_jax.training.policies import Policies
from mamt_jax.trajectories.frames import frames
from mamt_jax.trajectories.gif import check_gif, write_gif
from tests.training import fakes


def playing(best: Any) -> Policies:
    """Policies of seeds 4 and 7 that act by `best(weight, obs)`, with weights 0 and 1."""
    algorithm = fakes.algorithm()._replace(greedy=best)
    return Policies(algorithm, jnp.arange(2), (4, 7))


def squares(count: int) -> list[np.ndarray]:
    """Pictures of one grey each."""
    return [np.full((8, 10, 3), 40 * i, np.uint8) for i in range(count)]


def test_an_episode_is_played_by_the_chosen_seed() -> None:
    env = envs.make("spread", episode_length=5)
    policies = playing(lambda weight, obs: jnp.full(obs.shape[:2], weight + 1))
    taken = {seed: list(frames(env, policies, seed, jax.random.key(3))) for seed in (4, 7)}
    for seed, action in ((4, 1), (7, 2)):
        key, reset_key = jax.random.split(jax.random.key(3))
        state, _ = jax.jit(env.reset)(reset_key)
        expected = [env.render(state)]
        for _ in range(5):  # the step draws nothing
            state = jax.jit(env.step)(key, state, jnp.full(2, action)).state
            expected.append(env.render(state))
        np.testing.assert_array_equal(taken[seed], expected)
    assert not np.array_equal(taken[4], taken[7])


def test_an_episode_ends_where_it_terminates() -> None:
    env = ToySurvival(episode_length=4)
    careless = playing(lambda weight, obs: env.best_actions(obs) * weight)
    lengths = {
        seed: [len(list(frames(env, careless, seed, key))) for key in keys]
        for seed, keys in dict.fromkeys((4, 7), jax.random.split(jax.random.key(0), 6)).items()
    }
    assert lengths[7] == [5] * 6
    assert min(lengths[4]) < 5


class Forgetful(ToyElimination):
    """Says nothing sensible of agents that had left."""

    def step(self, key: jax.Array, state: Any, actions: jax.Array) -> envs.TimeStep:
        step = super().step(key, state, actions)
        gone = ~state.alive
        return step._replace(
            obs=jnp.where(gone[:, None], jnp.nan, step.obs),
            reward=jnp.where(gone, jnp.nan, step.reward),
            terminated=step.terminated | gone,
        )


def test_an_episode_goes_on_without_those_who_left() -> None:
    """Agent 0 always misses and leaves at once; agent 1 plays to the end."""
    env = Forgetful(episode_length=4)
    clumsy = playing(
        lambda weight, obs: (env.best_actions(obs) + jnp.array([1, 0])) % env.num_actions
    )
    assert len(list(frames(env, clumsy, 4, jax.random.key(0)))) == 5


def test_nothing_is_played_in_vain() -> None:
    env = ToySurvival()
    policies = playing(lambda *_: pytest.fail("played"))
    with pytest.raises(ConfigError, match="No seed 5; the run has 4, 7"):
        frames(env, policies, 5, jax.random.key(0))

    class Blind:
        spec = envs.EnvSpec("blind", 2, (1, 1), (2, 2), 5)

    with pytest.raises(ConfigError, match="blind cannot be drawn"):
        frames(Blind(), policies, 4, jax.random.key(0))  # type: ignore[arg-type]


def test_the_file_holds_every_picture_in_order(tmp_path: Path) -> None:
    path = tmp_path / "out.GIF"
    path.write_text("an earlier file")
    assert write_gif(iter(squares(5)), path, 100) == 5
    with Image.open(path) as image:
        assert image.format == "GIF" and image.size == (10, 8)
        assert image.n_frames == 5 and image.info["loop"] == 0
        for i in range(5):
            image.seek(i)
            assert image.convert("RGB").getpixel((3, 3)) == (40 * i,) * 3
            assert image.info["duration"] == (1000 if i == 4 else 100)
    assert [file.name for file in tmp_path.iterdir()] == ["out.GIF"]


def test_flat_colours_survive(tmp_path: Path) -> None:
    env = envs.make("pursuit")
    state, _ = jax.jit(env.reset)(jax.random.key(0))
    frame = env.render(state)
    write_gif([frame], tmp_path / "one.gif", 100)
    with Image.open(tmp_path / "one.gif") as image:
        back = np.asarray(image.convert("RGB")).astype(int)
    assert (np.abs(back - frame).max(axis=-1) > 8).mean() < 0.005


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("out.png", r"must end in \.gif, got .*out\.png"),
        ("gif", r"must end in \.gif"),
        ("nowhere/out.gif", "Cannot write .*No such file or directory"),
        ("file/out.gif", "Cannot write .*Not a directory"),
        ("folder.gif", "Cannot write .*it is a directory"),
    ],
)
def test_bad_paths_are_refused_before_anything_is_played(
    tmp_path: Path, name: str, says: str
) -> None:
    (tmp_path / "folder.gif").mkdir()
    (tmp_path / "file").touch()

    def never() -> Iterator[np.ndarray]:
        pytest.fail("played")
        yield squares(1)[0]

    for refused in (check_gif, lambda path: write_gif(never(), path, 100)):
        with pytest.raises(OutputError, match=says) as caught:
            refused(tmp_path / name)
        assert isinstance(caught.value, MamtError) and "\n" not in str(caught.value)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "folder.gif"]


def test_check_leaves_nothing_and_keeps_what_is_there(tmp_path: Path) -> None:
    check_gif(tmp_path / "new.gif")
    assert not list(tmp_path.iterdir())
    (tmp_path / "old.gif").write_text("kept")
    check_gif(tmp_path / "old.gif")
    assert (tmp_path / "old.gif").read_text() == "kept"


def test_a_full_disk_keeps_the_earlier_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out.gif"
    path.write_text("kept")

    def full(self: Image.Image, file: Path, *args: Any, **options: Any) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match="Cannot write .*out.gif: No space left on device"):
        write_gif(squares(2), path, 100)
    assert path.read_text() == "kept" and len(list(tmp_path.iterdir())) == 1


def test_environments_on_the_host_bring_their_own_pictures() -> None:
    """Dwindling paints the number of its step, and ends with the fifth."""
    module = "tests.envs.parallel_games"
    policies = playing(lambda weight, obs: jnp.zeros(obs.shape[:2], jnp.int32))
    taken = list(frames(envs.make("pettingzoo", module=module), policies, 4, jax.random.key(0)))
    assert [int(picture[0, 0, 0]) for picture in taken] == [0, 1, 2, 3, 4, 5]
    assert {picture.shape for picture in taken} == {(8, 8, 3)}
    blind = envs.make("pettingzoo", module=module, game="matching")
    with pytest.raises(ConfigError, match="cannot be drawn: .*'render_mode'"):
        frames(blind, policies, 4, jax.random.key(0))
