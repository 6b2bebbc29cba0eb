"""The pages of the documentation, as files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
_BLOCK = re.compile(
    r"^(?P<run><!-- run -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """Code on a page."""

    language: str
    code: str
    run: bool
    """Whether the page says that it runs."""


def name(page: Path) -> str:
    """Below docs/."""
    return page.relative_to(DOCS).as_posix()


def blocks(page: Path, language: str) -> list[Block]:
    found = (
        Block(each["language"], each["code"], each["run"] is not None)
        for each in _BLOCK.finditer(page.read_text(encoding="utf-8"))
    )
    return [block for block in found if block.language == language]


def nav() -> list[str]:
    """Files that the navigation names."""
    config = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return list(_leaves(config["nav"]))


def _leaves(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    else:
        for each in node.values() if isinstance(node, dict) else node:
            yield from _leaves(each)
