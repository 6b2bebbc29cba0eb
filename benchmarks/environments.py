"""How many environment steps a second the JAX environments make under random actions."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import VectorEnv, VectorState
from experiments.cli import guarded
from mamt_jax.config import check, make_config
from mamt_jax.training.run import make_env


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


def throughput(
    name: str, num_envs: int = 4096, steps: int = 500, repetitions: int = 7
) -> dict[str, Any]:
    """Median speed of `repetitions` warm runs of `steps` steps of `num_envs` environments.

    Every step draws random actions for all agents, computes observations, rewards and episode
    statistics, and resets finished episodes. One step of one environment counts as one.
    """
    for option, count in (("num_envs", num_envs), ("steps", steps), ("repetitions", repetitions)):
        check(count > 0, option, count, "greater than 0")
    vector_env = VectorEnv(make_env(make_config(env=name)), num_envs)
    state = jax.jit(vector_env.reset)(jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), repetitions + 1)
    seconds, returns, episodes = [], 0.0, 0
    for key in keys:
        began = time.perf_counter()
        state, totals = jax.block_until_ready(run(vector_env, key, state, steps))
        seconds.append(time.perf_counter() - began)
        returns, episodes = returns + float(totals.returns), episodes + int(totals.episodes)
    rates = sorted(num_envs * steps / s for s in seconds[1:])  # the first call compiles
    return {
        "environment": name,
        "num_envs": num_envs,
        "steps": steps,
        "repetitions": repetitions,
        "steps_per_second": statistics.median(rates),
        "slowest": rates[0],
        "fastest": rates[-1],
        "first_call_seconds": seconds[0],
        "mean_return": returns / max(episodes, 1),
        "episodes": episodes,
    }


def main() -> int:
    """Prints one JSON object a measured environment."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=["spread"], metavar="NAME")
    parser.add_argument("--num-envs", type=int, default=4096)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--repetitions", type=int, default=7)
    chosen = parser.parse_args()

    def measure() -> None:
        for name in chosen.names:
            print(json.dumps(throughput(name, chosen.num_envs, chosen.steps, chosen.repetitions)))

    return guarded(measure)


if __name__ == "__main__":
    raise SystemExit(main())
