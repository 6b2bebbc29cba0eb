"""What pages take from the code and from records: tables of settings, options, results, files.

A line ``<!-- table: KIND NAME -->`` of a page is replaced by what :data:`TABLES` makes of it when
the site is built, so that no default and no number is copied by hand. ``python -m docs.generate
PAGE`` prints a page as it is built. Nothing here needs mkdocs.
"""

from __future__ import annotations

import ast
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, get_args, get_origin

from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.cli.flags import plain, texts_of_fields
from mamt_jax.config import Execution, TrainConfig
from mamt_jax.envs.base import EnvSpec
from mamt_jax.experiments.paper import NAMES, TABLE10
from mamt_jax.experiments.references import references
from mamt_jax.experiments.studies import STUDIES, Run
from mamt_jax.settings.fields import fields_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
_LINE = re.compile(r"^<!-- table: (?P<kind>\w+)(?: (?P<name>\S+))? -->$", re.MULTILINE)
_COMPOSITIONS = ROOT / "mamt_jax" / "algorithms" / "compositions.py"
_HOSTED = ("multiwalker_host", "pettingzoo")
"""Environments whose spec is read from an open copy of PettingZoo's."""


class Record(NamedTuple):
    """A run under ``results/``."""

    file: Path
    """Below ``results/``."""
    run: Run
    """What its study says of it: records from before a setting was one do not have it."""
    about: dict[str, Any]


def filled(page: str) -> str:
    """A page's text with its tables.

    Raises:
        KeyError: It asks for a table that there is not.
    """
    return _LINE.sub(lambda found: TABLES[found["kind"]](found["name"]), page)


def settings(algorithm: str) -> str:
    """Settings of an algorithm, a table for each of its parts."""
    parts = registry.get(algorithm).settings.parts
    return "\n".join(_of_part(part, part.group, type(part).__doc__ or "") for part in parts)


def run_settings(_: str | None) -> str:
    """Settings that every run has."""
    run = _of_part(TrainConfig(), "run", "What is trained, and how long.")
    return run + "\n" + _of_part(Execution(), "execution", Execution.__doc__ or "")


def _of_part(part: Any, group: str, text: str) -> str:
    texts = texts_of_fields(type(part))
    settled = part.settled() if hasattr(part, "settled") else part
    rows = []
    for name, kind in fields_of(type(part)).items():
        value = getattr(settled, name)
        number = "number" if kind.is_number else "structure"
        rows.append(
            (f"`{name}`", _code(value), _accepted(kind), number, _said(texts.get(name, "")))
        )
    heading = f"**{group}** — {plain(text.strip().partition(chr(10))[0])}"
    return f"{heading}\n\n{table(('setting', 'default', 'accepts', 'is', 'meaning'), rows)}"


def _accepted(kind: Any) -> str:
    if get_origin(kind.kind) is not None and not isinstance(kind.kind, type):
        named = [_code(each) for each in get_args(kind.kind) if isinstance(each, str)]
        text = ", ".join(named) if named else ""
    else:
        text = {int: "integer", float: "number", bool: "true or false", str: "name"}[kind.kind]
    return ", ".join([text, *(each.text for each in kind.accepts)]).strip(", ")


def options(env: str) -> str:
    """Options of an environment, with their defaults."""
    found = envs._constructor(env)
    texts = _option_texts(found)
    rows = [(f"`{n}`", _code(v), _said(texts.get(n, ""))) for n, v in envs.options(env).items()]
    return table(("option", "default", "meaning"), rows)


def _option_texts(kind: type) -> dict[str, str]:
    """What docstrings of a class and of those it inherits from say of options."""
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        for holder in (each, vars(each).get("__init__")):
            found |= _entries(inspect.cleandoc(getattr(holder, "__doc__", None) or ""))
    return found


def _entries(text: str) -> dict[str, str]:
    """``name: text`` entries of a docstring's section Attributes or Args."""
    _, _, section = re.sub(r"^(Attributes|Args):$", "\0", text, flags=re.MULTILINE).partition("\0")
    section = section.partition("\n\n")[0]
    entries = re.split(r"^\s{2,4}(?=\**\w+: )", section, flags=re.MULTILINE)[1:]
    pairs = (" ".join(entry.split()).partition(": ") for entry in entries)
    return {name.strip("*"): said for name, _, said in pairs}


def spec(env: str) -> str:
    """What an environment's spec says, at its default options."""
    found: EnvSpec = envs.make(env).spec
    names = found.action_names
    rows = [
        ("agents", ", ".join(f"`{each}`" for each in found.agents)),
        ("observation sizes", ", ".join(map(str, found.obs_sizes))),
        ("actions", ", ".join(map(str, found.action_counts))),
        ("steps of an episode", str(found.episode_length)),
        ("replay stores observations as", f"`{found.obs_dtype}`"),
        ("agents may leave", "yes" if found.agents_may_leave else "no"),
        ("teams", str(found.teams or "not said")),
    ]
    if names:
        each = dict.fromkeys(names)
        rows.insert(3, ("names of actions", "; ".join(", ".join(one) for one in each)))
    return table(("", "at the default options"), rows)


def levels(env: str) -> str:
    """Reference returns of an environment, and the paper's."""
    known = references(TrainConfig(env=env))
    if known is None:
        return "No reference returns are kept for this environment.\n"
    rows = [(who, f"{value:g}", "measured") for who, value in known.measured.items()]
    rows += [
        (NAMES[name], f"{each.mean:.2f} ± {each.std:.2f}", "the paper, Table 10")
        for name, each in TABLE10[env].items()
    ]
    return table(("policy", "return", "source"), rows)


def results(name: str) -> str:
    """Recorded runs of an algorithm or on an environment."""
    of_algorithm = name in registry.ALGORITHMS
    found = [r for r in records() if name in (r.run.algorithm, r.run.env)]
    if not found:
        return "No run is recorded.\n"
    rows = []
    for run, about, file in ((r.run, r.about, r.file) for r in found):
        last = about["last_return"]
        std = "" if last["std"] is None else f" ± {last['std']:.2f}"
        which = f"`{run.env if of_algorithm else run.algorithm}`"
        commit = str(about["versions"].get("git_commit") or "")[:7]
        link = f"[{file.with_suffix('')}](../results/{file})"
        size = f"{len(about['return_mean'])}", f"{about['episode'][-1]:,}"
        rows.append((which, f"{last['mean']:.2f}{std}", *size, _other(run), link, commit))
    heads = "environment" if of_algorithm else "algorithm", "return", "seeds", "episodes"
    shown = table((*heads, "other than today's defaults", "record", "commit"), rows)
    return shown + (
        "\nReturn: of the last 1,000 training episodes (of runs shorter than 2,000: of the last "
        "tenth), mean ± sample standard deviation over seeds.\n"
    )


@cache
def records() -> tuple[Record, ...]:
    """All runs under ``results/``, by folder; each belongs to a study."""
    runs = {run.record: run for study in STUDIES.values() for run in study.runs if run.record}
    found = []
    for file in sorted(RESULTS.rglob("*.json")):
        about = json.loads(file.read_text(encoding="utf-8"))
        if isinstance(about, dict) and {"config", "last_return", "versions"} <= about.keys():
            place = file.relative_to(RESULTS)
            found.append(Record(place, runs[place.with_suffix("").as_posix()], about))
    return tuple(found)


def _other(run: Run) -> str:
    """Settings of a recorded run that are not what they are by default now."""
    own = registry.get(run.algorithm).settings.flat()
    chosen = dict(run.settings) | {n: v for n, v in run.recorded.items() if n in own}
    named = [f"`{n}={v}`" for n, v in chosen.items() if n != "log_interval"]
    stopped = [f"stopped after {run.stopped_at:,} updates"] if run.stopped_at else []
    return ", ".join(named + stopped) or "–"


def files(algorithm: str) -> str:
    """Files that an algorithm is composed of, from what its composition names."""
    tree = ast.parse(_COMPOSITIONS.read_text(encoding="utf-8"))
    homes = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    makers = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    wanted, used = [makers[algorithm]], dict[str, list[str]]()
    for maker in wanted:
        for node in ast.walk(maker):
            if isinstance(node, ast.Name) and node.id in makers and makers[node.id] not in wanted:
                wanted.append(makers[node.id])
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                home = homes.get(node.func.id)
                if home and not home.startswith(("mamt_jax.settings", "mamt_jax.types")):
                    used.setdefault(home, []).append(node.func.id)
    rows = [("`mamt_jax/algorithms/compositions.py`", f"`{algorithm}`", "the composition")]
    for home, names in used.items():
        path = Path(*home.split(".")).with_suffix(".py")
        text = ast.get_docstring(ast.parse((ROOT / path).read_text(encoding="utf-8"))) or ""
        calls = ", ".join(f"`{each}`" for each in dict.fromkeys(names))
        rows.append((f"`{path}`", calls, text.partition("\n")[0]))
    return table(("file", "what is used of it", "what it holds"), rows)


def algorithms(_: str | None) -> str:
    """All registered algorithms."""
    rows = [
        (
            f"[`{name}`]({name}.md)",
            recipe.summary,
            ", ".join(p.group for p in recipe.settings.parts),
        )
        for name, recipe in registry.ALGORITHMS.items()
    ]
    return table(("name", "what it is", "its parts"), rows)


def environments(_: str | None) -> str:
    """All registered environments."""
    rows = []
    for name, summary in envs.summaries().items():
        found = None if name in _HOSTED else envs.make(name).spec
        n = "" if found is None else str(found.num_agents)
        length = "" if found is None else str(found.episode_length)
        rows.append((f"`{name}`", summary, n, length))
    return table(("name", "what it is", "agents", "steps of an episode"), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table, with a newline at its end."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(_cell(each) for each in line)} |\n" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _said(text: str) -> str:
    """A docstring's text; ``[n, 4]`` is no link in it."""
    return text.replace("[", "&#91;")


def _code(value: Any) -> str:
    """A value as it is written in Python."""
    return f"`{value:g}`" if isinstance(value, float) else f"`{value!r}`"


TABLES: dict[str, Callable[[Any], str]] = {
    "algorithms": algorithms,
    "environments": environments,
    "files": files,
    "levels": levels,
    "options": options,
    "results": results,
    "run_settings": run_settings,
    "settings": settings,
    "spec": spec,
}
"""What makes a table, by the kind that pages name."""


if __name__ == "__main__":
    print(filled(Path(sys.argv[1]).read_text(encoding="utf-8")))
