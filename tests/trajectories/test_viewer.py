"""The page that plays recordings, in Chromium, and what it is made of."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from mamt_jax.errors import OutputError, RunError
from mamt_jax.trajectories.viewer import Source, check_page, frame, page, write_page
from mamt_jax.trajectories.viewer.columns import column
from mamt_jax.trajectories.viewer.embed import as_script, embedded, entropy
from tests.trajectories.recorded import recording

HOSTILE = '</script><img src=x onerror="globalThis.hacked=1"><!-- \' \u2028 {{data}} \\u003c'
EARLY, LATE = recording("spread", draw=1, checkpoint=1), recording("spread", draw=2)
OTHER_SEED = recording("spread", draw=3, seed=7)


_READY = "globalThis.viewer?.panes.length && viewer.panes.every((pane) => pane.strips)"


def until(page: Any, expression: str) -> None:
    """Waits; Playwright's own way evaluates texts in the page, which the page forbids."""
    for _ in range(500):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(20)
    raise AssertionError(f"never: {expression}")


class Watched:
    """A page and all that went wrong on it."""

    def __init__(self, browser: Any, **options: Any) -> None:
        self.page = browser.new_context(
            viewport={"width": 1200, "height": 1800}, **options
        ).new_page()
        self.wrong: list[str] = []
        self.page.on("console", lambda message: self.wrong.append(message.text))
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("request", lambda request: self._check(request.url))

    def _check(self, url: str) -> None:
        if not url.startswith("file://") or not url.endswith(".html"):
            self.wrong.append(f"asked for {url}")

    def open(self, path: Path) -> Any:
        self.page.goto(path.as_uri())
        until(self.page, _READY)
        return self.page

    def until(self, expression: str) -> None:
        until(self.page, expression)

    def state(self, name: str) -> Any:
        return self.page.evaluate(f"viewer.state.{name}")


@pytest.fixture(scope="module")
def watched(browser: Any) -> Iterator[Watched]:
    yield Watched(browser, color_scheme="light")


@pytest.fixture(scope="module")
def spread_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "spread.html"
    write_page(page([Source("mamt on spread", [EARLY, LATE, OTHER_SEED])], "Spread"), path)
    return path


@pytest.fixture
def spread(watched: Watched, spread_page: Path) -> Iterator[Watched]:
    """The page as it opens: workers share a file's tests, so no test may need another's."""
    watched.open(spread_page)
    yield watched
    assert not watched.wrong, watched.wrong


ARRAYS = {
    "numbers": np.where(
        np.random.default_rng(0).random((2, 5, 3)) < 0.2,
        np.nan,
        np.random.default_rng(1).normal(size=(2, 5, 3)),
    ),
    "large": np.random.default_rng(2).random((1, 90, 30)),
    "cells": np.random.default_rng(3).integers(-1, 16, (2, 6, 4)),
    "wide": np.random.default_rng(4).integers(-40_000, 9, (2, 6, 4)),
    "flags": np.random.default_rng(5).random((2, 6)) < 0.5,
    "nothing": np.full((1, 3, 2), np.nan),
    "one": np.full((2, 3), 7.5, np.float32),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_columns_are_read_as_they_were_written(
    spread: Watched, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = ARRAYS[name]
    monkeypatch.setattr("mamt_jax.trajectories.viewer.columns._STEPS", ((100, 65_533), (1e9, 250)))
    made = column(array)
    read = spread.page.evaluate(
        """async (column) => {
          const values = viewerParts.dequantised(await viewerParts.inflated(column.data), column);
          return Array.from(values, String);
        }""",
        made,
    )
    values = np.array(read, float).reshape(array.shape)
    np.testing.assert_array_equal(np.isnan(values), np.isnan(array.astype(float)))
    if array.dtype.kind in "ib":
        np.testing.assert_array_equal(values, array)
    else:
        extent = np.nanmax(array) - np.nanmin(array) if np.isfinite(array).any() else 0.0
        assert made["step"] <= extent / (240 if array.size > 100 else 65_000) or extent == 0
        np.testing.assert_allclose(values, array, atol=0.501 * made["step"] + 1e-6)


def test_places_are_where_they_are(spread: Watched) -> None:
    """Camera, entries and what points at them, and those who share a cell, against NumPy."""
    rng = np.random.default_rng(0)
    place, index = rng.normal(size=(6, 2)), np.array([2, 0, 1])
    scene = {
        "low": [-2, -1],
        "high": [2, 3],
        "layers": [
            {
                "kind": "marks",
                "at": {"field": "p", "first": 3, "index": "i"},
                "size": 0.1,
                "agents": True,
            }
        ],
    }
    view = {"p": place.ravel().tolist(), "i": index.tolist()}
    found = spread.page.evaluate(
        """([scene, view]) => {
          const camera = viewerParts.cameraOf(scene, 800, 400), at = scene.layers[0].at;
          return [viewerParts.placesOf(at, view), viewerParts.agentColours(scene, view, 6),
            [camera.x(0), camera.y(0), ...camera.plane(410, 30)],
            viewerParts.agentAt(scene, view, ...view.p.slice(8, 10))];
        }""",
        [scene, view],
    )
    np.testing.assert_allclose(found[0], place[3 + index])
    assert found[1] == [0, 1, 2, 1, 2, 0]  # of who points at them
    np.testing.assert_allclose(found[2], [400, 300, 0.1, 2.7])
    assert found[3] == 4


def test_those_who_share_a_cell_stay_in_it_apart(spread: Watched) -> None:
    at = {"kind": "marks", "at": {"field": "p"}, "size": 0.4, "crowd": True}
    view = {"p": [3, 3, 3, 3, 3, 3, 5, 1]}
    moved = spread.page.evaluate(
        "([layer, view]) => { const it = viewerParts.arranged({layers: [layer]}, view);"
        " return [Array.from(it.p), Array.from(it['scale of p'])]; }",
        [at, view],
    )
    places = np.array(moved[0]).reshape(4, 2)
    assert (np.abs(places[:3] - 3) <= 0.25).all() and len({tuple(p) for p in places[:3]}) == 3
    assert tuple(places[3]) == (5, 1) and moved[1] == pytest.approx([0.6, 0.6, 0.6, 1.0])


def test_it_plays_to_the_end_and_stops(spread: Watched) -> None:
    spread.page.evaluate("viewer.setSpeed(100)")
    spread.page.click("#play")
    spread.until("!viewer.state.playing")
    assert spread.state("moment") == spread.state("span")
    assert spread.page.inner_text("#play") == "Play"


def test_slider_and_keys_move_the_moment(spread: Watched) -> None:
    spread.page.select_option("#episode", "1")
    spread.page.locator("#slider").fill("2")
    assert spread.state("moment") == 2
    spread.page.evaluate("document.activeElement.blur()")
    for key, moment in (("ArrowRight", 3), ("ArrowLeft", 2), ("Home", 0), ("Shift+ArrowRight", 6)):
        spread.page.keyboard.press(key)
        assert spread.state("moment") == moment, key
    lines = spread.page.eval_on_selector_all(".now", "all => all.map((one) => one.style.transform)")
    assert set(lines) == {"translateX(100%)"} and len(lines) == 12  # six strips of each of two
    spread.page.keyboard.press("Home")
    spread.page.evaluate("viewer.setSpeed(1)")
    spread.page.keyboard.press("Space")
    assert spread.state("playing") is True
    spread.page.keyboard.press("Space")
    assert spread.state("playing") is False


def test_seeds_checkpoints_and_episodes_are_chosen(spread: Watched) -> None:
    shown = "viewer.panes.map(({recording}) => [recording.seed, recording.checkpoint])"
    assert spread.page.evaluate(shown) == [[0, 1], [0, 10]]
    returns = LATE.return_so_far.values[np.arange(3), LATE.length - 1]
    right = spread.page.locator(".pane").nth(1)
    spread.page.select_option("#episode", "2")
    assert f"{returns[2]:.2f}".replace("-", "−") in right.locator(".caption").inner_text()
    right.locator("select.seed").select_option("7")
    spread.until("viewer.panes[1].recording.seed === 7")
    assert "did not start alike" in spread.page.inner_text("#notice")
    right.locator("select.seed").select_option("0")
    spread.until("viewer.panes[1].recording.seed === 0")
    right.locator("select.checkpoint").select_option("1")
    spread.until("viewer.panes[1].recording.checkpoint === 1")
    assert spread.page.inner_text("#notice") == ""
    right.locator("select.checkpoint").select_option("10")
    spread.until("viewer.panes[1].recording.checkpoint === 10")
    texts = spread.page.locator("#episode option").all_inner_texts()
    order = np.argsort(EARLY.return_so_far.values[np.arange(3), EARLY.length - 1])
    for place, word in zip(order, ("worst", "median", "best"), strict=True):
        assert word in texts[place]
    spread.page.evaluate("document.activeElement.blur()")
    spread.page.keyboard.press("n")
    assert spread.state("episode") == 0 and spread.state("span") == EARLY.length[0]


@pytest.mark.parametrize(
    "name", ["return_so_far", "reward", "probability", "entropy", "delta", "nonstationarity"]
)
def test_hovering_shows_the_recordings_numbers(spread: Watched, name: str) -> None:
    """Of the step that led to the moment, or of the one that is taken there; of every pane."""
    spread.page.select_option("#episode", "1")
    spread.page.evaluate("viewer.go(0); viewer.choose(1)")
    moment, after = 4, name in ("return_so_far", "reward")
    plots = spread.page.locator(f".strip[data-name={name}] svg")
    box = plots.nth(1).bounding_box()
    spread.page.mouse.move(box["x"] + box["width"] * moment / 6 + 1, box["y"] + box["height"] / 2)
    for pane, source in enumerate((EARLY, LATE)):
        wanted = entropy(source.probability.values) if name == "entropy" else source[name].values
        values = wanted[1, moment - after]
        values = values[1] if name == "probability" else values
        texts = spread.page.locator(f".pane:nth-child({pane + 1}) .strip[data-name={name}] b")
        shown = [float(text.replace("−", "-")) for text in texts.all_inner_texts()]
        np.testing.assert_allclose(shown, np.atleast_1d(values), atol=2e-4)
    spread.page.mouse.move(5, 5)
    assert spread.state("hovered") is None


def test_edges_are_the_recordings_weights(spread: Watched) -> None:
    for kind, wanted in (
        ("coordination", LATE.coordination),
        ("attention:1", LATE.attention[..., 1]),
        ("attention:mean", LATE.attention.mean("head")),
    ):
        found = spread.page.evaluate(
            f"Array.from(viewerParts.weightsOf(viewer.panes[1].recording, '{kind}', 1, 3))"
        )
        np.testing.assert_allclose(found, wanted.values[1, 3].ravel(), atol=1e-4)
        spread.page.select_option("#edges", kind)


def test_what_is_drawn_follows_theme_moment_and_choice(spread: Watched) -> None:
    """Each of these changes the picture, and nothing else does."""
    picture = "viewer.panes[0].canvas.toDataURL()"
    look = spread.page.evaluate
    spread.page.select_option("#edges", "attention:mean")
    look("viewer.go(1); viewer.choose(1)")
    before = look(picture)
    assert look(picture) == before
    for change, back in (
        ("viewer.go(2)", "viewer.go(1)"),
        (
            "viewer.state.edges = 'none'; viewer.show()",
            "viewer.state.edges = 'attention:mean'; viewer.show()",
        ),
        ("viewer.choose(0)", "viewer.choose(1)"),
    ):
        look(change)
        assert look(picture) != before, change
        look(back)
        assert look(picture) == before, back
    spread.page.select_option("#theme", "dark")
    assert look("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 28)"
    assert look(picture) != before
    spread.page.select_option("#theme", "")
    spread.page.emulate_media(color_scheme="dark")
    spread.until("getComputedStyle(document.body).backgroundColor === 'rgb(20, 23, 28)'")
    spread.page.emulate_media(color_scheme="light")
    spread.until("getComputedStyle(document.body).backgroundColor === 'rgb(244, 244, 241)'")
    assert look(picture) == before


def test_a_phone_needs_no_scrolling_to_the_side(spread: Watched) -> None:
    spread.page.set_viewport_size({"width": 400, "height": 800})
    assert spread.page.evaluate("document.documentElement.scrollWidth") <= 400
    widths = spread.page.eval_on_selector_all("canvas", "all => all.map((one) => one.clientWidth)")
    assert min(widths) > 350
    spread.page.set_viewport_size({"width": 1200, "height": 1800})


def test_everything_can_be_reached_by_keyboard(spread: Watched) -> None:
    spread.page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        spread.page.keyboard.press("Tab")
        reached.add(
            spread.page.evaluate("document.activeElement.id || document.activeElement.className")
        )
    wanted = {
        "theme",
        "episode",
        "edges",
        "paths",
        "beside",
        "checkpoint",
        "play",
        "slider",
        "speed",
    }
    assert wanted <= reached


def hostile() -> xr.Dataset:
    made = recording("toy_elimination", algorithm=HOSTILE)
    made.attrs["env"] = HOSTILE
    return made.assign_coords(agent=[HOSTILE, "1"], action=[HOSTILE, "\u2029", ""])


def test_hostile_names_are_only_names(watched: Watched, tmp_path: Path) -> None:
    text = page([Source(HOSTILE, [hostile()])], HOSTILE)
    assert text.isascii() or "\u2028" not in text.split('id="data">')[1]
    assert text.count("</script>") == 2
    write_page(text, tmp_path / "hostile.html")
    opened = watched.open(tmp_path / "hostile.html")
    assert opened.evaluate("globalThis.hacked") is None and opened.title().startswith("</script>")
    assert opened.locator("#title").text_content() == HOSTILE
    assert HOSTILE in opened.locator(".agents").text_content()
    assert opened.locator("img").count() == 0
    assert not watched.wrong, watched.wrong


def test_a_notebooks_frame_plays_by_itself(watched: Watched, tmp_path: Path) -> None:
    """Shut in as it is; there is no way out for hostile names either."""
    made = frame(hostile())
    assert made.startswith('<iframe sandbox="allow-scripts" srcdoc="')
    (tmp_path / "notebook.html").write_text(f"<!DOCTYPE html><body>{made}</body>", "utf-8")
    watched.page.goto((tmp_path / "notebook.html").as_uri())
    inside = watched.page.frames[1]
    until(inside, _READY)
    inside.locator("#slider").fill("2")
    assert inside.evaluate("viewer.state.moment") == 2
    assert watched.page.evaluate("globalThis.hacked") is None
    assert not watched.wrong, watched.wrong


@pytest.mark.parametrize("name", ["rover_tower", "pursuit", "spread3_mix", "toy_matching"])
def test_every_environment_has_a_picture(watched: Watched, tmp_path: Path, name: str) -> None:
    write_page(page([Source(name, [recording(name)])], name), tmp_path / f"{name}.html")
    opened = watched.open(tmp_path / f"{name}.html")
    colours = opened.evaluate(
        """() => {
          const { canvas, pen } = viewer.panes[0];
          const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
          return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    assert colours > 5
    assert not watched.wrong, watched.wrong


def test_without_a_view_there_are_strips_and_a_sentence(watched: Watched, tmp_path: Path) -> None:
    made = recording("spread", scene="").drop_vars(["position", "velocity", "landmark", "radius"])
    write_page(page([Source("host", [made])], "host"), tmp_path / "host.html")
    opened = watched.open(tmp_path / "host.html")
    assert opened.locator("canvas").is_hidden()
    assert "recording does not say where things are" in opened.locator(".caption").inner_text()
    assert opened.locator(".strip").count() == 6
    assert not watched.wrong, watched.wrong


def test_a_view_without_a_scene_is_drawn_as_it_is() -> None:
    made = embedded(recording("spread", scene=""))
    marks = {layer["at"]["field"] for layer in made["scene"]["layers"] if layer["kind"] == "marks"}
    assert marks == {"position", "landmark"} and "position" in made["columns"]


@pytest.mark.parametrize("text", ["{", "7", "[]", '{"layers": 1}', '{"layers": ["a"]}'])
def test_a_scene_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(RunError, match="The scene of the recording is none"):
        embedded(recording("spread", scene=text))


@pytest.mark.parametrize(
    "text",
    [
        '{"low": [0, 0], "high": [0, 1], "layers": []}',
        '{"low": [0, 0], "high": [NaN, 1], "layers": []}',
        '{"layers": []}',
    ],
)
def test_a_scene_needs_a_box(text: str) -> None:
    with pytest.raises(RunError, match="The scene of the recording is none"):
        embedded(recording("spread", scene=text))


def test_edited_recordings_show_what_is_left_of_them() -> None:
    """Dimensions in another order, and whole numbers as floating-point ones, are the same."""
    other = EARLY.assign(
        probability=EARLY.probability.transpose("action", "agent", "step", "episode")
    )
    assert embedded(other.astype(np.float64))["columns"] == embedded(EARLY)["columns"]
    some = embedded(EARLY.assign_coords(opponent=EARLY.agent.values[::-1]))["columns"]
    assert not {"coordination", "attention"} & set(some) and "reward" in some
    flat = embedded(EARLY.assign(delta=EARLY.delta.isel(agent=0)))["columns"]
    assert "delta" not in flat
    infinite = EARLY.assign(reward=EARLY.reward.astype(float) * 1e308)
    as_script(embedded(infinite))
    assert embedded(EARLY.assign(position=EARLY.position.astype(str)))["scene"] is None
    nowhere = EARLY.assign_attrs(scene="") * np.nan
    nowhere["length"] = EARLY.length
    assert embedded(nowhere.assign_attrs(EARLY.attrs | {"scene": ""}))["scene"] is None


def test_agents_of_both_sides_can_be_chosen(watched: Watched, tmp_path: Path) -> None:
    both = [Source(name, [recording(name)]) for name in ("spread", "pursuit")]
    write_page(page(both, "both"), tmp_path / "both.html")
    opened = watched.open(tmp_path / "both.html")
    opened.locator(".agents button").nth(7).click()
    assert watched.state("chosen") == 7
    assert not watched.wrong, watched.wrong


def test_parts_of_a_recording_are_played(watched: Watched, tmp_path: Path) -> None:
    """Episodes keep their numbers, one step is a dot, and no edges lead to agents cut off."""
    whole = EARLY.assign_coords(episode=np.arange(3))
    part = whole.isel(episode=[1, 2], agent=[0], step=[0], moment=[0, 1])
    part["length"] = part.length * 0 + 1
    write_page(page([Source("part", [part])], "part"), tmp_path / "part.html")
    opened = watched.open(tmp_path / "part.html")
    shown = opened.locator("#episode option").all_inner_texts()
    assert [text.split(":")[0] for text in shown] == ["1", "2"]
    assert opened.locator("canvas").is_hidden() and opened.locator("#edges").count() == 0
    assert "does not say where things are" in opened.locator(".caption").inner_text()
    line = opened.locator('[data-name="reward"] .line').get_attribute("d")
    assert line.startswith("M1 ") and line.endswith("h0")
    assert not watched.wrong, watched.wrong


def test_ten_episodes_of_pursuit_fit_two_megabytes() -> None:
    """With numbers that change as much from step to step as those of policies do."""
    made = recording("pursuit", steps=500, episodes=10, drift=0.3)
    assert 5e5 < len(page([Source("pursuit", [made])], "pursuit")) < 2e6


def test_only_what_is_shown_is_on_the_page() -> None:
    text = page([Source("x", [EARLY])], "x")
    assert '"obs"' not in text and '"velocity"' not in text and '"reward"' in text


def test_data_cannot_leave_its_element() -> None:
    assert not re.search(r"[<>&]|[^\x00-\x7f]", as_script({"a": HOSTILE}))


def test_a_column_is_small_where_nothing_moves() -> None:
    assert len(column(np.ones((10, 26, 16)))["data"]) < 200
    raw = zlib.decompress(base64.b64decode(column(np.arange(6).reshape(1, 3, 2))["data"]))
    assert list(raw) == [0, 2, 2, 1, 2, 2]


def test_what_is_not_ours_is_not_written_over(tmp_path: Path) -> None:
    taken = tmp_path / "mine.html"
    taken.write_text("<p>mine")
    with pytest.raises(OutputError, match="mine.html exists and is no page of mamt view"):
        check_page(taken)
    with pytest.raises(OutputError, match=r"must end in \.html"):
        check_page(tmp_path / "page.txt")
    with pytest.raises(OutputError, match="Cannot write"):
        check_page(tmp_path / "nowhere" / "page.html")
    assert taken.read_text() == "<p>mine" and list(tmp_path.iterdir()) == [taken]
    ours = tmp_path / "ours.html"
    for title in ("one", "two"):
        write_page(page([Source("x", [EARLY])], title), ours)
    assert "<title>two</title>" in ours.read_text()
