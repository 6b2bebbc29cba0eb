"""How many environment steps a second the environments make under random actions."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.originals import ORIGINALS, steps_per_second
from benchmarks.progress import duration, note
from mamt_jax.config import make_config
from mamt_jax.envs import Environment, HostEnvironment, VectorEnv, VectorState
from mamt_jax.envs.workers import HostVectorEnv
from mamt_jax.errors import ConfigError
from mamt_jax.settings.fields import check
from mamt_jax.training.prepare import make_env
from mamt_jax.training.stage.hosted import worker_errors


def random_actions(key: jax.Array, vector_env: VectorEnv) -> jax.Array:
    """Uniform actions [E, n] int32, drawn with one call.

    16 random bits modulo the action count: the bias is below count / 65536, and it costs a
    quarter of the bits of `jax.random.randint`.
    """
    spec = vector_env.spec
    counts = jnp.array(spec.action_counts, jnp.uint16)
    bits = jax.random.bits(key, (vector_env.num_envs, spec.num_agents), jnp.uint16)
    return (bits % counts).astype(jnp.int32)


class Totals(NamedTuple):
    """Sums over steps and environments."""

    returns: jax.Array  # [] of the finished episodes
    episodes: jax.Array  # [] int32, finished
    obs: jax.Array  # [] of all observations: what nobody reads, XLA would not compute


@partial(jax.jit, static_argnums=(0, 3))
def run(
    vector_env: VectorEnv, key: jax.Array, state: VectorState, steps: int
) -> tuple[VectorState, Totals]:
    """Makes `steps` vector steps with random actions."""

    def body(
        carry: tuple[VectorState, Totals], step_key: jax.Array
    ) -> tuple[tuple[VectorState, Totals], None]:
        state, totals = carry
        action_key, env_key = jax.random.split(step_key)
        state, result = vector_env.step(env_key, state, random_actions(action_key, vector_env))
        totals = Totals(
            returns=totals.returns + result.finished_return.sum(),
            episodes=totals.episodes + result.finished.sum(),
            obs=totals.obs + result.next_obs.sum(),
        )
        return (state, totals), None

    start = Totals(jnp.float32(0.0), jnp.int32(0), jnp.float32(0.0))
    end, _ = jax.lax.scan(body, (state, start), jax.random.split(key, steps))
    return end


def stepper(env: Environment, num_envs: int, steps: int) -> Callable[[jax.Array], Totals]:
    """A function that makes `steps` steps of `num_envs` environments, random from its key."""
    vector_env = VectorEnv(env, num_envs)
    kept = [jax.jit(vector_env.reset)(jax.random.key(0))]

    def play(key: jax.Array) -> Totals:
        kept[0], totals = jax.block_until_ready(run(vector_env, key, kept[0], steps))
        return totals

    return play


def bridge_stepper(env: HostEnvironment, num_envs: int, steps: int) -> Callable[[jax.Array], None]:
    """As `stepper`, of an environment on the host: its worker processes, one per core."""
    with worker_errors():
        workers = HostVectorEnv(env, num_envs)
        workers.reset([(0, row) for row in range(num_envs)])

    def play(key: jax.Array) -> None:
        random = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        for _ in range(steps):
            with worker_errors():
                workers.step(
                    random.integers(0, env.spec.action_counts, (num_envs, env.spec.num_agents))
                )

    return play


def checked(
    name: str, num_envs: int, steps: int, compare: bool
) -> tuple[Environment | HostEnvironment, int, int]:
    """What `throughput` will measure: an environment, how many of it, how many steps.

    Raises:
      ConfigError: it does not exist, or has no original to compare with, or a number is negative.
    """
    env = make_env(make_config(env=name))
    usual = (96, 50) if isinstance(env, HostEnvironment) else (4096, 500)
    num_envs, steps = num_envs or usual[0], steps or usual[1]
    for option, count in (("num_envs", num_envs), ("steps", steps)):
        check(count > 0, option, count, "greater than 0")
    if compare and name not in ORIGINALS:
        accepted = ", ".join(ORIGINALS)
        raise ConfigError(f"{name} has no original to compare with; {accepted} have.")
    return env, num_envs, steps


def throughput(
    name: str, num_envs: int = 0, steps: int = 0, repetitions: int = 7, compare: bool = False
) -> dict[str, Any]:
    """Median speed of `repetitions` warm runs of `steps` steps of `num_envs` environments.

    Every step draws random actions for all agents, computes observations, rewards and episode
    statistics, and resets finished episodes. One step of one environment counts as one. With
    `compare`, the original is measured in turns with ours, for as long as ours took (at least 3 s).
    0 environments or steps mean 4096 and 500; on the host 96, as 8 seeds train on, and 50.
    """
    env, num_envs, steps = checked(name, num_envs, steps, compare)
    play: Callable[[jax.Array], Totals | None]
    if isinstance(env, HostEnvironment):
        play = bridge_stepper(env, num_envs, steps)
    else:
        play = stepper(env, num_envs, steps)
    original = ORIGINALS[name]() if compare else None
    seconds, theirs, returns, episodes = [], [], 0.0, 0
    begin = time.monotonic()
    for turn, key in enumerate(jax.random.split(jax.random.key(1), repetitions + 1)):
        began = time.perf_counter()
        totals = play(key)
        seconds.append(time.perf_counter() - began)
        if totals is not None:
            returns, episodes = returns + float(totals.returns), episodes + int(totals.episodes)
        if original is not None:
            theirs.append(steps_per_second(original, max(seconds[-1], 3.0)))
        now = time.monotonic()
        left = f"; the others: about {duration((now - begin) * (repetitions - 1))}"
        if turn:
            note(f"  turn {turn} of {repetitions}: {duration(now - begin)}{left * (turn == 1)}")
        else:
            note(f"  ready after {duration(now - begin)}")
        begin = now
    ours = [num_envs * steps / s for s in seconds[1:]]  # the first call compiles
    result = {
        "environment": name,
        "num_envs": num_envs,
        "steps": steps,
        "repetitions": repetitions,
        "steps_per_second": statistics.median(ours),
        "slowest": min(ours),
        "fastest": max(ours),
        "first_call_seconds": seconds[0],
    }
    if episodes:
        result |= {"mean_return": returns / episodes, "episodes": episodes}
    if original is not None:
        ratios = [x / y for x, y in zip(ours, theirs[1:], strict=True)]
        result |= {
            "original_steps_per_second": statistics.median(theirs[1:]),
            "original_slowest": min(theirs[1:]),
            "original_fastest": max(theirs[1:]),
            "ratio": statistics.median(ratios),
            "smallest_ratio": min(ratios),
            "largest_ratio": max(ratios),
        }
    return result
