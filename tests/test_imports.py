"""Imports point one way: envs <- ops <- networks <- algorithms <- training <- reports <- cli."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LEAVES = {
    "mamt_jax",
    "mamt_jax.errors",
    "mamt_jax.settings",
    "mamt_jax.config",
    "mamt_jax.types",
    "mamt_jax.files",
}
OPS = LEAVES | {"mamt_jax.ops"}
NETWORKS = OPS | {"mamt_jax.networks"}
ALGORITHMS = NETWORKS | {"mamt_jax.algorithms"}
TRAINING = {"mamt_jax.envs", "mamt_jax.env_options", "mamt_jax.analysis", "mamt_jax.training"}
REPORTS = TRAINING | {"mamt_jax.trajectories", "mamt_jax.reports"}
PAPER = {"mamt_jax.experiments.paper", "mamt_jax.experiments.references"}
ALLOWED: dict[str, set[str]] = {
    "mamt_jax.envs": set(),
    "mamt_jax.env_options": LEAVES | {"mamt_jax.envs"},
    "mamt_jax.errors": set(),
    "mamt_jax.settings": {"mamt_jax.errors"},
    "mamt_jax.config": LEAVES,
    "mamt_jax.files": LEAVES,
    "mamt_jax.types": LEAVES,
    "mamt_jax.ops": LEAVES,
    "mamt_jax.analysis": OPS,
    "mamt_jax.networks": OPS,
    "mamt_jax.algorithms": NETWORKS,
    # Training knows the Algorithm protocol and reaches algorithms through the registry alone.
    "mamt_jax.training": OPS | TRAINING | {"mamt_jax.algorithms.registry"},
    "mamt_jax.trajectories": LEAVES | {"mamt_jax.envs", "mamt_jax.training"},
    "mamt_jax.reports": OPS | REPORTS | PAPER,
    "mamt_jax.cli": ALGORITHMS | REPORTS,
    "mamt_jax": LEAVES | {"mamt_jax.training.run", "mamt_jax.envs"},
    "mamt_jax.__main__": {"mamt_jax.cli.main"},  # ``python -m mamt_jax`` is ``mamt``
    "mamt_jax.experiments": ALGORITHMS | REPORTS | {"mamt_jax.cli"},
    "benchmarks": ALGORITHMS | REPORTS | {"mamt_jax.cli"},
}
"""What a package may import of ours besides itself; the longest matching name counts."""


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> list[str]:
    """Every module or name that a file imports, inside of functions, too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import in {path}"
            found += [f"{node.module}.{alias.name}" for alias in node.names]
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


def edges() -> list[tuple[str, str]]:
    ours = ("mamt_jax", "benchmarks")
    return [
        (module_name(path), name)
        for package in ours
        for path in files(ROOT / package)
        for name in imported(path)
        if name.split(".")[0] in ours
    ]


def test_imports_point_one_way() -> None:
    offending = [
        f"{importer} -> {name}" for importer, name in edges() if not may_import(importer, name)
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
        ("mamt_jax.training.run", "mamt_jax.trajectories.frames.frames"),
        ("mamt_jax.analysis.statistics", "mamt_jax.training.run.train"),
    ):
        assert not may_import(importer, name), f"{importer} -> {name}"
    assert len(edges()) > 50
