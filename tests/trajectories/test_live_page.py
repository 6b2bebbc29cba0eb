"""The page one can touch, in Chromium: pointer and keys, and what the agents make of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest
import xarray as xr

from mamt_jax import envs
from mamt_jax.cli.view import View
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError, RunError
from mamt_jax.training import run as runs
from mamt_jax.training.game import game_of
from mamt_jax.training.policies import Policies
from mamt_jax.trajectories.viewer.live import Trained, check_live, live_page
from tests.trajectories.live_cases import Case, learner_of


def trained(name: str, **options: Any) -> Trained:
    env = envs.make(name, **options)
    _, settings, state = learner_of(Case(env, "mamt", {"coordination_threshold": 0.0}))
    return Trained(env, "mamt", settings, game_of(env.spec), state, "<b>untrained</b>")


class Touched:
    """A live page and all that went wrong on it."""

    def __init__(self, browser: Any, path: Path, text: str) -> None:
        path.write_text(text, encoding="utf-8")
        self.page = browser.new_page(viewport={"width": 1000, "height": 800})
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url, path))
        self.page.goto(path.as_uri())
        self.until("globalThis.live?.shown && live.size")

    def _check(self, url: str, path: Path) -> None:
        if url != path.as_uri():
            self.wrong.append(f"asked for {url}")

    def until(self, condition: str) -> None:
        """Waits; Playwright's own way needs `eval`, which the page forbids."""
        end = time.monotonic() + 20
        while not self.page.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never {condition}"
            self.page.wait_for_timeout(10)

    def get(self, what: str) -> Any:
        """Of the page, when it has drawn what has happened."""
        self.until("!live.waiting || live.state.playing")
        return self.page.evaluate(f"(() => {{ const {{ world }} = live; return {what}; }})()")

    def pixel(self, place: Any) -> tuple[float, float]:
        """Where a place of the plane is on the screen."""
        x, y = self.get(f"[live.camera.x({place[0]}), live.camera.y({place[1]})]")
        box = self.page.locator("#plane").bounding_box()
        return box["x"] + x + 1, box["y"] + y + 1  # its border

    def drag(self, start: Any, end: Any) -> None:
        start, end = self.pixel(start), self.pixel(end)
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*end, steps=4)
        self.page.mouse.up()

    def bars(self) -> list[str]:
        self.get("0")
        return self.page.locator(".bar b").all_text_contents()


@pytest.fixture(scope="module")
def spread(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Touched]:
    text = live_page(trained("spread3_mix"), "Spread <i>live</i>")
    found = Touched(browser, tmp_path_factory.mktemp("live") / "spread.html", text)
    yield found
    assert not found.wrong, found.wrong


@pytest.fixture(scope="module")
def pursuit(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Touched]:
    options = {"x_size": 7, "y_size": 8, "n_pursuers": 3, "n_evaders": 2, "obs_range": 5}
    text = live_page(trained("pursuit", **options, freeze_evaders=True), "Pursuit")
    found = Touched(browser, tmp_path_factory.mktemp("live") / "pursuit.html", text)
    yield found
    assert not found.wrong, found.wrong


def test_agents_answer_to_a_landmark_that_is_dragged(spread: Touched) -> None:
    before, bars = spread.get("world.now"), spread.bars()
    pairs = spread.page.locator(".pairs td").all_text_contents()
    spread.drag(before["landmark"][1], (-1.2, 1.1))
    after = spread.get("world.now")
    np.testing.assert_allclose(after["landmark"][1], [-1.2, 1.1], atol=0.02)
    assert after["position"] == before["position"] and after["time"] == before["time"]
    assert spread.bars() != bars
    assert spread.page.locator(".pairs td").all_text_contents() != pairs
    shown = np.array(spread.bars(), float).reshape(3, 5)
    np.testing.assert_allclose(shown, 100 * np.array(spread.get("world.said.probability")), atol=1)
    taken = spread.page.locator(".bar.taken").count()
    assert taken == 3


def test_an_agent_is_held_while_the_others_play(spread: Touched) -> None:
    page, start = spread.page, spread.get("world.now")
    page.select_option("#speed", "20")
    page.mouse.move(*spread.pixel(start["position"][0]))
    page.mouse.down()
    page.mouse.move(*spread.pixel((0.9, 0.9)), steps=3)
    page.keyboard.press(" ")
    spread.until(f"live.world.now.time > {start['time']} + 5")
    held = page.evaluate("live.world.now")
    np.testing.assert_allclose(held["position"][0], [0.9, 0.9], atol=0.02)
    assert held["velocity"][0] == [0, 0]
    assert held["position"][1:] != start["position"][1:]
    page.mouse.up()
    page.keyboard.press(" ")
    paused = spread.get("world.now.time")
    time.sleep(0.2)
    assert spread.get("world.now.time") == paused
    spread.drag(spread.get("world.now.position[0]"), (9, 9))
    x, y = spread.get("world.now.position[0]")
    assert [x, y] == pytest.approx(spread.get("live.data.scene.high"), abs=0.02), "stays in sight"


def test_keys_take_things_and_move_them(spread: Touched) -> None:
    page = spread.page
    spread.get("live.hands.drop()")
    before = spread.get("world.now")
    for key in ("t", "t", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    moved = np.array(spread.get("world.now.position[1]")) - before["position"][1]
    np.testing.assert_allclose(moved, [0.05, 0.05], atol=1e-6)
    assert page.locator("#thing").text_content().startswith("agent 1 at ")
    for key in ("t", "t", "ArrowLeft"):  # agent 2, landmark 0
        page.keyboard.press(key)
    moved = np.array(spread.get("world.now.landmark[0]")) - before["landmark"][0]
    np.testing.assert_allclose(moved, [-0.05, 0], atol=1e-6)
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowLeft")
    assert page.locator("#thing").text_content() == ""
    page.keyboard.press("s")
    assert spread.get("world.now.time") == before["time"] + 1


def test_starts_can_be_had_again_and_actions_drawn(spread: Touched) -> None:
    page = spread.page
    page.click("#fresh")
    start = spread.get("world.now")
    page.keyboard.press("s")
    page.click("#again")
    assert spread.get("world.now") == start
    page.click("#fresh")
    assert spread.get("world.now") != start
    greedy = spread.get("world.said.action")
    page.keyboard.press("g")
    drawn = []
    for _ in range(8):
        drawn.append(spread.get("world.said.action"))
        assert spread.get("(world.think(), world.said.action)") == drawn[-1], "without a step"
        page.keyboard.press("s")
    assert len({tuple(one) for one in drawn}) > 1
    page.keyboard.press("g")
    page.click("#again")
    assert spread.get("world.said.action") == greedy


def test_edges_are_what_is_chosen(spread: Touched) -> None:
    page = spread.page
    said = spread.get("world.said")
    for kind, expected in {
        "coordination": np.array(said["coordination"]),
        "attention:mean": np.array(said["attention"]).mean(axis=-1),
        "attention:2": np.array(said["attention"])[..., 2],
    }.items():
        page.select_option("#edges", kind)
        spread.get("0")
        cells = page.locator(".pairs td").all_text_contents()
        shown = np.array([float(cell or 0) for cell in cells]).reshape(3, 3)
        np.testing.assert_allclose(shown, expected, atol=0.006)
    page.select_option("#edges", "none")
    spread.get("0")
    assert not page.locator(".pairs").is_visible()
    assert page.locator("h1").text_content() == "Spread <i>live</i>"


def test_evaders_are_placed_and_taken_away(pursuit: Touched) -> None:
    page, bars = pursuit.page, pursuit.bars()
    before = pursuit.get("world.now")
    taken = before["evader"] + before["pursuer"]
    free = next([x, 0] for x in range(7) if [x, 0] not in taken)
    page.mouse.click(*pursuit.pixel(free))
    assert pursuit.get("world.now.evader") == [*before["evader"], free]
    assert "3 of 3 evaders left" in page.locator("#caption").text_content()
    assert pursuit.bars() != bars or not near(free, before["pursuer"])
    pursuit.drag(free, (0, 7))
    assert pursuit.get("world.now.evader.at(-1)") == [0, 7]
    assert pursuit.get("live.view.wall[3 * 8 + 4]") == 1
    pursuit.drag((0, 7), (3, 4))
    assert pursuit.get("world.now.evader.at(-1)") != [3, 4], "not on a wall"
    page.keyboard.press("s")
    page.mouse.click(*pursuit.pixel(pursuit.get("world.now.evader.at(-1)")))
    assert len(pursuit.get("world.now.evader")) == 2


def near(place: list[int], pursuers: list[list[int]]) -> bool:
    return any(max(abs(x - place[0]), abs(y - place[1])) <= 2 for x, y in pursuers)


def test_a_cursor_places_evaders_without_a_pointer(pursuit: Touched) -> None:
    page = pursuit.page
    pursuit.get("(live.hands.drop(), document.activeElement.blur())")
    before = pursuit.get("world.now.evader")
    page.keyboard.press("t")
    for key in ("ArrowLeft",) * 3 + ("ArrowDown",) * 3:
        page.keyboard.press(key)
    cell = pursuit.get("live.hands.thing.place")
    page.keyboard.press("Enter")
    evaders = pursuit.get("world.now.evader")
    assert (cell in before) != (cell in evaders)
    page.keyboard.press("Enter")
    assert (cell in before) == (cell in pursuit.get("world.now.evader"))
    page.keyboard.press("t")
    page.keyboard.press("ArrowUp")
    assert page.locator("#thing").text_content().startswith("agent 0 at ")


def test_a_second_finger_takes_nothing_away(spread: Touched) -> None:
    """Of two fingers the first one drags, until it is lifted."""
    spread.get("live.hands.drop()")
    held = spread.get(
        """(() => {
          const { canvas } = live.hands, place = live.hands.things()[0].place, found = [];
          canvas.setPointerCapture = () => {};
          const box = canvas.getBoundingClientRect();
          const [x, y] = [box.x + live.camera.x(place[0]) + 1, box.y + live.camera.y(place[1]) + 1];
          const touch = (kind, pointerId, clientX, clientY) => {
            const where = { pointerId, clientX, clientY, button: 0 };
            canvas.dispatchEvent(new PointerEvent(kind, where));
            found.push(live.world.held !== null);
          };
          touch("pointerdown", 1, x, y);
          touch("pointermove", 1, x + 20, y);
          touch("pointerdown", 2, box.x + 3, box.y + 3);
          touch("pointerup", 2, box.x + 3, box.y + 3);
          touch("pointermove", 1, x + 40, y);
          touch("pointerup", 1, x + 40, y);
          delete canvas.setPointerCapture;
          return found;
        })()"""
    )
    assert held == [False, True, True, True, True, False]


def test_a_phone_needs_no_scrolling_to_the_side(spread: Touched) -> None:
    spread.page.set_viewport_size({"width": 400, "height": 800})
    for edges in ("none", "attention:mean"):  # the longest title
        spread.page.select_option("#edges", edges)
        assert spread.get("document.documentElement.scrollWidth") <= 400
    spread.page.set_viewport_size({"width": 1000, "height": 800})


def test_what_has_no_live_page_is_said_in_a_sentence() -> None:
    with pytest.raises(ConfigError, match="plays spread, .*; multiwalker can be"):
        check_live("mamt", "multiwalker")
    with pytest.raises(ConfigError, match="those of lola_dqn are others"):
        check_live("lola_dqn", "spread")


def test_weights_are_small_enough() -> None:
    sizes = {}
    for name in ("rover_tower", "pursuit"):
        case = Case(envs.make(name), "mamt", {"hidden_size": 128})
        _, settings, state = learner_of(case)
        page = live_page(Trained(case.env, "mamt", settings, game_of(case.env.spec), state), "")
        numbers = page.split('"numbers":"')[1].split('"')[0]
        sizes[name] = len(numbers) * 3 / 4
    assert sizes["rover_tower"] < 1e6 and sizes["pursuit"] < 4e6


def test_the_command_writes_a_page_of_one_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = make_config(algorithm="mamt", env="spread", hidden_size=8)
    algorithm, _, state = learner_of(Case(envs.make("spread"), "mamt", {}))
    both = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), state)
    policies = Policies(algorithm, both, (4, 5), game_of(envs.make("spread").spec))
    found = SimpleNamespace(config=config, metrics=xr.Dataset(), policies=policies)
    monkeypatch.setattr(runs, "load", lambda *_: found)
    place, out = tmp_path / "run", tmp_path / "page.html"
    View((place,), out, live=True, seeds=(5,)).run()
    assert "mamt on spread, seed 5, newest" in capsys.readouterr().out
    assert "startLive();" in out.read_text(encoding="utf-8")
    for wrong in ({"played": (place, place)}, {"seeds": ("all",)}, {"played": ("x.nc",)}):
        with pytest.raises(RunError, match="of one run directory, seed and checkpoint"):
            View(**{"played": (place,), "out": out, "live": True} | wrong).run()
