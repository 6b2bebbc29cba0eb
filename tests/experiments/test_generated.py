"""What results/README.md has of records is what the records say."""

from __future__ import annotations

from pathlib import Path

import pytest

from mamt_jax.errors import RunError
from mamt_jax.experiments.generated import main, parts, updated

RESULTS = Path(__file__).resolve().parents[2] / "results"


def test_the_committed_parts_are_current() -> None:
    """After a change of records or rules: make results."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    assert updated(text, parts(RESULTS)) == text


def test_parts_take_the_place_of_what_was_there() -> None:
    text = "before\n<!-- a: generated -->\n\nold\n\n<!-- a: end -->\nafter\n"
    assert updated(text, {"a": "new\n"}) == text.replace("old", "new")
    with pytest.raises(RunError, match="no part between <!-- b: generated -->"):
        updated(text, {"b": "new"})


def test_links_lead_somewhere() -> None:
    made = parts(RESULTS)["verdicts"]
    links = {each.partition(")")[0] for each in made.split("](")[1:]}
    assert len(links) > 10 and all((RESULTS / link).exists() for link in links)


def test_one_sentence_without_a_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["generated", str(tmp_path)])
    assert main() == 1
    assert capsys.readouterr().err.endswith("README.md does not exist.\n")
