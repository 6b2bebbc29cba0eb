"""Benchmarks measure what was asked for."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks import __main__ as command
from benchmarks import training
from tests.training import fakes


def test_compile_time_starts_from_an_empty_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "full")
    seen: list[dict[str, str]] = []

    def run(*_: Any, env: dict[str, str], **__: Any) -> SimpleNamespace:
        seen.append(env)
        return SimpleNamespace(stdout=b"1.5\n")

    monkeypatch.setattr(subprocess, "run", run)
    assert command.compile_seconds() == {"cold": 1.5, "cached": 1.5}
    assert all("JAX_COMPILATION_CACHE_DIR" not in env and env["MAMT_JAX_CACHE"] for env in seen)


def test_options_of_the_environment_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    agents: list[int] = []

    def make_trainer(config: Any, environment: Any, algorithm: Any) -> fakes.FakeTrainer:
        agents.append(environment.spec.num_agents)
        return fakes.trainer()

    monkeypatch.setattr(training, "make_trainer", make_trainer)
    training.update_time("maac", "spread", seeds=2, repetitions=1, env_options={"num_agents": 3})
    assert agents == [3]
