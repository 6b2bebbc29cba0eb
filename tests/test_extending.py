"""Follows the README: a new environment and a new algorithm, registered and trained."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mamt_jax
from mamt_jax import envs
from mamt_jax.algorithms import registry
from mamt_jax.cli import main as cli
from mamt_jax.config import AlgorithmConfig
from mamt_jax.types import Algorithm, Batch, Game

TINY: dict[str, Any] = {
    "seeds": 2,
    "episodes": 40,
    "batch_size": 8,
    "num_envs": 2,
    "steps_per_update": 10,
    "log_interval": 10,
}


@dataclass(frozen=True)
class Countdown:
    """Two agents; action 1 is worth ``prize``, action 0 nothing; five steps."""

    prize: float = 1.0

    @property
    def spec(self) -> envs.EnvSpec:
        return envs.EnvSpec("countdown", 2, (1, 1), (2, 2), 5, "Prefer action 1 for five steps.")

    def reset(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jnp.int32(0), jnp.zeros((2, 1))

    def step(self, key: jax.Array, state: jax.Array, actions: jax.Array) -> envs.TimeStep:
        state = state + 1
        obs = jnp.full((2, 1), state / 5.0)
        reward = self.prize * actions.astype(jnp.float32)
        return envs.TimeStep(state, obs, reward, jnp.bool_(False), state >= 5)


def bandit(game: Game, hyper: AlgorithmConfig) -> Algorithm:
    """Policies that ignore what they see and climb the expected immediate reward."""
    shape = (game.num_agents, game.num_actions)

    def act(state: jax.Array, key: jax.Array, obs: jax.Array) -> jax.Array:
        logits = jnp.broadcast_to(state, (obs.shape[0], *shape))
        return jax.random.categorical(key, logits).astype(jnp.int32)

    def greedy(state: jax.Array, obs: jax.Array) -> jax.Array:
        return jnp.broadcast_to(state.argmax(-1), obs.shape[:2]).astype(jnp.int32)

    def update(
        state: jax.Array, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        chosen = jax.nn.one_hot(batch.sample.action, shape[1])
        gain = (chosen * (batch.sample.reward - batch.reward_mean)[..., None]).mean(0)
        return state + hyper.learning_rate * gain, {"reward_mean": batch.reward_mean}

    return Algorithm("bandit", lambda key: jnp.zeros(shape), act, greedy, update)


@pytest.fixture
def extended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Step 2 of both instructions: a line in each registry."""
    monkeypatch.setattr(envs, "_REGISTRY", {**envs._REGISTRY, "countdown": Countdown})
    entry = registry.Entry("Climbs the immediate reward", bandit)
    monkeypatch.setitem(registry.ALGORITHMS, "bandit", entry)


def test_the_readmes_twelfth_algorithm_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's lines as they are, at the end of the registry: at most 20 of them."""
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"```python\n(def mamt_fixed_ws.*?)```", text, re.DOTALL)
    assert len(lines.splitlines()) <= 20
    monkeypatch.setattr(registry, "ALGORITHMS", dict(registry.ALGORITHMS))
    exec(lines, dict(vars(registry)))
    assert "mamt_fixed_ws" in registry.ALGORITHMS
    sizes = {"hidden_size": 8, "attention_heads": 2} | TINY
    run = mamt_jax.train("mamt_fixed_ws", "toy_matching", **sizes)
    assert (run.metrics.coordination_mean.values[:, -1] == 1 - np.eye(2)).all()
    assert np.isfinite(run.metrics.nonstationarity.values[:, -1]).all()


@pytest.mark.usefixtures("extended")
def test_new_algorithm_learns_new_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = mamt_jax.train(
        "bandit",
        "countdown",
        env_options={"prize": 2.0},
        learning_rate=5.0,
        out=tmp_path / "run",
        **TINY,
    )
    returns = run.metrics.return_mean.values
    assert (returns[:, -1] > returns[:, 0]).all()
    assert (run.evaluate(episodes=3) == 10.0).all()  # five steps, two points each
    monkeypatch.delitem(envs._REGISTRY, "countdown")  # type: ignore[arg-type]
    elsewhere = mamt_jax.load(tmp_path / "run")
    assert (elsewhere.policies.act(np.zeros((2, 1))) == 1).all()
    assert elsewhere.metrics.reward_mean.agent.values.tolist() == ["agent_0", "agent_1"]


@pytest.mark.usefixtures("extended")
def test_new_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["list"]) == 0
    text = capsys.readouterr().out
    assert "bandit" in text and "Prefer action 1" in text


@pytest.mark.usefixtures("extended")
def test_registered_algorithm_runs_on_new_environment() -> None:
    run = mamt_jax.train("maddpg", "countdown", hidden_size=8, **TINY)
    assert np.isfinite(run.metrics.critic_loss.values[:, -1]).all()
