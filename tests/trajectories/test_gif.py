"""Episodes in pictures, and the files they are written to."""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from mamt_jax import envs
from mamt_jax.envs.drawing import PAPER
from mamt_jax.envs.toy import ToyElimination, ToySurvival
from mamt_jax.errors import ConfigError, EnvironmentFailed, MamtError, OutputError
from mamt_jax.training.policies import Policies
from mamt_jax.training.trainer import make_stage
from mamt_jax.trajectories import frames as pictures_of
from mamt_jax.trajectories.gif import check_gif, parse_range, write_gif
from mamt_jax.trajectories.pictures import as_picture, fitted, size_for
from mamt_jax.trajectories.strip import OUT, Strip, written
from tests.envs.parallel_games import Dwindling
from tests.training import fakes


def playing(best: Any) -> Policies:
    """Policies of seeds 4 and 7 that act by `best(weight, obs)`, with weights 0 and 1."""
    algorithm = fakes.algorithm()._replace(greedy=best)
    return Policies(algorithm, jnp.arange(2), (4, 7))


def frames(
    env: Any, policies: Policies, seed: int, key: jax.Array, which: slice = slice(None)
) -> Iterator[np.ndarray]:
    """Pictures of an episode on the environment's stage."""
    stage, learner = make_stage(env, fakes.config()), policies.learner_of(seed)
    watched = stage.watch(policies.algorithm, learner, key)
    return pictures_of.frames(watched, stage.spec, seed, which)


def squares(count: int) -> list[np.ndarray]:
    """Pictures of one grey each."""
    return [np.full((8, 10, 3), 40 * i, np.uint8) for i in range(count)]


def started(env: Any, key: jax.Array) -> tuple[jax.Array, Any]:
    """The first episode of an evaluation with that key: (a key for steps, state)."""
    reset_key, step_key = jax.random.split(key)
    return step_key, jax.jit(env.reset)(*jax.random.split(reset_key, 1))[0]


def test_an_episode_is_played_by_the_chosen_seed() -> None:
    env = envs.make("spread", episode_length=5)
    policies = playing(lambda weight, obs: jnp.full(obs.shape[:2], weight + 1))
    taken = {seed: list(frames(env, policies, seed, jax.random.key(3))) for seed in (4, 7)}
    for seed, action in ((4, 1), (7, 2)):
        key, state = started(env, jax.random.key(3))
        expected = [env.render(state)]
        height = expected[0].shape[0]
        for _ in range(5):  # the step draws nothing
            state = jax.jit(env.step)(key, state, jnp.full(2, action)).state
            expected.append(env.render(state))
        above = [picture[:height] for picture in taken[seed]]
        np.testing.assert_array_equal(above, expected)
    assert not np.array_equal(taken[4], taken[7])


class Said(NamedTuple):
    step: int
    return_so_far: float
    actions: Any


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[Said]:
    """What is written below the pictures."""
    noted: list[Said] = []
    write = Strip.write

    def spy(self: Strip, *what: Any) -> np.ndarray:
        noted.append(Said(*what))
        return write(self, *what)

    monkeypatch.setattr(Strip, "write", spy)
    return noted


def test_the_strip_tells_step_return_and_actions(said: list[Said]) -> None:
    env = envs.make("spread3_mix", episode_length=6)
    policies = playing(lambda weight, obs: jnp.tile(jnp.arange(3), (obs.shape[0], 1)))
    pictures = list(frames(env, policies, 4, jax.random.key(3), slice(0, None)))
    key, state = started(env, jax.random.key(3))
    total = [0.0]
    for _ in range(6):
        result = jax.jit(env.step)(key, state, jnp.arange(3))
        state = result.state
        total.append(total[-1] + float(np.mean(result.reward)))
    np.testing.assert_allclose([moment.return_so_far for moment in said], total, rtol=1e-5)
    assert [moment.step for moment in said] == list(range(7))
    assert said[0].actions is None
    assert all(moment.actions.tolist() == [0, 1, 2] for moment in said[1:])
    said.clear()
    chosen = list(frames(env, policies, 4, jax.random.key(3), slice(2, 4)))
    np.testing.assert_array_equal(chosen, pictures[2:4])
    np.testing.assert_allclose([moment.return_so_far for moment in said], total[2:4], rtol=1e-5)


def test_ranges_that_hold_nothing_are_refused() -> None:
    policies = playing(lambda *_: pytest.fail("played"))
    for which in (slice(6, None), slice(0, 7), slice(3, 3), slice(-2, None), slice(0, 5, 2)):
        with pytest.raises(ConfigError, match="FIRST:STOP within 0:6"):
            frames(envs.make("toy_matching"), policies, 4, jax.random.key(0), which)
    env = ToySurvival(episode_length=50)
    wrong = playing(lambda weight, obs: (env.best_actions(obs) + 1) % 3)
    with pytest.raises(ConfigError, match="over after step 1: there are no pictures 7:20"):
        list(frames(env, wrong, 4, jax.random.key(0), slice(7, 20)))


@pytest.mark.parametrize(
    "text", ["", "5", "3:3", "9:2", "a:b", "-3:", "1:2:3", ":0", "1.5:3", "٣:"]
)
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ConfigError, match=r"must be FIRST:STOP .*, got"):
        parse_range(text)


def test_what_is_a_range() -> None:
    given = {":": (None, None), "2:": (2, None), ":4": (None, 4), " 2 : 4 ": (2, 4), "0:1": (0, 1)}
    assert {text: (parse_range(text).start, parse_range(text).stop) for text in given} == given


@pytest.mark.parametrize("width", [320, 640])
@pytest.mark.parametrize("count", [2, 8, 100])
@pytest.mark.parametrize("letters", [1, 60])
def test_text_fits_below_the_picture(width: int, count: int, letters: int) -> None:
    words = tuple(letter * letters for letter in "WiM")
    spec = envs.EnvSpec(
        "wordy", count, (1,) * count, (3,) * count, 10**5, action_names=(words,) * count
    )
    strip = Strip(spec, [f"agent_{i}" for i in range(count)], width)
    for actions in (None, np.arange(count) % 3, np.full(count, OUT)):
        for value in (0.0, -1234567.891, 1e300, float("nan"), -99999.994):
            picture = strip.write(10**5, value, actions)
            assert picture.shape == (strip.height, width, 3) and strip.height % 2 == 0
            paper = picture[:1, :1]
            assert (picture[:2] == paper).all() and (picture[-2:] == paper).all()
            assert (picture[:, :6] == paper).all() and (picture[:, -6:] == paper).all()
            ink = (picture[5:23] != paper).any(axis=(0, 2))
            assert (np.diff(np.flatnonzero(ink)) > 12).sum() >= 1  # between return and step
    assert strip.height < 260


@pytest.mark.parametrize(
    ("value", "text"), [(-0.001, "0.00"), (1.005, "1.00"), (-73.456, "-73.46"), (1e7, "1e+07")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert written(value) == text


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


def test_an_episode_goes_on_without_those_who_left(said: list[Said]) -> None:
    """Agent 0 always misses and leaves at once; agent 1 plays to the end."""
    env = Forgetful(episode_length=4)
    clumsy = playing(
        lambda weight, obs: (env.best_actions(obs) + jnp.array([1, 0])) % env.num_actions
    )
    assert len(list(frames(env, clumsy, 4, jax.random.key(0)))) == 5
    assert [moment.return_so_far for moment in said] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert (said[1].actions >= 0).all()
    assert all(moment.actions[0] == OUT and moment.actions[1] >= 0 for moment in said[2:])


def test_nothing_is_played_in_vain() -> None:
    env = ToySurvival()
    policies = playing(lambda *_: pytest.fail("played"))
    with pytest.raises(ConfigError, match="No seed 5; the run has 4, 7"):
        frames(env, policies, 5, jax.random.key(0))

    class Blind:
        spec = envs.EnvSpec("blind", 2, (1, 1), (2, 2), 5)

    with pytest.raises(ConfigError, match="blind cannot be drawn"):
        frames(Blind(), policies, 4, jax.random.key(0))


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


def test_equal_pictures_keep_their_time(tmp_path: Path) -> None:
    a, b = squares(2)
    write_gif([a, a, b, b, b, a], tmp_path / "out.gif", 100)
    with Image.open(tmp_path / "out.gif") as image:
        times = []
        for i in range(image.n_frames):
            image.seek(i)
            times.append(image.info["duration"])
    assert times == [200, 300, 1000]


def test_rare_colours_and_photographs_survive(tmp_path: Path) -> None:
    """One red dot in one of many pictures; noise keeps its colours about right."""
    pictures = [np.full((64, 64, 3), 240, np.uint8) for _ in range(40)]
    pictures[33][5, 5] = (255, 0, 0)
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    write_gif(pictures, tmp_path / "dot.gif", 100)
    write_gif([noise], tmp_path / "noise.gif", 100)
    with Image.open(tmp_path / "dot.gif") as image:
        image.seek(1)
        assert image.convert("RGB").getpixel((5, 5)) == (255, 0, 0)
        assert image.convert("RGB").getpixel((6, 5)) == (240, 240, 240)
    with Image.open(tmp_path / "noise.gif") as image:
        back = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(back - noise).mean() < 25


def test_pursuit_is_small_and_every_picture_is_there(tmp_path: Path) -> None:
    """A hundred steps of random pursuers, who move more than any that learn."""
    env = envs.make("pursuit")
    key = jax.random.key(0)
    actions = jax.random.randint(key, (100, env.spec.num_agents), 0, 5)
    state, _ = jax.jit(env.reset)(key)
    states = jax.jit(
        lambda s: jax.lax.scan(lambda s, a: (env.step(key, s, a).state,) * 2, s, actions)
    )
    every = jax.device_get(states(state)[1])
    strip = Strip(env.spec, [str(i) for i in range(env.spec.num_agents)], 340)
    taken = [
        np.concatenate([env.render(jax.tree.map(itemgetter(i), every)), strip.write(i, 0.1 * i, a)])
        for i, a in enumerate(np.asarray(actions))
    ]
    path = tmp_path / "out.gif"
    assert write_gif(taken, path, 60) == 100
    assert path.stat().st_size < 100 * 3_600  # 500 steps are below 1.8 MB
    with Image.open(path) as image:
        assert image.n_frames == 100
        for i in (0, 1, 50, 99):
            image.seek(i)
            back = np.asarray(image.convert("RGB")).astype(int)
            assert (np.abs(back - taken[i]).max(axis=-1) > 8).mean() < 0.005


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


def test_environments_on_the_host_bring_their_own_pictures(said: list[Said]) -> None:
    """Dwindling paints the number of its step, and ends with the fifth."""
    module = "tests.envs.parallel_games"
    policies = playing(lambda weight, obs: jnp.zeros(obs.shape[:2], jnp.int32))
    taken = list(frames(envs.make("pettingzoo", module=module), policies, 4, jax.random.key(0)))
    assert [int(picture[0, 0, 0]) for picture in taken] == [0, 1, 2, 3, 4, 5]
    assert len({picture.shape for picture in taken}) == 1
    assert said[1].actions.tolist() == [0, 0, 0] and said[5].actions.tolist() == [0, OUT, OUT]
    blind = envs.make("pettingzoo", module=module, game="matching")
    with pytest.raises(ConfigError, match="cannot be drawn: .*'render_mode'"):
        frames(blind, policies, 4, jax.random.key(0))


def test_copies_that_are_looked_at_are_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Dwindling] = []
    monkeypatch.setattr(Dwindling, "close", lambda self: closed.append(self))
    policies = playing(lambda weight, obs: jnp.zeros(obs.shape[:2], jnp.int32))

    def played(**options: Any) -> Iterator[np.ndarray]:
        env = envs.make("pettingzoo", module="tests.envs.parallel_games", **options)
        closed.clear()
        return frames(env, policies, 4, jax.random.key(0), slice(0, 3))

    list(played())
    assert len(closed) == 2 and closed[0] is not closed[1]
    for fail, says in (
        ("raise", "the lantern went out"),
        ("quit", "failed while .* shown: SystemExit: 1"),
    ):
        with pytest.raises(EnvironmentFailed, match=says):
            list(played(fail=fail))
        assert len(closed) == 2


@pytest.mark.parametrize(
    ("drawn", "pixel"),
    [
        (np.full((5, 7), 9, np.uint8), (9, 9, 9)),
        (np.full((5, 7, 1), 9, np.int64), (9, 9, 9)),
        (np.full((5, 7), True), (255, 255, 255)),
        (np.full((5, 7, 3), 0.2), (51, 51, 51)),
        (np.full((5, 7, 3), 200.4, np.float32), (200, 200, 200)),
        (np.dstack([np.full((5, 7, 3), 9, np.uint8), np.full((5, 7), 255, np.uint8)]), (9, 9, 9)),
        (np.zeros((5, 7, 4), np.uint8), PAPER),
        (Image.new("RGB", (7, 5), (1, 2, 3)), (1, 2, 3)),
    ],
)
def test_kinds_of_pictures(drawn: Any, pixel: tuple[int, int, int]) -> None:
    picture = as_picture(drawn, "odd")
    assert picture.shape == (5, 7, 3) and picture.dtype == np.uint8
    assert (picture == np.array(pixel)).all()


@pytest.mark.parametrize(
    ("drawn", "says"),
    [
        (None, "got None"),
        ("text", "got 'text'"),
        ([[1, 2], [3]], "must return a picture"),
        (np.zeros((2, 5, 7, 3)), r"shape \(2, 5, 7, 3\)"),
        (np.zeros((3, 50, 70)), r"shape \(3, 50, 70\)"),
        (np.zeros((0, 7, 3)), r"shape \(0, 7, 3\)"),
        (np.full((5, 7, 3), np.nan), "nan to nan"),
        (np.full((5, 7, 3), 256), "256 to 256"),
        (np.full((5, 7, 3), -1.0), "-"),
    ],
)
def test_what_is_no_picture(drawn: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=f"odd cannot be drawn: .*{says}") as caught:
        as_picture(drawn, "odd")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(1, 1), (8, 10), (84, 84), (211, 160), (720, 1280), (3, 2000)])
def test_pictures_of_all_sizes(shape: tuple[int, int]) -> None:
    picture = np.full((*shape, 3), 7, np.uint8)
    size = size_for(picture, foreign=True)
    assert 320 <= size[1] <= 640 and size[0] <= 640 and not any(side % 2 for side in size)
    for other in (picture, picture[:, : shape[1] // 2 + 1], np.repeat(picture, 2, axis=0)):
        shown = fitted(other, size)
        assert shown.shape == (*size, 3) and (shown == 7).any()
