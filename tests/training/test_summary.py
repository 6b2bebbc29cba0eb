"""What a run says of itself in a shell and in a notebook."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

from mamt_jax.config import make_config
from mamt_jax.training.metrics import Recorder
from mamt_jax.training.summary import as_html, as_text
from tests.reports.records import diverging, made_up


class Tags(HTMLParser):
    """Tags and cells of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.cells: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.cells.append(data)


def test_facts_of_a_run() -> None:
    """Four seeds of 3,000 episodes; the last tenth returns between -37 and -36.7."""
    config = make_config(algorithm="maac", seeds=4, seed=0, env_options={"num_agents": 3})
    metrics = made_up(set()).assign_attrs(wall_seconds=3725.4)
    text = as_text(config, metrics, Path("runs/x"))
    for line in (
        "algorithm    maac",
        "environment  spread (num_agents=3)",
        "seeds        0 to 3",
        "episodes     3,000 finished, 10,000 of full length planned",
        "updates      232 per seed",
        "wall-clock   1:02:05",
        "path         runs/x",
    ):
        assert f"  {line}" in text.splitlines()
    last = metrics.return_mean.values[:, -10:].mean(axis=1)  # 1,000 episodes
    assert f"{last.mean():.2f} ± {last.std(ddof=1):.2f} (of the last 1,000 episodes" in text
    assert "diverged" not in text
    page = Tags(as_html(config, metrics, None))
    assert page.tags == {"table", "tbody", "tr", "th", "td"}
    assert page.cells[-2:] == ["path", "in memory"] and "1:02:05" in page.cells


def test_any_path_is_one_line_that_can_be_written() -> None:
    metrics = made_up(set())
    path = Path("a\nb\x1b[31m\udcff")
    text = as_text(make_config(seeds=4), metrics, path)
    assert text.splitlines()[-1].split() == ["path", r"$'a\x0ab\x1b[31m\xff'"]
    as_html(make_config(seeds=4), metrics, path).encode()


def test_seeds_that_diverged_are_named_and_left_out() -> None:
    config, metrics = make_config(seeds=4), made_up(set())
    text = as_text(config, diverging(metrics, {0: 1200, 2: 30}), None)
    assert "seed 0 at update 1,200, seed 2 at update 30" in text
    last = metrics.return_mean.values[[1, 3], -10:].mean(axis=1)
    assert f"{last.mean():.2f} ± " in text and "nan" not in text
    nothing = diverging(metrics, dict.fromkeys(range(4), 7))
    assert "all seeds diverged" in as_text(config, nothing, None)


def test_runs_of_which_there_is_little_yet() -> None:
    config = make_config(seeds=1, seed=5)
    text = as_text(config, Recorder([5], 4).to_dataset(), None)
    assert "0 finished" in text and "no episode has ended yet" in text and "0 per seed" in text
    one = as_text(config, made_up(set(), seeds=1, points=1), None)
    assert "±" not in one and "seeds        5" in one


def test_nothing_in_a_page_is_taken_for_a_tag() -> None:
    bad = "<script>alert('&')</script>"
    config = make_config(env_options={"module": bad, "long": "x" * 500, bad: 1})
    html = as_html(config, made_up(set()), Path(f"runs/{bad}"))
    page = Tags(html)
    assert page.tags == {"table", "tbody", "tr", "th", "td"} and "<script" not in html
    assert f"runs/{bad}" in "".join(page.cells) and "x" * 100 not in html
