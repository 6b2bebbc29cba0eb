"""Imports point one way: envs <- ops <- networks <- algorithms <- trajectories <- training <-
reports <- sweeps <- cli.

By package, and by file: no file is in a circle, imports inside of functions counted. An import that
only a type checker reads may close one, and is written down here then.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import NamedTuple

OURS = ("mamt_jax", "benchmarks")
ROOT = Path(__file__).resolve().parents[1]
LEAVES = {
    "mamt_jax",
    "mamt_jax.backend",
    "mamt_jax.errors",
    "mamt_jax.files",
    "mamt_jax.lookup",
    "mamt_jax.policies",
    "mamt_jax.quantities",
    "mamt_jax.settings",
    "mamt_jax.types",
}
OPS = LEAVES | {"mamt_jax.ops"}
NETWORKS = OPS | {"mamt_jax.networks"}
REGISTRY = {"mamt_jax.algorithms.registry"}
ALGORITHMS = NETWORKS | {"mamt_jax.algorithms"}
CONFIG = LEAVES | REGISTRY | {"mamt_jax.config"}
PLAYED = {"mamt_jax.envs", "mamt_jax.trajectories"}
TRAINING = PLAYED | {"mamt_jax.env_options", "mamt_jax.analysis", "mamt_jax.training"}
REPORTS = TRAINING | {"mamt_jax.reports"}
SWEEPS = REPORTS | {"mamt_jax.sweeps"}
PAPER = {"mamt_jax.experiments.paper", "mamt_jax.experiments.references"}
ALLOWED: dict[str, set[str]] = {
    "mamt_jax.backend": set(),
    "mamt_jax.errors": set(),
    "mamt_jax.files": {"mamt_jax.errors"},
    "mamt_jax.lookup": {"mamt_jax.errors"},
    "mamt_jax.policies": set(),
    "mamt_jax.quantities": set(),
    "mamt_jax.settings": {"mamt_jax.errors"},
    "mamt_jax.types": LEAVES,
    "mamt_jax.envs": {"mamt_jax.errors", "mamt_jax.lookup"},
    "mamt_jax.env_options": LEAVES | {"mamt_jax.envs"},
    "mamt_jax.ops": LEAVES,
    "mamt_jax.analysis": OPS,
    "mamt_jax.networks": OPS,
    "mamt_jax.algorithms": NETWORKS,
    "mamt_jax.algorithms.registry": LEAVES,  # names builders, and imports none
    "mamt_jax.config": CONFIG,
    "mamt_jax.trajectories": LEAVES | {"mamt_jax.envs"},
    # What a live page needs of a learner's state lies in its records.
    "mamt_jax.trajectories.viewer.weights": LEAVES | ALGORITHMS,
    # Training knows the Algorithm protocol and reaches algorithms through the registry alone.
    "mamt_jax.training": OPS | CONFIG | TRAINING,
    "mamt_jax.reports": OPS | CONFIG | REPORTS | PAPER,
    "mamt_jax.sweeps": OPS | CONFIG | SWEEPS,
    "mamt_jax.cli": ALGORITHMS | CONFIG | SWEEPS,
    # The one command that is about the paper.
    "mamt_jax.cli.reproduce": CONFIG | {"mamt_jax.cli.flags", "mamt_jax.experiments.reproduce"},
    "mamt_jax.registration": LEAVES | REGISTRY | {"mamt_jax.envs"},
    "mamt_jax": CONFIG
    | {
        "mamt_jax.training.points",
        "mamt_jax.training.pretrained",
        "mamt_jax.training.run",
        "mamt_jax.training.result",
        "mamt_jax.reports.comparison",
        "mamt_jax.sweeps.run",
    }
    | {"mamt_jax.trajectories.recording"}
    | {"mamt_jax.envs", "mamt_jax.registration"},
    "mamt_jax.__main__": {"mamt_jax.cli.main"},  # ``python -m mamt_jax`` is ``mamt``
    "mamt_jax.experiments": ALGORITHMS | CONFIG | SWEEPS | {"mamt_jax.cli"},
    "benchmarks": ALGORITHMS | CONFIG | SWEEPS | {"mamt_jax.cli"},
}
"""What a package may import of ours besides itself; the longest matching name counts."""

CLOSING = {"mamt_jax"}
"""Files whose imports for type checkers close circles: of names that they find on first use."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


class Imports(NamedTuple):
    """What a file imports of anybody's, modules or names in them."""

    run: list[str]
    """What is imported when the program runs, inside of functions, too."""
    typed: list[str]
    """What only a type checker reads."""


def imported(path: Path) -> Imports:
    found = Imports([], [])
    pending = [(ast.parse(path.read_text(encoding="utf-8")), found.run)]
    while pending:
        node, names = pending.pop()
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += [(each, found.typed) for each in node.body]
            pending += [(each, names) for each in node.orelse]
        else:
            pending += [(each, names) for each in ast.iter_child_nodes(node)]
    return found


def inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def may_import(importer: str, name: str) -> bool:
    home = max((package for package in ALLOWED if inside(importer, package)), key=len)
    if home != "mamt_jax" and inside(name, home):
        return True
    for package in ALLOWED[home]:
        # The bare package stands for its own names, such as mamt_jax.MamtError, not for all inside.
        if package == "mamt_jax":
            if name == package or (name.count(".") == 1 and not is_module(name)):
                return True
        elif inside(name, package):
            return True
    return False


def is_module(name: str) -> bool:
    path = ROOT / Path(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").exists()


def files(folder: Path) -> list[Path]:
    """Python files of a package, those of linked folders too."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            found += files(path)
        elif path.suffix == ".py":
            found.append(path)
    return found


Edges = list[tuple[str, str]]
"""Importing modules, and modules or names of ours that they import."""


def edges() -> tuple[Edges, Edges]:
    """Those of the running program, and those of type checkers alone."""
    run: Edges = []
    typed: Edges = []
    for path in [path for package in OURS for path in files(ROOT / package)]:
        for found, names in zip((run, typed), imported(path), strict=True):
            ours = [name for name in names if name.split(".")[0] in OURS]
            found += [(module_name(path), name) for name in ours]
    return run, typed


def circles(pairs: Edges) -> set[str]:
    """Files that import themselves by way of others, all files of one circle in a line.

    A name in a package is the file of that name or, where there is none, the ``__init__.py``.
    """
    importing: dict[str, set[str]] = {}
    for importer, name in pairs:
        target = name if is_module(name) else name.rpartition(".")[0]
        importing.setdefault(importer, set()).add(target)
    reached = {}
    for start in importing:
        seen: set[str] = set()
        pending = [start]
        while pending:
            new = importing.get(pending.pop(), set()) - seen
            seen |= new
            pending += new
        reached[start] = seen
    return {
        " - ".join(sorted(other for other in seen if start in reached.get(other, ())))
        for start, seen in reached.items()
        if start in seen
    }


def test_imports_point_one_way() -> None:
    offending = [
        f"{importer} -> {name}"
        for importer, name in sum(edges(), [])
        if not may_import(importer, name)
    ]
    assert not offending, "imports against the direction:\n" + "\n".join(offending)


def test_the_rule_can_fail() -> None:
    for importer, name in (
        ("mamt_jax.envs.spread", "mamt_jax.config.ConfigError"),
        ("mamt_jax.ops.losses", "mamt_jax.networks.critic.Critic"),
        ("mamt_jax.networks.critic", "mamt_jax.algorithms.registry.make"),
        ("mamt_jax.algorithms.registry", "mamt_jax.training.run.train"),
        ("mamt_jax.training.trainer", "mamt_jax.algorithms.actor_critic.actor_critic"),
        ("mamt_jax.training.run", "mamt_jax.cli.main.entry"),
        ("mamt_jax.reports.record", "mamt_jax.cli.guard.guarded"),
        ("mamt_jax.reports.report", "mamt_jax.sweeps.run.sweep"),
        ("mamt_jax.sweeps.run", "mamt_jax.cli.sweep.parse"),
        ("mamt_jax.trajectories.frames", "mamt_jax.training.policies.Policies"),
        ("mamt_jax.analysis.statistics", "mamt_jax.training.run.train"),
    ):
        assert not may_import(importer, name), f"{importer} -> {name}"
    assert len(edges()[0]) > 50


def test_no_file_is_in_a_circle() -> None:
    assert not circles(edges()[0])


def test_circles_of_types_are_known() -> None:
    run, typed = edges()
    closing = {pair for pair in typed if circles([*run, pair]) != circles(run)}
    assert {importer for importer, _ in closing} == CLOSING, closing


def test_circles_are_found(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(
        "from typing import TYPE_CHECKING\n"
        "import mamt_jax.types\n"
        "if TYPE_CHECKING:\n"
        "    from mamt_jax import errors\n"
        "def later():\n"
        "    from mamt_jax.config import check\n"
    )
    found = imported(file)
    assert sorted(found.run) == ["mamt_jax.config.check", "mamt_jax.types", "typing.TYPE_CHECKING"]
    assert found.typed == ["mamt_jax.errors"]
    chain = [("mamt_jax.config", "mamt_jax.errors.close_to"), ("mamt_jax.files", "mamt_jax.config")]
    assert not circles(chain)
    closed = circles([*chain, ("mamt_jax.errors", "mamt_jax.files.quoted")])
    assert closed == {"mamt_jax.config - mamt_jax.errors - mamt_jax.files"}
    assert circles([("mamt_jax.config", "mamt_jax.RunError"), ("mamt_jax", "mamt_jax.config")])
