"""The games, settings, weights and random keys of the golden files; without PyTorch."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.torch_reference.states import Named, flatten
from mamt_jax.algorithms.registry import get
from mamt_jax.settings import Settings
from mamt_jax.types import Game

UPDATES = 20
# What is rare or slow with the defaults happens here: clipped gradients, a δ beyond its budget,
# refreshes of the old policies, and slow averages that move.
_OPTIONS: dict[str, Any] = {
    "hidden_size": 4,
    "attention_heads": 2,
    "critic_clip_per_agent": 0.5,
    "policy_clip": 0.1,
    "modelling_clip": 0.1,
    "target_tau": 0.05,
    "trd_tau": 0.1,
    "old_policy_period": 7,
    "delta_rule": "penalty",
    "delta_total_per_agent": 0.5,
}


def settings(algorithm: str) -> Settings:
    """Settings of the golden files' updates."""
    defaults = get(algorithm).settings
    own = {name: value for name, value in _OPTIONS.items() if name in defaults.flat()}
    return defaults.replace(own).settled()


class Case(NamedTuple):
    """Sizes of a game, the seed of everything, and what is run."""

    obs_sizes: tuple[int, ...]
    num_actions: int
    batch: int
    seed: int
    runs: tuple[tuple[str, str], ...]
    """(algorithm, precision)."""

    @property
    def game(self) -> Game:
        """The sizes as mamt_jax wants them."""
        return Game(self.obs_sizes, (self.num_actions,) * len(self.obs_sizes))


_DOUBLE = tuple((name, "float64") for name in ("maac", "mamd", "mamt"))
_SINGLE = tuple((name, "float32") for name in ("maac", "mamd", "mamt"))
# Compilation is what a run costs where it is checked: not every case in both precisions.
CASES = {
    "two_equal": Case((12, 12), 5, 16, 0, _DOUBLE),
    "three_unequal": Case((13, 13, 8), 5, 16, 0, (*_SINGLE, ("mamt", "float64"))),
}

ROLLOUTS_BEFORE = (0, 1, 3)
"""MAPPO's updates, each by how many there seem to have been before: the weight of a rollout in the
running statistics, 1/(count + 1), is float32 in mamt_jax in any precision, and exact for these."""
# Likewise: clipped gradients, ratios and errors, and a last row that no minibatch takes.
_PROXIMAL_OPTIONS: dict[str, Any] = {
    "hidden_size": 4,
    "attention_heads": 2,
    "learning_rate": 1e-2,
    "ppo_clip": 0.02,
    "ppo_epochs": 2,
    "ppo_minibatches": 3,
    "policy_clip": 0.1,
    "critic_clip_per_agent": 0.1,
    "huber_delta": 0.7,
}


PROXIMAL = get("mappo").settings.replace(_PROXIMAL_OPTIONS)
"""Settings of MAPPO's golden files."""


class ProximalCase(NamedTuple):
    """Sizes of a game and of its rollouts for MAPPO, and the seed of everything."""

    obs_sizes: tuple[int, ...]
    num_actions: int
    steps: int
    envs: int
    seed: int
    precision: str

    @property
    def game(self) -> Game:
        """The sizes as mamt_jax wants them."""
        return Game(self.obs_sizes, (self.num_actions,) * len(self.obs_sizes))


PROXIMAL_CASES = {
    "mappo_two_equal": ProximalCase((12, 12), 5, 7, 4, 0, "float64"),
    "mappo_three_unequal": ProximalCase((13, 13, 8), 5, 7, 4, 0, "float32"),
}


@functools.cache
def initial_weights(case: Case) -> Named:
    """mamt_jax's initialisation, doubled; targets and old policies from draws of their own."""
    algorithm = get("mamt")(case.game, settings("mamt"))
    keys = jax.random.split(jax.random.key(case.seed), 3)
    init = jax.jit(algorithm.init, compiler_options={"xla_backend_optimization_level": 0})
    states = [flatten(init(key)) for key in keys]
    rng = np.random.default_rng(case.seed)
    named = {}
    for name, values in states[0].items():
        draw = {"target_actor": 1, "target_critic": 1, "target_trd": 1, "old_actor": 2}
        named[name] = 2.0 * states[draw.get(name.split("/")[0], 0)][name]
        if name.endswith("trd/delta/kernel"):
            named[name] = rng.normal(0.0, 0.5, values.shape)
        if _reads_observations(name):
            for i, size in enumerate(case.obs_sizes):
                named[name][i, size:] = 0.0
    named["log_delta"] = rng.normal(0.2, 0.5, len(case.obs_sizes))
    named["norm/mean"] = rng.normal(0.0, 0.5, named["norm/mean"].shape)
    named["norm/var"] = rng.uniform(0.5, 2.0, named["norm/mean"].shape)
    return {name: values.astype(np.float32) for name, values in named.items()}


def _reads_observations(name: str) -> bool:
    net, layer = (name.split("/") + [""])[:2]
    first = layer == "AgentDense_0" and "actor" in net
    return name.endswith("kernel") and (first or layer in ("obs", "encode_obs", "encode_state"))


def transitions(case: Case) -> dict[str, np.ndarray]:
    """A batch by the field names of :class:`Batch`, float32."""
    rng, n = np.random.default_rng(case.seed + 1), len(case.obs_sizes)
    obs = rng.normal(1.0, 2.0, (2, case.batch, n, max(case.obs_sizes)))
    for i, size in enumerate(case.obs_sizes):
        obs[:, :, i, size:] = 0.0
    rows = {
        "obs": obs[0],
        "action": rng.integers(case.num_actions, size=(case.batch, n)),
        "reward": rng.normal(-3.0, 2.0, (case.batch, n)),
        "next_obs": obs[1],
        "terminated": rng.random((case.batch, n)) < 0.3,
        "reward_mean": np.linspace(-3.5, -2.5, n),
        "reward_std": np.linspace(1.5, 2.5, n),
    }
    return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in rows.items()}


def update_keys(case: Case) -> jax.Array:
    """One key per update."""
    return jax.random.split(jax.random.key(case.seed + 2), UPDATES)


def offset_key(case: Case) -> jax.Array:
    """What the learned region draws its offsets from."""
    return jax.random.key(case.seed + 3)


@functools.cache
def proximal_weights(case: ProximalCase) -> Named:
    """mamt_jax's initialisation, doubled."""
    algorithm = get("mappo")(case.game, PROXIMAL)
    init = jax.jit(algorithm.init, compiler_options={"xla_backend_optimization_level": 0})
    named = flatten(init(jax.random.key(case.seed)))
    return {name: (2.0 * values).astype(np.float32) for name, values in named.items()}


def rollouts(case: ProximalCase) -> list[dict[str, np.ndarray]]:
    """Fields of rollouts with cut-off episodes, and agents whose return ends on its own."""
    made = []
    for number in range(len(ROLLOUTS_BEFORE)):
        rng, n = np.random.default_rng(case.seed + number), len(case.obs_sizes)
        rows = case.steps, case.envs, n
        obs = rng.normal(1.0, 2.0, (2, *rows, max(case.obs_sizes))).astype(np.float32)
        for i, size in enumerate(case.obs_sizes):
            obs[..., i, size:] = 0.0
        fields = {
            "obs": obs[0],
            "action": rng.integers(case.num_actions, size=rows),
            "reward": rng.normal(-3.0, 2.0, rows).astype(np.float32),
            "next_obs": obs[1],
            "terminated": rng.random(rows) < 0.2,
            "finished": rng.random(rows[:2]) < 0.2,
        }
        made.append(fields)
    return made


def rollout_keys(case: ProximalCase) -> jax.Array:
    """One key per rollout."""
    return jax.random.split(jax.random.key(case.seed + 2), len(ROLLOUTS_BEFORE))
