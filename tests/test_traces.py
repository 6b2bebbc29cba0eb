"""Importing and calling leave the process as it was: it is the user's, and may be a notebook."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

PROGRAM = """
import importlib, json, logging, os, pkgutil, random, signal, sys, threading, warnings

# Of other people, and not without traces of their own.
import distrax, jax, jraph, matplotlib, numpy, orbax.checkpoint, pettingzoo, rich.style
import scipy.special, xarray, zarr

xarray.Dataset({"x": ("t", [1])}).to_zarr(sys.argv[1] + "/first.zarr")
xarray.open_zarr(sys.argv[1] + "/first.zarr").load()


def state():
    caught = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
    return {
        "environ": dict(os.environ),
        "jax.config": {name: value for name, value in jax.config.values.items()},
        "warnings": [list(warnings.filters), warnings.showwarning],
        "sys.path": list(sys.path),
        "signals": {number: signal.getsignal(number) for number in caught},
        "cwd": os.getcwd(),
        "umask": os.umask(os.umask(0o22)),
        "matplotlib": dict.copy(matplotlib.rcParams),
        "logging": [logging.root.level, list(logging.root.handlers)],
        "random": random.getstate(),
        "numpy.random": numpy.random.get_state()[1].tolist(),
        "numpy": [numpy.geterr(), numpy.get_printoptions()],
        "hooks": [sys.excepthook, sys.displayhook, sys.unraisablehook, threading.excepthook],
        "recursion": sys.getrecursionlimit(),
    }


def differences(before):
    after = state()
    return {
        name: [repr(before[name]), repr(after[name])]
        for name in before
        if repr(before[name]) != repr(after[name])
    }


before = state()
import mamt_jax

for module in pkgutil.walk_packages(mamt_jax.__path__, "mamt_jax."):
    # Not what is run: commands, and notebooks, whose names are no identifiers.
    if all(map(str.isidentifier, module.name.split("."))) and "__main__" not in module.name:
        importlib.import_module(module.name)
imported = differences(before)

from mamt_jax.config import make_config
from mamt_jax.training.prepare import prepare
from mamt_jax.training.run import load_with, run_trainer
from mamt_jax.training.run_dir import RunDir
from tests.training import fakes

config, directory = fakes.config(), RunDir(__import__("pathlib").Path(sys.argv[1]) / "run")
directory.create(config, fakes.trainer().game)
run = run_trainer(fakes.trainer(), fakes.algorithm(), config, directory)
run.evaluate(1)
prepare(make_config(env="toy_matching"))
again = load_with(fakes.algorithm(), config, directory)
again.policies.act(numpy.zeros((2, 12)))
called = differences(before)
print(json.dumps([imported, called]))
"""


def test_importing_and_calling_leave_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("MAMT_JAX_CACHE", str(tmp_path / "cache"))
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    imported, called = json.loads(done.stdout.splitlines()[-1])
    assert (imported, called) == ({}, {})
