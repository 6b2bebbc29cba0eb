"""What mkdocs does beside its own work: tables, formulas, and files from outside of ``docs/``.

Formulas are turned into MathML while the site is built: pages need no script, no font and no
network for them, and one that cannot be read ends the build.
"""

from __future__ import annotations

import html
import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

from docs.generate import RESULTS, ROOT, filled, records

_LOG = logging.getLogger("mkdocs.hooks.docs")
_OUTSIDE = {
    "results/README.md": RESULTS / "README.md",
    "benchmarks/README.md": ROOT / "benchmarks" / "README.md",
    "benchmarks/PROFILE.md": ROOT / "benchmarks" / "PROFILE.md",
}
"""Pages that lie elsewhere in the repository."""
_SHOWN = (".png", ".gif")
_LINK = re.compile(r"(?<!!)\[(?P<text>(?:[^\[\]]|\[[^\]]*\])*)\]\((?P<to>[^)\s]+)\)")
_FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<tex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)
_ROLE = re.compile(r":(?:class|func|meth|data|mod|exc|attr):<code>~?(?:[\w.]*\.)?(\w+)</code>")


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that lie elsewhere, and figures and records that pages show or link."""
    found = dict(_OUTSIDE)
    shown = [file for file in sorted(RESULTS.rglob("*")) if file.suffix in _SHOWN]
    for file in [*shown, *(RESULTS / record.file for record in records())]:
        found[file.relative_to(ROOT).as_posix()] = file
    for place, file in found.items():
        files.append(File.generated(config, place, abs_src_path=str(file)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Fills tables in; of pages from elsewhere, drops links to what the site does not have."""
    del config
    if page.file.src_uri not in _OUTSIDE:
        return filled(markdown)
    here = posixpath.dirname(page.file.src_uri)

    def link(found: re.Match[str]) -> str:
        to = found["to"].partition("#")[0]
        there = posixpath.normpath(posixpath.join(here, to))
        kept = not to or "://" in to or files.get_file_from_path(there) is not None
        return found[0] if kept else found["text"]

    return _LINK.sub(link, markdown).replace("<details>", "<details markdown>")


def on_page_content(content: str, page: Any, config: Any, files: Files) -> str:
    """Formulas as MathML, and roles of Sphinx in docstrings as plain names."""
    del config, files

    def formula(found: re.Match[str]) -> str:
        display = "block" if found["tag"] == "div" else "inline"
        tex = html.unescape(found["tex"]).strip()
        made = str(convert(tex, display=display))
        if "\\" in re.sub(r"<annotation.*?</annotation>", "", made, flags=re.DOTALL):
            _LOG.warning("%s: the formula %r cannot be read.", page.file.src_uri, tex)
        return made if display == "inline" else f'<div class="formula">{made}</div>'

    return _ROLE.sub(r"<code>\1</code>", _FORMULA.sub(formula, content))


def on_config(config: Any) -> Any:
    """Refuses to build in another folder's name."""
    if Path(config.config_file_path).parent != ROOT:
        _LOG.warning("docs is that of %s.", ROOT)
    return config
