"""One contender: a process that gets ready, then repeats its work whenever it is told to.

``python -m benchmarks.contender SPEC`` with a JSON spec prints ``{"first_call_seconds": …,
"warm_call_seconds": …}`` when it is warm, and for every line it reads ``{"seconds": …, "count":
…}``: so many updates or environment steps in that time. Processes that are ready together can take
turns, see ``turns.py``.

With ``waits`` in the spec it says ``{"built_seconds": …}`` once it has compiled what it will need,
and takes up memory when it is told to go on: so many can compile at the same time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks.work import Work, timed


def jax_update(
    algorithm: str,
    env: str,
    seeds: int,
    batch_size: int,
    updates: int,
    seed_batch: int = 0,
    own_batches: bool = False,
    **options: Any,
) -> Work:
    """``updates`` updates of every seed on given batches, compiled as training compiles them.

    Memory is taken with the first call. With ``own_batches`` each seed has batches of its own, as
    in training: of seeds side by side nothing can then be computed once for all.
    """
    import jax
    import jax.numpy as jnp

    from benchmarks.batches import transitions
    from benchmarks.training import game_of
    from mamt_jax.config import make_config
    from mamt_jax.settings import Settings
    from mamt_jax.settings.numbers import as_data
    from mamt_jax.training import seeds as axis
    from mamt_jax.training.learning import UpdateEvent
    from mamt_jax.training.prepare import make_recipe
    from mamt_jax.training.programs import Program
    from mamt_jax.types import Batch, Transition

    game = game_of(env)
    config = make_config(algorithm=algorithm, env=env, seeds=seeds, **options)
    recipe, settings = make_recipe(config), as_data(config.settings)
    count = updates * batch_size

    def draw(key: jax.Array, rows: Transition) -> Batch:
        """Batches ``[updates, B, ...]``, or with the seeds before that."""
        index = jnp.arange(count).reshape(updates, batch_size)
        if own_batches:
            index = jax.random.permutation(key, jnp.tile(index, (seeds, 1, 1)), 2, independent=True)
        moments = jnp.zeros((*index.shape[:-1], game.num_agents))
        sample = jax.tree.map(lambda leaf: leaf[index], rows)
        return Batch(sample, moments, moments + 1.0, None)

    def all_seeds(settings: Settings, batches: Batch, states: Any) -> tuple[Any, Any]:
        def one_seed(settings: Settings, state: Any) -> tuple[Any, Any]:
            learner, seed = state
            own = jax.tree.map(lambda leaf: leaf[seed], batches) if own_batches else batches
            keys = jax.random.split(jax.random.key(0), updates)
            event = UpdateEvent(None, None, recipe(game, settings))  # type: ignore[arg-type]
            learner, metrics = event.update(learner, keys, own, jnp.int32(0))
            return (learner, seed), metrics

        return axis.map_seeds(one_seed, settings, states, axis.seed_batch(seed_batch, seeds))

    run = Program(all_seeds, donate=(2,))
    init, fill = Program(jax.vmap(recipe(game, config.settings).init)), Program(draw)
    keys, ids = jax.random.split(jax.random.key(0), seeds), jnp.arange(seeds)
    fields = {name: jnp.asarray(values) for name, values in transitions(env, count).items()}
    given = keys[0], Transition(**fields)
    init.compile_ahead(keys)
    fill.compile_ahead(*given)
    shapes = jax.eval_shape(draw, *given), (jax.eval_shape(init.__wrapped__, keys), ids)
    run.compile_ahead(settings, *shapes)
    kept: list[Any] = []

    def work() -> None:
        if not kept:
            kept.extend([fill(*given), (init(keys), ids)])
        kept[1], metrics = run(settings, *kept)
        jax.block_until_ready(metrics)

    return timed(work, seeds * updates)


def torch_update(
    algorithm: str,
    env: str,
    idiom: str,
    batch_size: int,
    updates: int,
    graphs: bool = False,
    **options: Any,
) -> Work:
    """``updates`` updates of one seed in PyTorch on a given batch.

    ``graphs`` replays them as CUDA graphs where PyTorch can; ``said`` tells whether it could.
    """
    from benchmarks.torch_reference.graphs import captured
    from benchmarks.torch_reference.loop import synchronise
    from benchmarks.torch_reference.timing import learner_and_batch

    learner, batch = learner_and_batch(algorithm, env, idiom, batch_size, **options)
    said = {"how": "compiled" if options.get("compiled") else "eager"}
    replay = None
    if graphs:
        replay, why_not = captured(learner, batch, updates)
        said |= {"no_graphs": why_not} if replay is None else {"how": f"{said['how']}, graphs"}

    def work() -> None:
        if replay is None:
            for _ in range(updates):
                learner.update(batch)
        else:
            replay()
        synchronise(learner.device)

    if options.get("compiled"):
        work()
    run = timed(work, updates)
    run.said = said  # type: ignore[attr-defined]
    return run


def environment(name: str, num_envs: int, steps: int) -> Work:
    """Steps of an environment under random actions; compiled and played once here."""
    import jax

    from benchmarks.environments import stepper
    from mamt_jax import envs

    play = stepper(envs.make(name), num_envs, steps)
    keys = [jax.random.key(1)]

    def work() -> None:
        keys[0], key = jax.random.split(keys[0])
        play(key)

    work()
    return timed(work, num_envs * steps)


def golden(case: str, algorithm: str, precision: str, products: Any) -> Work:
    """What this device computes beside a golden file; ``said`` holds the differences."""
    from benchmarks.torch_reference.parity import differences

    found = [each._asdict() for each in differences(case, algorithm, precision, products)]
    run = timed(lambda: None, 1)
    run.said = {"differences": found}  # type: ignore[attr-defined]
    return run


def deviations(**options: Any) -> Work:
    """What less precise matrix products change in a trained learner; ``said`` holds it."""
    from benchmarks.precision import deviations as found

    run = timed(lambda: None, 1)
    run.said = {"deviations": found(**options)}  # type: ignore[attr-defined]
    return run


def jax_training(algorithm: str, env: str, seeds: int, **options: Any) -> Work:
    """One logging point of training, all included; counts environment steps of all seeds."""
    from benchmarks.training import logging_point

    point = logging_point(algorithm, env, seeds, **options)
    return timed(point.run, point.steps)


def record_run(**spec: Any) -> Work:
    """A training run that keeps a record, see :mod:`benchmarks.gpu_runs`."""
    from benchmarks.gpu_runs import run

    return run(**spec)


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
    "environment": environment,
    "golden": golden,
    "deviations": deviations,
    "run": record_run,
}


def main() -> None:
    """Builds what the spec names, warms it up, and works line by line."""
    spec = json.loads(sys.argv[1])
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed does not belong among the replies

    def reply(**content: Any) -> None:
        print(json.dumps(content), file=replies, flush=True)

    cores = spec.pop("cores", None)
    if cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    if threads := spec.pop("threads", None):
        import torch

        torch.set_num_threads(threads)
    warm_up, waits = spec.pop("warm_up", 2), spec.pop("waits", False)
    begin = time.perf_counter()
    work = KINDS[spec.pop("kind")](**spec)
    if waits:
        reply(built_seconds=time.perf_counter() - begin)
        if not sys.stdin.readline():
            return
    first = warm = 0.0
    for turn in range(warm_up):
        work()
        warm = time.perf_counter() - begin
        first = first if turn else warm
        begin = time.perf_counter()
    reply(first_call_seconds=first, warm_call_seconds=warm, **getattr(work, "said", {}))
    for _ in sys.stdin:
        seconds, count = work()
        reply(seconds=seconds, count=count, **getattr(work, "said", {}))


if __name__ == "__main__":
    main()
