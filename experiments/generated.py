"""Parts of results/README.md that are made of records: the verdicts and Table 10.

    python -m mamt_jax.experiments.generated results

They stand between two comments each; whatever is around them is written by hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mamt_jax.cli.guard import guarded
from mamt_jax.errors import RunError
from mamt_jax.experiments.claims import CLAIMS, OPEN, verdicts
from mamt_jax.experiments.paper import TABLE10
from mamt_jax.experiments.reproduce import everything, places
from mamt_jax.experiments.sheet import NONE, Sheet, to_markdown
from mamt_jax.experiments.tables import OURS, PAPERS, Found, returns
from mamt_jax.files import user_path, write_whole

BUDGET = "cpu"
"""Of the records in the repository."""


def parts(results: Path) -> dict[str, str]:
    """The generated parts, by name, as Markdown.

    Args:
        results: Folder of records.
    """
    found = everything(BUDGET, places(results / "none", [results]))
    tables = [returns(env, (*PAPERS, *OURS), runs) for env, runs in found.items() if env in TABLE10]
    return {
        "verdicts": _verdicts(found),
        "table10": "\n".join(to_markdown(_lean(sheet)) for sheet in tables),
    }


def updated(text: str, made: dict[str, str]) -> str:
    """A document with its parts replaced.

    Raises:
        RunError: It lacks the comments around one.
    """
    for name, content in made.items():
        begin, end = f"<!-- {name}: generated -->\n", f"<!-- {name}: end -->\n"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise RunError(f"The document has no part between {begin.strip()} and {end.strip()}.")
        text = f"{before}{begin}\n{content.strip()}\n\n{end}{after}"
    return text


def _verdicts(found: Found) -> str:
    """The verdicts on what was run, the rules, and what is open for lack of runs."""
    sheet = verdicts(found, BUDGET)
    targets = {each.text: each.target for each in CLAIMS}
    rows: list[list[str]] = []
    lacking: dict[str, list[str]] = {}
    for row in sheet.rows:
        cell = dict(zip(sheet.columns, row, strict=True))
        if cell["numbers"] == NONE:
            lacking.setdefault(cell["claim"], []).append(cell["environment"])
            continue
        said = cell["verdict"] if cell["verdict"] == OPEN else f"**{cell['verdict']}**"
        links = ", ".join(f"[{name}]({name}.json)" for name in cell["records"].split(", "))
        figure = f"[{targets[cell['claim']]}](paper/{targets[cell['claim']]}/)"
        same = (cell[each] for each in ("numbers", "episodes", "what it would take"))
        rows.append([cell["claim"], cell["environment"], said, *same, links, figure])
    columns = ["claim", "environment", "verdict", "numbers", "episodes (of the paper's)"]
    columns += ["what it would take", "records", "shown in"]
    title = "Verdicts on the paper's claims, and on ours beside them"
    table = to_markdown(Sheet(title, columns, rows, sheet.caption))
    runs = "; ".join(f"{text}: {', '.join(envs)}" for text, envs in lacking.items())
    by_rule: dict[str, list[str]] = {}
    for each in CLAIMS:
        where = "" if each.where == NONE else f" ({each.where})"
        by_rule.setdefault(each.rule, []).append(f"{each.text}{where}")
    rules = "\n".join(f"- {'; '.join(texts)}. {rule}" for rule, texts in by_rule.items())
    return (
        f"{table}\nOpen for lack of runs at this budget: {runs}. A row again, or the runs that it "
        f"lacks: `mamt reproduce NAME --env ENVIRONMENT`, NAME as in the last column.\n\n"
        f"<details><summary>What confirms and what refutes each claim</summary>\n\n{rules}\n\n"
        f"</details>"
    )


def _lean(sheet: Sheet) -> Sheet:
    """Without the rows that have nothing of ours."""
    own = sheet.columns.index("seeds")
    return sheet._replace(rows=[row for row in sheet.rows if row[own] != NONE])


def update(results: str | Path) -> None:
    """Writes the parts into README.md of a folder of records."""
    folder = user_path(results)
    file = folder / "README.md"
    if not file.is_file():
        raise RunError(f"{file} does not exist.")
    write_whole(file, updated(file.read_text(encoding="utf-8"), parts(folder)).encode())
    print(file)


def main() -> int:
    """Entry point of ``python -m mamt_jax.experiments.generated``."""
    parser = argparse.ArgumentParser(description="Updates what results/README.md has of records.")
    parser.add_argument("results", type=Path, help="folder of records, with README.md in it")
    chosen = parser.parse_args()
    return guarded(lambda: update(chosen.results))


if __name__ == "__main__":
    raise SystemExit(main())
