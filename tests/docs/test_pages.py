"""Pages are all there, name what there is, and say what the code and the records say."""

from __future__ import annotations

import ast
import json
import re
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import mamt_jax
from docs.generate import ROOT, filled, table
from mamt_jax import envs
from mamt_jax.algorithms import registry
from tests.docs.pages import DOCS, PAGES, name, nav

PUBLIC = {
    "mamt_jax.algorithms.actor_critic",
    "mamt_jax.algorithms.compositions",
    "mamt_jax.algorithms.coordination",
    "mamt_jax.algorithms.critics",
    "mamt_jax.algorithms.deterministic",
    "mamt_jax.algorithms.learned_region",
    "mamt_jax.algorithms.learner",
    "mamt_jax.algorithms.nonstationarity",
    "mamt_jax.algorithms.opponent_shaping",
    "mamt_jax.algorithms.parts",
    "mamt_jax.algorithms.proximal",
    "mamt_jax.algorithms.registry",
    "mamt_jax.algorithms.trust_region",
    "mamt_jax.envs.scene",
    "mamt_jax.quantities",
    "mamt_jax.reports.record",
    "mamt_jax.settings.fields",
    "mamt_jax.settings.parts",
    "mamt_jax.settings.tree",
    "mamt_jax.trajectories.recording",
    "mamt_jax.trajectories.trajectory",
    "mamt_jax.types",
}
"""Modules that users write against, beside ``mamt_jax``, ``mamt_jax.envs`` and the packages below;
each is in the reference."""
PACKAGES = ("mamt_jax.ops", "mamt_jax.analysis")
"""Every module of these is."""


@cache
def referenced() -> set[str]:
    text = "\n".join(
        page.read_text(encoding="utf-8") for page in PAGES if "reference" in name(page)
    )
    return set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def test_the_navigation_names_every_page_once() -> None:
    found = nav()
    assert len(found) == len(set(found))
    elsewhere = {"results/README.md", "benchmarks/README.md", "benchmarks/PROFILE.md"}
    assert set(found) == {name(page) for page in PAGES} | elsewhere
    assert all((ROOT / page).is_file() for page in elsewhere)


def test_every_algorithm_and_environment_has_a_page() -> None:
    assert {f"algorithms/{each}.md" for each in registry.ALGORITHMS} <= set(nav())
    about = "\n".join(
        filled(page.read_text(encoding="utf-8"))
        for page in PAGES
        if page.parent.name == "environments"
    )
    shared = {"spread3_sep", "spread3_mix", "spread3_ful", "multiwalker_host"}
    for each in envs.names():
        if each in shared or each.startswith("toy_"):
            assert f"`{each}`" in about
        else:
            assert f"environments/{each}.md" in nav()


def test_the_reference_has_all_that_is_public() -> None:
    wanted = {f"mamt_jax.{each}" for each in mamt_jax.__all__}
    wanted |= {f"mamt_jax.envs.{each}" for each in envs.__all__} | PUBLIC
    for package in PACKAGES:
        (folder,) = import_module(package).__path__
        files = (file for file in Path(folder).glob("*.py") if file.stem != "__init__")
        wanted |= {f"{package}.{file.stem}" for file in files}
    assert wanted - referenced() == set()


def test_the_reference_names_what_there_is() -> None:
    for each in referenced():
        assert resolved(each) is not None, each


def resolved(path: str) -> Any:
    """A module or a name in one."""
    try:
        return import_module(path)
    except ModuleNotFoundError:
        home, _, last = path.rpartition(".")
        return getattr(resolved(home), last)


@pytest.mark.parametrize("algorithm", registry.ALGORITHMS)
def test_a_page_has_every_setting_with_its_default(algorithm: str) -> None:
    text = (DOCS / "algorithms" / f"{algorithm}.md").read_text(encoding="utf-8")
    page = filled(text)
    assert "<!-- table" not in page and text.count("$$") >= (0 if algorithm == "mamt_fixed" else 2)
    recipe = registry.get(algorithm)
    for setting, value in recipe.settings.settled().flat().items():
        shown = f"{value:g}" if isinstance(value, float) else repr(value)
        assert re.search(
            rf"^\| `{setting}` \| `{re.escape(shown)}` \| .*\S \|$", page, re.MULTILINE
        ), setting
    assert f"`{recipe.build.rpartition(':')[2]}`" in page


def test_results_are_those_of_the_records() -> None:
    page = filled("<!-- table: results mamt -->")
    for file in ("spread/mamt", "rover_tower/mamt"):
        record = json.loads((ROOT / "results" / f"{file}.json").read_text(encoding="utf-8"))
        last = record["last_return"]
        (row,) = (line for line in page.splitlines() if f"[{file}]" in line)
        assert f"| {last['mean']:.2f} ± {last['std']:.2f} |" in row
        assert f"| {record['config']['seeds']} |" in row
        assert record["versions"]["git_commit"][:7] in row
    assert "`delta_rule=penalty`" in row  # from before it was a setting, and not today's default
    assert filled("<!-- table: results mamt_fixed -->") == "No run is recorded.\n"


def test_options_of_environments_are_explained() -> None:
    for each in envs.names():
        rows = filled(f"<!-- table: options {each} -->").splitlines()[2:]
        assert len(rows) == len(envs.options(each))
        if not each.startswith(("toy_", "spread3_", "rover")):
            assert not [row for row in rows if row.endswith("|  |")], each


def test_cells_keep_tables_whole() -> None:
    assert table(("a",), [("b|c\nd",)]) == "| a |\n| --- |\n| b\\|c d |\n"


NAMED = re.compile(
    r"`(?P<file>(?:tests/)?[\w/]+/?test_\w+\.py)(?:::(?P<test>\w+))?`|`(?P<alone>test_\w+)`"
)


@pytest.mark.parametrize("page", [page for page in PAGES if "test_" in page.read_text()], ids=name)
def test_tests_that_pages_name_are_there(page: Path) -> None:
    here: set[str] = set()
    for found in NAMED.finditer(page.read_text(encoding="utf-8")):
        if found["file"]:
            file = ROOT / "tests" / found["file"].removeprefix("tests/")
            tree = ast.parse(file.read_text(encoding="utf-8"))
            here = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        test = found["test"] or found["alone"]
        assert test is None or test in here, found[0]
