"""Every registered algorithm: one table, the same promises."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.registry import ALGORITHMS, Recipe, make
from mamt_jax.config import make_config
from mamt_jax.envs.toy import ToyMatching
from mamt_jax.errors import ConfigError
from mamt_jax.quantities import QUANTITIES
from mamt_jax.settings import Settings, numbers
from mamt_jax.training import checkpoint
from mamt_jax.training.trainer import make_trainer
from mamt_jax.types import Algorithm, Game
from tests.algorithms import tiny
from tests.networks import quick

OBS, ACTIONS, BATCH, ENVS = (5, 3, 4), (5, 3, 4), 12, 400
"""Agents that differ in what they see and in what they can do."""
THREE, TWO = Game(OBS, ACTIONS, teams=((0, 2), (1,))), Game(OBS[:2], ACTIONS[:2])

RECOMBINED = ("mamd_op", "mamd_kl", "mamt_random", "mamt_fixed", "mamt_ws", "mamt_ppo")
"""Algorithms of which every part is another's, but for one that has a test of its own."""

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{name: (name, {}) for name in ALGORITHMS},
    "mamt, every other option": (
        "mamt",
        {
            "coordination": "released",
            "coordination_units": "raw",
            "delta_rule": "penalty",
            "delta_objective": "surrogate",
            "modelling_recent": 50,
            "modelling_opponents": "one",
            "region_samples": 5,
            "trd_monotone": True,
        },
    ),
}


def game(name: str) -> Game:
    """Three agents, or two where no more are possible."""
    return TWO if name == "lola_dqn" else THREE


@cache
def built(variant: str) -> tuple[Algorithm, Any, Settings]:
    name, options = VARIANTS[variant]
    settings = tiny.settings(name, hidden_size=8, ppo_epochs=2, ppo_minibatches=2, **options)
    algorithm = make(name, game(name), settings)
    return algorithm, quick.jit(algorithm.init)(jax.random.key(0)), settings


def sharpened(state: Any) -> Any:
    """Policies with large logits, to the point of never drawing some actions."""
    larger = jax.tree.map(lambda leaf: leaf * 6, state.actor.params)
    return state._replace(actor=state.actor._replace(params=larger))


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("sharp", [False, True])
def test_actions_are_possible_and_every_possible_one_is_drawn(name: str, sharp: bool) -> None:
    algorithm, state, _ = built(name)
    state = sharpened(state) if sharp else state
    agents, sizes, counts = game(name).num_agents, *game(name)[:2]
    obs = np.random.default_rng(0).normal(size=(ENVS, agents, 5)).astype(np.float32)
    for i, size in enumerate(sizes):
        obs[:, i, size:] = 0
    drawn = np.asarray(algorithm.act(state, jax.random.key(1), jnp.asarray(obs)))
    best = np.asarray(algorithm.greedy(state, jnp.asarray(obs)))
    for actions in (drawn, best):
        assert actions.shape == (ENVS, agents) and actions.dtype == np.int32
        assert (actions >= 0).all() and (actions < counts).all()
    if not sharp:
        for i, count in enumerate(counts):
            assert len(np.unique(drawn[:, i])) == count
        # Agents draw independently: with the same key, they do not move in step.
        assert (drawn[:, 0] != drawn[:, -1]).mean() > 0.5
    again = algorithm.act(state, jax.random.key(1), jnp.asarray(obs))
    np.testing.assert_array_equal(again, drawn)
    np.testing.assert_array_equal(algorithm.greedy(state, jnp.asarray(obs)), best)


@pytest.mark.parametrize("variant", VARIANTS)
def test_updates_are_finite_and_report_what_the_table_lists(variant: str) -> None:
    """Every metric has the dimensions that QUANTITIES says; states keep types; keys serve once."""
    algorithm, state, settings = built(variant)
    sizes, agents = game(algorithm.name)[:2], game(algorithm.name).num_agents
    chosen = settings.flat()
    recent = bool(chosen.get("modelling_recent"))
    batch = tiny.batch_for(algorithm, *sizes, size=BATCH, recent=recent)
    update, first = quick.jit(algorithm.update), state
    with jax.debug_key_reuse(True):
        for count in range(3):
            before = state
            state, metrics = update(state, jax.random.key(count), batch, jnp.int32(count))
    like = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)  # noqa: E731
    assert like(first) == like(state)
    lengths = {"agent": agents, "opponent": agents, "head": chosen.get("attention_heads")}
    for name, value in metrics.items():
        assert name in QUANTITIES, name
        assert value.shape == tuple(lengths[dim] for dim in QUANTITIES[name].dims), name
        assert np.isfinite(value).all(), name
    for leaf, old in zip(*map(jax.tree.leaves, (state.actor, before.actor)), strict=True):
        assert np.isfinite(leaf).all() and not np.array_equal(leaf, old)


def other_numbers(settings: Settings) -> Settings:
    """The same structure, and every number another."""
    known = settings.settled().flat()
    values = {name: known[name] for name in settings.numbers()}
    changed = {n: v + 1 if isinstance(v, int) else 0.9 * v + 1e-6 for n, v in values.items()}
    return settings.settled().replace(changed)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=pytest.mark.slow if n in RECOMBINED else ()) for n in ALGORITHMS],
)
def test_learns_the_matching_game_in_one_program(name: str, tmp_path: Path) -> None:
    """Seven epochs on toy_matching: from 0.56 by chance to the optimum of 5, traced once.

    The last epoch is the same again from a checkpoint on disk, to the bit.
    """
    env, recipe = ToyMatching(), ALGORITHMS[name]
    wanted = {
        "steps_per_update": 40, "updates_per_event": 8, "batch_size": 64, "buffer_size": 2000,
        "rollout_size": 80, "ppo_epochs": 8, "ppo_minibatches": 2, "ppo_clip": 0.4,
        "hidden_size": 16, "attention_heads": 2, "discount": 0.5, "target_tau": 0.02,
        "old_policy_period": 20, "learning_rate": 3e-3 if name.endswith("ppo") else 1e-2,
    }  # fmt: skip
    config = make_config(
        algorithm=name, env=env.name, seeds=2, seed_batch=2, episodes=560, log_interval=80,
        num_envs=8, **{key: wanted[key] for key in wanted if key in recipe.settings.flat()},
    )  # fmt: skip
    traces = {"update": 0, "act": 0}

    def watched(game: Game, settings: Settings) -> Algorithm:
        algorithm = recipe(game, settings)

        def counted(part: str) -> Any:
            def traced(*arguments: Any) -> Any:
                traces[part] += 1
                return getattr(algorithm, part)(*arguments)

            return traced

        return algorithm._replace(update=counted("update"), act=counted("act"))

    made = make_trainer(config, env, Recipe(watched, recipe.settings))
    trainer, algorithm = quick.trainer(made), recipe(made.game, config.settings)
    state, returns, after_first = trainer.init(jnp.arange(2)), [], {}
    for point in range(trainer.plan.points):
        if point == trainer.plan.points - 1:
            checkpoint.save(tmp_path, state, checkpoint.Meta(point, 0, 0.0))
        state, output = trainer.epoch(state)
        returns.append(output.return_sum.sum(axis=1) / output.episodes.sum(axis=1))
        after_first = after_first or dict(traces)
        assert all(np.isfinite(value).all() for value in output.metrics.values())
    (saved,), like = checkpoint.steps(tmp_path), jax.eval_shape(made.init, jnp.arange(2))
    again = trainer.epoch(checkpoint.restore(saved, like))
    jax.tree.map(np.testing.assert_array_equal, quick.plain(again), quick.plain((state, output)))
    assert traces == after_first and traces["update"] > 0
    assert (returns[-1] > 0.97 * env.optimal_return).all(), returns
    obs = jax.vmap(env.reset)(jax.random.split(jax.random.key(0), 32))[1]
    for seed in range(2):
        learner = jax.tree.map(lambda leaf, s=seed: leaf[s], state.learner)
        np.testing.assert_array_equal(algorithm.greedy(learner, obs), env.best_actions(obs))
    different = numbers.as_data(other_numbers(config.settings))
    state, _ = trainer.epoch.func(different, state)
    assert traces == after_first, "another number was compiled anew"


def test_registry_describes_itself() -> None:
    assert len(ALGORITHMS) == 12
    for name, entry in ALGORITHMS.items():
        assert entry.summary and "\n" not in entry.summary
        assert make(name, game(name)).name == name
    with pytest.raises(ConfigError, match="Unknown algorithm 'sarsa'; accepted are mamt"):
        make("sarsa", THREE)
