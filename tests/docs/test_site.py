"""The site as it is built: needs what ``make docs`` installs, and is skipped without."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.docs.pages import ROOT, nav

pytest.importorskip("mkdocs", reason="The site is built by make docs, which installs mkdocs.")
pytest.importorskip("latex2mathml", reason="make docs installs what reads formulas.")

PAGE = SimpleNamespace(file=SimpleNamespace(src_uri="page.md"))


def test_a_formula_that_cannot_be_read_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    from docs.hooks import on_page_content

    read = '<span class="arithmatex">\\(a_i &lt; b\\)</span>'
    with caplog.at_level(logging.WARNING, "mkdocs"):
        made = on_page_content(read, PAGE, None, None)  # type: ignore[arg-type]
        assert made.startswith("<math") and "<msub>" in made and not caplog.records
        on_page_content(read.replace("a_i", "\\nonsense"), PAGE, None, None)  # type: ignore[arg-type]
    assert "nonsense" in caplog.text and "page.md" in caplog.text


def test_roles_of_docstrings_are_plain_names() -> None:
    from docs.hooks import on_page_content

    text = "see :class:<code>~mamt_jax.types.Game</code> and :func:<code>load</code>"
    made = on_page_content(text, PAGE, None, None)  # type: ignore[arg-type]
    assert made == "see <code>Game</code> and <code>load</code>"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_asks_for_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    for page in nav():
        place = re.sub(r"README\.md$", "index.html", page.replace("PROFILE.md", "PROFILE.html"))
        html = (tmp_path / re.sub(r"\.md$", ".html", place)).read_text(encoding="utf-8")
        assert "<!-- table:" not in html and "arithmatex" not in html
        fetched = re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="([^"]+)"', html
        )
        assert fetched and not [each for each in fetched if "//" in each]
