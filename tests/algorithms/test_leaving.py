"""Agents that leave an episode early: whatever the batch holds for them, nothing learns from it."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mamt_jax.algorithms.actor_critic import ActorCritic, LearnerState
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import agent_major, build_actors
from mamt_jax.algorithms.registry import make
from mamt_jax.algorithms.trust_region import no_trust_region
from mamt_jax.networks.critic import SHARED_OVER_AGENTS
from mamt_jax.types import Batch, Game, Metrics, Transition
from tests.algorithms import tiny
from tests.networks import literal, quick

SIZES, COUNTS, BATCH = (3, 2, 3), (3, 2, 3), 10
OPTIONS: dict[str, dict[str, Any]] = {
    "maac": {},
    "mamd": {},
    "maddpg": {},
    "mappo": {"ppo_epochs": 2, "ppo_minibatches": 2},
    "mamt": {},
    "mamt_released": {
        "coordination": "released",
        "coordination_units": "raw",
        "modelling_recent": 5,
        "delta_objective": "surrogate",
        "theta_steps": 2,
        "trd_monotone": True,
    },
}
SOME = np.random.default_rng(5).random((BATCH, 3)) < 0.6
SOME[0], SOME[1], SOME[2] = False, [True, False, False], True


class Outcome(NamedTuple):
    state: LearnerState
    metrics: Metrics


@pytest.fixture(autouse=True)
def known_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.draw_the_most_probable(monkeypatch)


@cache
def learner(name: str, num_agents: int = 3) -> tuple[LearnerState, Any]:
    """A learner for the first n of SIZES, and its compiled update."""
    sizes, counts = SIZES[:num_agents], COUNTS[:num_agents]
    registered = name.split("_")[0]
    settings = tiny.hyper(registered, **OPTIONS[name])
    algorithm = make(registered, Game(sizes, counts), settings)
    return tiny.grown(algorithm), quick.jit(algorithm.update)


def batch(name: str, num_agents: int = 3) -> Batch:
    recent = "modelling_recent" in OPTIONS[name]
    return tiny.batch(SIZES[:num_agents], COUNTS[:num_agents], BATCH, recent=recent)


def outcome(name: str, batch: Batch, num_agents: int = 3) -> Outcome:
    """An update in which δ takes its slow step, too."""
    state, update = learner(name, num_agents)
    batch = tiny.rollout(batch, 5) if name == "mappo" else batch
    return Outcome(*quick.plain(update(state, jax.random.key(0), batch, jnp.int32(1))))


def replaced(batch: Batch, where: np.ndarray, garbage: float) -> Batch:
    """Garbage for all that the agents ``[B, n]`` saw, did and got."""
    flat = jnp.asarray(where)

    def spoil(rows: Transition) -> Transition:
        return rows._replace(
            obs=jnp.where(flat[..., None], garbage, rows.obs),
            action=jnp.where(flat, 1 - rows.action % 2, rows.action),
            reward=jnp.where(flat, garbage, rows.reward),
            next_obs=jnp.where(flat[..., None], garbage, rows.next_obs),
            terminated=jnp.where(flat, ~rows.terminated, rows.terminated),
        )

    recent = None if batch.recent is None else spoil(batch.recent)
    return batch._replace(sample=spoil(batch.sample), recent=recent)


def assert_close(one: Any, two: Any, rtol: float = 1e-4, atol: float = 2e-6) -> None:
    for (path, left), right in zip(
        jax.tree_util.tree_leaves_with_path(one), jax.tree.leaves(two), strict=True
    ):
        name = jax.tree_util.keystr(path)
        np.testing.assert_allclose(left, right, rtol=rtol, atol=atol, err_msg=name)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_with_everybody_there_nothing_changes(name: str) -> None:
    plain = batch(name)
    there = jnp.ones((BATCH, 3), bool)
    recent = None if plain.recent is None else plain.recent._replace(alive=there)
    masked = plain._replace(sample=plain.sample._replace(alive=there), recent=recent)
    assert_close(outcome(name, masked), outcome(name, plain))


@pytest.mark.parametrize("name", list(OPTIONS))
def test_what_absent_agents_are_said_to_do_changes_nothing(name: str) -> None:
    """Bit for bit, in all that is learned and reported."""
    clean = tiny.leaving(batch(name), SOME)
    expected = outcome(name, clean)
    for garbage in (np.nan, 1e3):
        got = outcome(name, replaced(clean, ~SOME, garbage))
        jax.tree.map(np.testing.assert_array_equal, got, expected)
    one = np.zeros_like(SOME)
    one[2, 1] = True  # alive: the comparison can fail
    spoiled = outcome(name, replaced(clean, one, 1e3))
    assert not np.array_equal(
        spoiled.metrics["critic_grad_norm"], expected.metrics["critic_grad_norm"]
    )


@pytest.mark.parametrize("name", [name for name in OPTIONS if name not in ("maddpg", "mappo")])
def test_samples_without_anybody_do_not_count(name: str) -> None:
    """Half a batch and nobody's other half average as that half twice."""
    full = tiny.leaving(batch(name), SOME)
    half, nobody = np.arange(BATCH) % (BATCH // 2), np.arange(BATCH)[:, None] >= BATCH // 2
    twice = jax.tree.map(lambda leaf: leaf[half], (full.sample, full.recent))
    once = tiny.leaving(batch(name), SOME & ~nobody)
    one = outcome(name, once)
    two = outcome(name, full._replace(sample=twice[0], recent=twice[1]))
    assert_close(one.metrics, two.metrics)
    # Adam's first step divides a gradient by itself: compare what it saw instead of what it did.
    for state in ("actor", "critic"):
        assert_close(seen(getattr(one.state, state)), seen(getattr(two.state, state)))
    assert_close(one.state.norm, two.state.norm)


def seen(optimised: Any) -> Any:
    """First moments of a first Adam step: a tenth of the gradient that it saw."""
    is_adam = lambda node: isinstance(node, optax.ScaleByAdamState)  # noqa: E731
    states = jax.tree.leaves(optimised.opt_state, is_leaf=is_adam)
    return next(state for state in states if is_adam(state)).mu


def without(tree: Any, agent: int) -> Any:
    """Leaves without one of four agents' entries, on every leading axis of length four."""

    def leaf(x: Any) -> Any:
        for axis in range(x.ndim):
            if x.shape[axis] != 4:
                break
            x = np.delete(x, agent, axis)
        return x

    return jax.tree.map(leaf, tree)


def smaller(state: LearnerState, agent: int, fresh: LearnerState) -> LearnerState:
    """The learner of the game without an agent: everybody else's parameters, fresh optimisers."""
    cut = lambda tree: without(quick.plain(tree), agent)  # noqa: E731
    params = {
        "actor": fresh.actor._replace(params=cut(state.actor.params)),
        "critic": fresh.critic._replace(params=cut(state.critic.params)),
    }
    for name in ("target_actor", "old_actor", "target_critic"):
        params[name] = cut(getattr(state, name))
    region, inner = fresh.region, fresh.region.nonstationarity
    params["region"] = region._replace(
        trd=region.trd._replace(params=cut(state.region.trd.params)),
        target_trd=cut(state.region.target_trd),
        nonstationarity=inner._replace(params=cut(state.region.nonstationarity.params)),
    )
    return fresh._replace(**params)


@cache
def games() -> tuple[Any, ...]:
    """MAMT's learner and update with four agents, and a fresh learner and update with three.

    The game's size scales the gradient of shared maps and thereby the critic's step: networks
    hardly step. Offsets are drawn for all agents at once: there are none. Before it has learned
    TRD-Net follows δ only if it is monotone.
    """
    settings = tiny.hyper(
        learning_rate=1e-9, delta_exploration=0.0, critic_weight_decay=0.0,
        critic_clip_per_agent=1e6, hidden_size=8, trd_monotone=True,
    )  # fmt: skip
    four, three = (make("mamt", Game((3,) * n, (3,) * n), settings) for n in (4, 3))
    fresh = quick.jit(three.init)(jax.random.key(9))
    return tiny.grown(four), quick.jit(four.update), fresh, quick.jit(three.update)


@pytest.mark.parametrize("agent", range(4))
def test_who_is_never_there_is_not_in_the_game(agent: int) -> None:
    """Four agents, one absent throughout, against a game of the three others.

    Metrics hold every network's loss and gradient norm, C, D and both terms of Eq. 8.
    """
    alive = np.random.default_rng(3).random((BATCH, 4)) < 0.7
    alive[:, agent] = False
    whole = tiny.leaving(tiny.batch((3,) * 4, (3,) * 4, BATCH), alive)
    mean, std = (np.delete(leaf, agent) for leaf in (whole.reward_mean, whole.reward_std))
    rest = jax.tree.map(lambda leaf: np.delete(leaf, agent, 1), quick.plain(whole.sample))
    four, update_four, fresh, update_three = games()
    big, little = (
        Outcome(*quick.plain(update(state, jax.random.key(0), given, jnp.int32(1))))
        for update, state, given in (
            (update_four, four, whole),
            (update_three, smaller(four, agent, fresh), Batch(rest, mean, std, None)),
        )
    )
    for key in set(big.metrics) - {"critic_grad_norm"}:
        got = without(big.metrics[key], agent)
        np.testing.assert_allclose(got, little.metrics[key], rtol=2e-3, atol=2e-6, err_msg=key)
    gradient = without(seen(big.state.critic), agent)["params"]
    for module, leaves in seen(little.state.critic)["params"].items():
        share = 4 / 3 if module in SHARED_OVER_AGENTS else 1.0
        scaled = jax.tree.map(lambda leaf, share=share: leaf * share, gradient[module])
        assert_close(scaled, leaves, rtol=1e-3)
    assert_close(without(seen(big.state.actor), agent), seen(little.state.actor), rtol=1e-3)


@pytest.mark.parametrize(("name", "num_agents"), [*((name, 3) for name in OPTIONS), ("mamt", 2)])
def test_nothing_is_nan_whoever_is_missing(name: str, num_agents: int) -> None:
    """One agent throughout, everybody in a sample, everybody throughout."""
    kinds = [np.ones((BATCH, num_agents), bool) for _ in range(2)]
    kinds[0][:, 1], kinds[0][0] = False, False
    kinds[1][:] = False
    before, _ = learner(name, num_agents)
    for alive in kinds:
        got = outcome(name, tiny.leaving(batch(name, num_agents), alive), num_agents)
        for path, leaf in jax.tree_util.tree_leaves_with_path(got):
            assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
        # Nobody learned anything of how agent 1's observations are spread.
        np.testing.assert_array_equal(got.state.norm.var[1], before.norm.var[1])
    assert (got.metrics["critic_loss"] == 0).all() and (got.metrics["policy_loss"] == 0).all()


def test_targets_attend_to_those_that_stay() -> None:
    """Against the NumPy critic of the agents that stay, sample by sample."""
    settings = tiny.hyper()
    game = Game((3,) * 3, (3,) * 3)
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    parts = ActorCritic(actors, settings, critic, no_trust_region(game))
    state = tiny.grown(make("maac", game, settings))
    given = agent_major(tiny.leaving(tiny.batch((3,) * 3, (3,) * 3, BATCH), SOME))
    got = quick.jit(parts._td_target)(state, jax.random.key(0), given)

    alive, terminated = (np.asarray(leaf) for leaf in (given.sample.alive, given.sample.terminated))
    x = normalised(np.asarray(given.sample.next_obs, np.float64), alive)
    policy = literal.softmax(literal.actor(literal.as_numpy(state.target_actor), x))
    action = policy.argmax(axis=-1)
    encoded = normalised(np.eye(3)[action], alive)
    reward = (given.sample.reward - given.reward_mean[:, None]) / given.reward_std[:, None]
    params, sizes = literal.as_numpy(state.target_critic), set()
    for b in range(BATCH):
        stay = [i for i in range(3) if alive[i, b] and not terminated[i, b]]
        sizes.add(len(stay))
        q = lone_or_joint(params, stay, x[:, [b]], encoded[:, [b]])
        for i in range(3):
            future = 0.0
            if i in stay:
                entropy = np.log(policy[i, b].max()) / settings.soft_reward_scale
                future = q[stay.index(i), 0, action[i, b]] - entropy
            if alive[i, b]:
                expected = reward[i, b] + settings.discount * future
                np.testing.assert_allclose(got[i, b], expected, rtol=1e-4, atol=1e-5)
    assert sizes >= {0, 1, 2}


def normalised(x: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Batch normalisation ``[n, B, I]`` over the samples where an agent is alive; else zero."""
    out = np.zeros_like(x)
    for i in range(len(x)):
        out[i, alive[i]] = literal.batch_norm(x[[i]][:, alive[i]])[0]
    return out


def lone_or_joint(
    params: Any, agents: list[int], x: np.ndarray, encoded: np.ndarray
) -> np.ndarray | None:
    """The NumPy critic of some of the agents; one alone attends to nobody."""
    if not agents:
        return None
    mine = {
        name: layer
        if name in ("query", "key", "value")
        else {key: leaf[agents] for key, leaf in layer.items()}
        for name, layer in params.items()
    }
    if len(agents) > 1:
        return literal.critic(mine, x[agents], encoded[agents], 2)[0]
    state = literal.leaky(literal.agent_dense(mine["encode_state"], 0, x[agents[0]]))
    hidden = literal.leaky(literal.agent_dense(mine["head_state"], 0, state))
    return literal.agent_output(mine["head_out"], 0, hidden)[None]
