"""Code on pages runs where the page says so, all of it can be read, commands take their flags."""

from __future__ import annotations

import ast
import re
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import mamt_jax
from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.cli.main import parse
from tests.docs.pages import DOCS, PAGES, ROOT, blocks, name
from tests.docs.test_pages import resolved

TUTORIAL = DOCS / "tutorial.md"
RUNNING = [page for page in PAGES if any(block.run for block in blocks(page, "python"))]
COMMAND_LINES = [
    (name(page), line)
    for page in PAGES
    for block in blocks(page, "sh")
    for line in block.code.splitlines()
]
TINY: dict[str, Any] = {
    "seeds": 3, "episodes": 4, "num_envs": 4, "log_interval": 4, "hidden_size": 8,
    "attention_heads": 2, "batch_size": 8, "buffer_size": 200, "evaluation_interval": 0,
}  # fmt: skip


def test_python_can_be_read_and_imports_what_there_is() -> None:
    found = [(page, block) for page in PAGES for block in blocks(page, "python")]
    assert len(found) > 15
    for page, block in found:
        tree = ast.parse(block.code, name(page))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mamt_jax"):
                for each in node.names:
                    assert resolved(f"{node.module}.{each.name}") is not None
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "mamt_jax.train":
                check_keywords(node)


def check_keywords(call: ast.Call) -> None:
    """Settings that a page gives to train are settings of that algorithm."""
    algorithm = call.args[0].value if isinstance(call.args[0], ast.Constant) else "mamt"
    names = {each.arg for each in call.keywords} - {"out", "resume", "progress", "callback"}
    mamt_jax.make_config(algorithm=algorithm)
    known = (
        registry.get(str(algorithm)).settings.flat().keys() | vars(mamt_jax.TrainConfig()).keys()
    )
    assert names <= known | vars(mamt_jax.TrainConfig().execution).keys()


@pytest.mark.parametrize("page", [page for page in RUNNING if page != TUTORIAL], ids=name)
def test_what_is_said_to_run_runs(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if "pettingzoo" in page.name:
        pytest.importorskip("pettingzoo")
    monkeypatch.setattr(envs, "_REGISTRY", dict(envs._REGISTRY))
    run(page, monkeypatch)
    assert "Traceback" not in capsys.readouterr().err


def run(page: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A page's blocks one after another, as one module; returns its names."""
    module = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", module)
    for block in blocks(page, "python"):
        if block.run:
            exec(compile(block.code, name(page), "exec"), vars(module))
    return vars(module)


@pytest.mark.slow
def test_the_tutorial_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    train = mamt_jax.train
    monkeypatch.setattr(mamt_jax, "train", lambda *what, **asked: train(*what, **asked | TINY))
    names = run(TUTORIAL, monkeypatch)
    assert names["run"].path == tmp_path / "runs" / "first"
    assert names["seen"].action.shape == (25, 2, 2)
    assert capsys.readouterr().out.count("\n") >= 6


@pytest.mark.parametrize(("page", "line"), COMMAND_LINES, ids=[line for _, line in COMMAND_LINES])
def test_commands_take_what_pages_give_them(page: str, line: str) -> None:
    program, *arguments = shlex.split(line)
    if program == "make":
        goals = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        assert arguments[0] in goals
    elif program == "pip":
        extras = re.findall(r"\[([\w,]+)\]", line)
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        assert all(f"\n{each} = [" in text for extra in extras for each in extra.split(","))
    elif program == "python":
        assert arguments[0] == "-m" and find_spec(arguments[1])
    else:
        assert program == "mamt"
        read(arguments)


def read(arguments: list[str]) -> None:
    """Parses a command line as ``mamt`` does; of runs and files of one's own, the flags alone."""
    left = ["mamt" if each == "variants:mamt_fixed_ws" else each for each in arguments]
    parse([each for each in left if each != "--resume"])
