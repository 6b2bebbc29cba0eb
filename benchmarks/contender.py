"""One contender: a process that gets ready, then repeats its work whenever it is told to.

``python -m benchmarks.contender SPEC`` with a JSON spec prints ``{"first_call_seconds": …,
"warm_call_seconds": …}`` when it is warm, and for every line it reads ``{"seconds": …, "count":
…}``: so many updates or environment steps in that time. Processes that are ready together can take
turns, see ``turns.py``.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Work = Callable[[], tuple[float, int]]
"""() -> (seconds, how much was done)."""


def timed(work: Callable[[], Any], count: int) -> Work:
    """Work with a clock around it."""

    def run() -> tuple[float, int]:
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin, count

    return run


def jax_update(
    algorithm: str, env: str, seeds: int, batch_size: int, updates: int, seed_batch: int = 0
) -> Work:
    """``updates`` updates of every seed on given batches, compiled as training compiles them."""
    import jax
    import jax.numpy as jnp

    from benchmarks.batches import transitions
    from benchmarks.training import game_of
    from mamt_jax.algorithms.registry import get
    from mamt_jax.config import make_config
    from mamt_jax.settings import Settings
    from mamt_jax.settings.numbers import as_data
    from mamt_jax.training import seeds as axis
    from mamt_jax.training.learning import UpdateEvent
    from mamt_jax.training.programs import Program
    from mamt_jax.types import Batch, Transition

    game = game_of(env)
    config = make_config(algorithm=algorithm, env=env, seeds=seeds)
    recipe, settings = get(algorithm), as_data(config.settings)
    rows = transitions(env, updates * batch_size)
    moments = jnp.zeros((updates, game.num_agents)), jnp.ones((updates, game.num_agents))
    sample = Transition(
        **{k: jnp.asarray(v).reshape(updates, batch_size, *v.shape[1:]) for k, v in rows.items()}
    )
    batches = Batch(sample, *moments, None)

    def one_seed(settings: Settings, state: Any) -> tuple[Any, Any]:
        keys = jax.random.split(jax.random.key(0), updates)
        event = UpdateEvent(None, None, recipe(game, settings))  # type: ignore[arg-type]
        return event.update(state, keys, batches, jnp.int32(0))

    def all_seeds(settings: Settings, states: Any) -> tuple[Any, Any]:
        return axis.map_seeds(one_seed, settings, states, axis.seed_batch(seed_batch, seeds))

    run = Program(all_seeds, donate=(1,))
    init = jax.jit(jax.vmap(recipe(game, config.settings).init))
    kept = [init(jax.random.split(jax.random.key(0), seeds))]

    def work() -> None:
        kept[0], metrics = run(settings, kept[0])
        jax.block_until_ready(metrics)

    return timed(work, seeds * updates)


def torch_update(
    algorithm: str, env: str, idiom: str, batch_size: int, updates: int, **options: Any
) -> Work:
    """``updates`` updates of one seed in PyTorch on a given batch."""
    from benchmarks.torch_reference.loop import synchronise
    from benchmarks.torch_reference.timing import learner_and_batch

    learner, batch = learner_and_batch(algorithm, env, idiom, batch_size, **options)

    def work() -> None:
        for _ in range(updates):
            learner.update(batch)
        synchronise(learner.device)

    return timed(work, updates)


def jax_training(algorithm: str, env: str, seeds: int, **options: Any) -> Work:
    """One logging point of training, all included; counts environment steps of all seeds."""
    from benchmarks.training import logging_point

    point = logging_point(algorithm, env, seeds, **options)
    return timed(point.run, point.steps)


def torch_training(algorithm: str, idiom: str, episodes: int, device: str = "cpu") -> Work:
    """Spread in PyTorch, one seed from its start; timed over its second half."""
    from benchmarks.torch_reference.loop import train

    def run() -> tuple[float, int]:
        result = train(algorithm, idiom, episodes, device=device)
        steps = episodes * 25 // 2
        return steps / result.warm_steps_per_second, steps

    return run


def torch_rollouts(algorithm: str, idiom: str, device: str = "cpu") -> Work:
    """Spread in PyTorch, on-policy: the next rollout of one seed and the update on it."""
    from benchmarks.torch_reference.rollouts import Training

    assert (algorithm, idiom) == ("mappo", "batched")
    training = Training(device=device)
    return timed(training.advance, training.steps)


KINDS: dict[str, Callable[..., Work]] = {
    "jax_update": jax_update,
    "torch_update": torch_update,
    "jax_training": jax_training,
    "torch_training": torch_training,
    "torch_rollouts": torch_rollouts,
}


def main() -> None:
    """Builds what the spec names, warms it up, and works line by line."""
    spec = json.loads(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed does not belong among the replies
    cores = spec.pop("cores", None)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if threads := spec.pop("threads", None):
        import torch

        torch.set_num_threads(threads)
    warm_up = spec.pop("warm_up", 2)
    begin = time.perf_counter()
    work = KINDS[spec.pop("kind")](**spec)
    work()
    first = warm = time.perf_counter() - begin
    for _ in range(warm_up - 1):
        begin = time.perf_counter()
        work()
        warm = time.perf_counter() - begin
    ready = {"first_call_seconds": first, "warm_call_seconds": warm}
    print(json.dumps(ready), file=replies, flush=True)
    for _ in sys.stdin:
        seconds, count = work()
        print(json.dumps({"seconds": seconds, "count": count}), file=replies, flush=True)


if __name__ == "__main__":
    main()
