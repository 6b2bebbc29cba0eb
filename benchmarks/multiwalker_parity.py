"""Whole games of Multi-Walker in JAX and in PettingZoo: are their outcomes of one distribution?

    python -m benchmarks.multiwalker_parity --out results/multiwalker_parity.json

Three ways to act that need no learning: uniform random actions, no torque at all, and action 6
again and again, on which walkers stand. For each: return, length, how far the package has come, and
who fell first. Return, length and displacement are compared by Kolmogorov and Smirnov's test, who
fell by a chi-squared test.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import stats

from benchmarks.progress import note
from mamt_jax import envs
from mamt_jax.envs.walkers.options import torques

WAYS = ("random", "zero torque", "action 6")
NUMBERS = ("return", "length", "displacement")
STEPS = 500
PACKAGE, NOBODY = 3, 4  # what "who" says where no walker has fallen


def ours(way: str, episodes: int, steps: int = STEPS) -> np.ndarray:
    """Return, length, displacement and who fell of each episode, [episodes, 4]."""
    env = envs.make("multiwalker", continuous=True, max_cycles=steps)
    state = jax.jit(jax.vmap(env.reset))(jax.random.split(jax.random.key(0), episodes))[0]
    step = jax.jit(jax.vmap(env.step))
    begin, rows = np.asarray(state.motion.x[:, -1]), np.zeros((episodes, 4))
    going, total = np.ones(episodes, bool), np.zeros(episodes)
    for time in range(1, steps + 1):
        key, act = jax.random.split(jax.random.fold_in(jax.random.key(1), time))
        random = jax.random.randint(act, (episodes, 3), 0, 16)
        action = random if way == "random" else jnp.full_like(random, 6)
        torque = (
            jnp.zeros((episodes, 3, 4)) if way == "zero torque" else torques(action, state.torque)
        )
        result = step(jax.random.split(key, episodes), state, torque)
        state = result.state
        total += np.asarray(result.reward.mean(1))
        over, fallen = np.asarray(result.terminated), np.asarray(state.fallen)
        for e in np.flatnonzero(going & (over | (time == steps))):
            moved = float(state.motion.x[e, -1]) - begin[e]
            rows[e] = total[e], time, moved, _who(fallen[e], bool(over[e]))
        going &= ~over
        if not going.any():
            break
    return rows


def theirs(way: str, episodes: int, steps: int = STEPS) -> np.ndarray:
    """As `ours`, in PettingZoo."""
    env = envs.make("multiwalker_host", max_cycles=steps).parallel_env().env
    game, rows = env.unwrapped.env, []
    for seed in range(episodes):
        env.reset(seed=1000 + seed)
        random, torque, total = np.random.default_rng(seed), np.zeros((3, 4), np.float32), 0.0
        begin, length = float(game.package.position.x), 0
        while env.agents and length < steps:
            action = random.integers(0, 16, 3) if way == "random" else np.full(3, 6)
            torque = torques(action, torque) if way != "zero torque" else torque
            _, reward, over, *_ = env.step({agent: torque[int(agent[-1])] for agent in env.agents})
            total, length = total + float(np.mean(list(reward.values()))), length + 1
        who = _who(game.fallen_walkers, all(over.values()))
        rows.append((total, length, float(game.package.position.x) - begin, who))
    return np.array(rows)


def _who(fallen: Any, over: bool) -> int:
    return int(np.argmax(fallen)) if np.any(fallen) else PACKAGE if over else NOBODY


def compare(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """Means with their standard errors, and the tests."""
    found: dict[str, Any] = {}
    for column, name in enumerate(NUMBERS):
        test = stats.ks_2samp(one[:, column], other[:, column])
        found[name] = {
            "jax": _mean(one[:, column]),
            "pettingzoo": _mean(other[:, column]),
            "distance": round(float(test.statistic), 4),
            "p": round(float(test.pvalue), 4),
        }
    counts = np.array([np.bincount(each[:, 3].astype(int), minlength=5) for each in (one, other)])
    there = counts[:, counts.sum(axis=0) > 0]
    p = float(stats.chi2_contingency(there).pvalue) if there.shape[1] > 1 else 1.0
    who = {"jax": counts[0].tolist(), "pettingzoo": counts[1].tolist(), "p": round(p, 4)}
    return found | {"who fell first (walkers 0 to 2, package, nobody)": who}


def _mean(values: np.ndarray) -> list[float]:
    return [
        round(float(values.mean()), 4),
        round(float(values.std(ddof=1) / np.sqrt(len(values))), 4),
    ]


def found_with(episodes: int, power: float = 0.9) -> float:
    """Distance of two distribution functions that is found at 5% with this probability or more.

    The normal approximation at the place where they are furthest apart, at its worst variance.
    """
    return float((1.358 + stats.norm.ppf(power) * 0.5) * np.sqrt(2.0 / episodes))


def main() -> None:
    """Plays and compares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument(
        "--standing", type=int, default=60, help="episodes of action 6 in PettingZoo"
    )
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    result: dict[str, Any] = {
        "episodes": chosen.episodes,
        "distance found with 90% power": round(found_with(chosen.episodes), 3),
    }
    for way in WAYS:
        few = chosen.standing if way == "action 6" else chosen.episodes
        result[way] = compare(ours(way, chosen.episodes), theirs(way, few))
        note(f"{way}: {json.dumps(result[way])}")
        if chosen.out:
            chosen.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
