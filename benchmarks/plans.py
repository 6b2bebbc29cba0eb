"""What each command will measure, checked before anything is started."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any, NamedTuple

from benchmarks import measure
from benchmarks.ahead import TARGETS, device, native
from benchmarks.ahead import training as compile_training
from benchmarks.devices import have_torch, torch_device
from benchmarks.environments import checked, throughput
from benchmarks.measure import IDIOMS
from benchmarks.progress import Task
from benchmarks.training import game_of, on_policy
from mamt_jax.algorithms.registry import make
from mamt_jax.config import make_config
from mamt_jax.errors import ConfigError
from mamt_jax.settings.fields import check
from mamt_jax.training.prepare import make_algorithm

Rows = list[dict[str, Any]]


class Plan(NamedTuple):
    """Measurements that can be made."""

    tasks: list[Task]
    about: str
    """How long each takes, roughly."""
    content: Callable[[Rows], dict[str, Rows]]
    """(what the tasks found) -> what is shown and written."""


def update(chosen: argparse.Namespace) -> Plan:
    """Time of updates, of every environment and algorithm."""
    check(chosen.batch_size >= 2, "batch_size", chosen.batch_size, "2 or greater")
    for name in chosen.algorithms:
        if on_policy(name):
            raise ConfigError(
                f"update needs an algorithm that learns from a replay, and {name} learns from "
                f"rollouts; measure it with: training --algorithms {name}."
            )
    for seeds in chosen.seeds:
        even = not chosen.seed_batch or seeds % chosen.seed_batch == 0
        check(even, "seeds", seeds, f"a multiple of seed_batch ({chosen.seed_batch})")
    idioms, device = _opponents(chosen)
    tasks: list[Task] = []
    for env, algorithm in product(chosen.envs, chosen.algorithms):
        make(algorithm, game_of(env))  # raises where it does not fit
        sizes = chosen.repetitions, chosen.batch_size, device, chosen.seed_batch
        work = partial(measure.updates, env, algorithm, sorted(chosen.seeds), idioms, *sizes)
        tasks.append((f"updates of {algorithm} on {env}", work))
    about = "with the defaults on two cores each takes one to three minutes"
    return Plan(
        tasks, about, lambda rows: {"updates": rows, "share_of_peak": measure.share_of_peak(rows)}
    )


def training(chosen: argparse.Namespace) -> Plan:
    """Speed of training on Spread, of every algorithm."""
    idioms, device = _opponents(chosen)
    sizes = chosen.seeds, idioms, chosen.repetitions, device
    tasks: list[Task] = [
        (f"training of {algorithm} on spread", partial(measure.training, algorithm, *sizes))
        for algorithm in chosen.algorithms
    ]
    about = "with the defaults on two cores each takes five to ten minutes"
    return Plan(tasks, about, lambda rows: {"training": rows})


def environments(chosen: argparse.Namespace) -> Plan:
    """Speed of every environment."""
    sizes = chosen.num_envs, chosen.steps
    for name in chosen.names:
        checked(name, *sizes, chosen.compare)
    more = chosen.repetitions, chosen.compare
    tasks: list[Task] = [
        (f"steps of {name}", partial(throughput, name, *sizes, *more)) for name in chosen.names
    ]
    about = "with the defaults on two cores each takes from seconds to a minute"
    return Plan(tasks, about, lambda rows: {"environments": rows})


def compiling(chosen: argparse.Namespace) -> Plan:
    """Seconds until the first logging point, of every environment and algorithm."""
    tasks: list[Task] = [
        (f"two starts of {algorithm} on {env}", partial(measure.compile_seconds, algorithm, env))
        for env, algorithm in _trainable(chosen)
    ]
    about = "on two cores each takes about half a minute"
    return Plan(tasks, about, lambda rows: {"compile": rows})


def memory(chosen: argparse.Namespace) -> Plan:
    """Peak memory of training, of every environment, algorithm, replay size and number of seeds."""
    tasks: list[Task] = []
    for env, algorithm in _trainable(chosen):
        sizes = [None] if on_policy(algorithm) else chosen.buffer_sizes
        for size, seeds in product(sizes, chosen.seeds):
            replay = {} if size is None else {"buffer_size": size}
            make_config(algorithm=algorithm, env=env, **replay)  # raises where it is too small
            work = partial(measure.peak_memory, algorithm, env, seeds, size)
            what = "no replay" if size is None else f"replay {size:,}"
            tasks.append((f"memory of {algorithm} on {env}, seeds: {seeds}, {what}", work))
    about = "on two cores each takes about a minute, more with many seeds"
    return Plan(tasks, about, lambda rows: {"memory": rows})


def ahead(chosen: argparse.Namespace) -> Plan:
    """Programs for a card, of every environment and algorithm."""
    target = TARGETS[chosen.target]
    device(target)  # raises where it cannot be compiled for
    tasks: list[Task] = []
    for env, algorithm in _trainable(chosen):
        native(env)
        sizes = chosen.seeds, target, chosen.precision
        tasks.append((f"{algorithm} on {env}", partial(compile_training, env, algorithm, *sizes)))
    about = "on two cores each takes one to three minutes"
    return Plan(tasks, about, lambda rows: {"ahead": rows})


def _opponents(chosen: argparse.Namespace) -> tuple[list[str], str]:
    """Idioms to compare with, and PyTorch's device: all idioms unless the command line says."""
    if chosen.against and not have_torch():
        raise ConfigError("--against needs PyTorch: pip install 'mamt-jax[bench]'.")
    idioms = IDIOMS if chosen.against is None and have_torch() else chosen.against or ()
    used = any(measure.written(algorithm, idioms) for algorithm in chosen.algorithms)
    return list(idioms), torch_device(chosen.device, used)


def _trainable(chosen: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Every (environment, algorithm); raises where they do not fit."""
    for env, algorithm in product(chosen.envs, chosen.algorithms):
        make_algorithm(make_config(algorithm=algorithm, env=env))
        yield env, algorithm
