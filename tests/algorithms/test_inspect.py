"""What algorithms say of single steps, against NumPy and against what their updates say."""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.coordination import ScoreUnit
from mamt_jax.algorithms.registry import make
from mamt_jax.networks import layers
from mamt_jax.ops.proximal import ReturnMoments
from mamt_jax.types import Algorithm, Game
from tests.algorithms import tiny
from tests.networks import literal, quick

GAME, BATCH, STEPS = Game((3, 2, 3), (3, 2, 3), teams=((0, 2), (1,))), 6, 4
TWO = Game(GAME.obs_sizes[:2], GAME.action_counts[:2])
OPTIONS: dict[str, dict[str, Any]] = {
    "mamt": {"trd_monotone": True},
    "mamt_ws": {},
    "mamd": {"delta_fixed": 0.7},
    "mamd_kl": {"delta_init": 0.7},
    "mamt_ppo": {},
    "maddpg": {},
    "lola_dqn": {},
}
VALUED = {"probability", "q", "value", "advantage"}
REGION = {"coordination", "divergence", "nonstationarity", "delta", "local_kl_predicted"}
SAID = {
    **dict.fromkeys(("mamt", "mamt_ws"), VALUED | REGION | {"attention", "local_kl"}),
    **dict.fromkeys(("mamd", "mamd_kl"), VALUED | {"attention", "local_kl", "delta"}),
    "mamt_ppo": REGION | {"probability", "value", "attention"},
    "maddpg": VALUED,
    "lola_dqn": VALUED,
}


class Case(NamedTuple):
    algorithm: Algorithm
    state: Any
    """With statistics that are not those of a new learner."""
    update: Any
    inspect: Any


def game_of(name: str) -> Game:
    return TWO if name == "lola_dqn" else GAME


@cache
def case(name: str) -> Case:
    algorithm = make(name, game_of(name), tiny.settings(name, **OPTIONS[name]))
    assert algorithm.inspect is not None
    update, inspect = quick.jit(algorithm.update), quick.jit(algorithm.inspect)
    return Case(algorithm, lived(tiny.grown(algorithm)), update, inspect)


def lived(state: Any) -> Any:
    """With running statistics and offsets of δ as after some training."""
    rng = np.random.default_rng(0)

    def norm(like: layers.NormState) -> layers.NormState:
        mean, var = rng.normal(1.0, 0.5, like.mean.shape), rng.uniform(0.5, 3.0, like.var.shape)
        return layers.NormState(jnp.asarray(mean, jnp.float32), jnp.asarray(var, jnp.float32))

    changes = {
        field: norm(getattr(state, field))
        for field in ("norm", "action_norm")
        if hasattr(state, field)
    }
    if hasattr(state, "returns"):
        changes["returns"] = ReturnMoments(*jnp.array([[-1.0] * 3, [9.0] * 3, [0.5] * 3]))
    region = getattr(state, "region", ())
    if hasattr(region, "offset"):
        region = region._replace(offset=jnp.array([0.3, 0.0, -0.2]))
        if isinstance(region.coordination, ScoreUnit):
            region = region._replace(coordination=ScoreUnit(*jnp.array([0.05, 0.5])))
        changes["region"] = region
    return state._replace(**changes)


def steps(name: str) -> tuple[jax.Array, jax.Array]:
    sample = tiny.batch(*game_of(name)[:2], STEPS, seed=5).sample
    return sample.obs, sample.action


def fields(found: dict[str, jax.Array]) -> dict[str, np.ndarray]:
    return {name: np.asarray(values, np.float64) for name, values in found.items()}


@pytest.mark.parametrize("name", list(OPTIONS))
def test_what_each_algorithm_says(name: str) -> None:
    made, (obs, action), n = case(name), steps(name), game_of(name).num_agents
    found = fields(made.inspect(made.state, obs, action, None))
    assert set(found) == SAID[name]
    tails = {"probability": (3,), "q": (3,), "attention": (n, 2)}
    for key in ("coordination", "divergence"):
        tails[key] = (n,)
    for key, values in found.items():
        assert values.shape == (STEPS, n, *tails.get(key, ())), key
        if key in ("attention", "coordination", "divergence"):
            assert (values[:, np.arange(n), np.arange(n)] == 0).all(), key


@pytest.mark.parametrize("name", ["mamt", "mamt_ppo"])
def test_a_step_is_described_alone_as_among_others(name: str) -> None:
    made, (obs, action) = case(name), steps(name)
    found = fields(made.inspect(made.state, obs, action, None))
    for step in range(STEPS):
        alone = fields(
            made.inspect(made.state, *(leaf[step : step + 1] for leaf in (obs, action)), None)
        )
        for key, values in found.items():
            np.testing.assert_allclose(alone[key][0], values[step], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["mamt", "mamt_ws", "mamt_ppo", "maddpg"])
def test_what_is_said_of_agents_that_have_left_is_nan(name: str) -> None:
    """And nothing else is; what is left of their rows reaches nobody."""
    made, (obs, action) = case(name), steps(name)
    alive = np.ones((STEPS, 3), bool)
    alive[0, 1], alive[1, :2] = False, False
    spoiled = jnp.where(jnp.asarray(alive)[..., None], obs, jnp.nan)
    other = jnp.where(jnp.asarray(alive), action, 1 - action % 2)
    found = fields(made.inspect(made.state, obs, action, jnp.asarray(alive)))
    again = fields(made.inspect(made.state, spoiled, other, jnp.asarray(alive)))
    pairs = alive[:, :, None] & alive[:, None]
    for key, values in found.items():
        np.testing.assert_array_equal(values, again[key], err_msg=key)
        there = pairs if key in ("attention", "coordination", "divergence") else alive
        assert np.isnan(values[~there]).all(), key
        finite = np.isfinite(values)
        if key == "q":
            assert (np.isnan(values[:, 1, 2])).all()  # agent 1 has no third action
            finite[:, 1, 2] = True
        assert finite[there].all(), key


def plugged(state: Any, batch: Any, metrics: Any) -> Any:
    """The state with what an update took from this batch in place of running statistics."""
    sample = batch.sample
    alive = None if sample.alive is None else sample.alive.T
    one_hot = jax.nn.one_hot(sample.action.T, 3)
    norm = layers.statistics(jnp.swapaxes(sample.obs, 0, 1), alive)
    action_norm = layers.statistics(one_hot, alive)
    there = np.ones((3, BATCH)) if alive is None else np.asarray(alive, float)
    counts = (there @ there.T) * (1 - np.eye(3))
    score = np.asarray(metrics["coordination_score"], np.float64)  # a mean for each pair of agents
    unit = jnp.float32((score * counts).sum() / counts.sum())
    region = state.region._replace(coordination=ScoreUnit(unit, jnp.ones(())))
    return state._replace(norm=norm, action_norm=action_norm, region=region)


def mean_where(values: np.ndarray, alive: np.ndarray, axis: int = 0) -> np.ndarray:
    """Mean over steps of what is said of those that are there."""
    return np.asarray(np.nanmean(np.where(alive, values, np.nan), axis=axis))


@pytest.mark.parametrize("name", ["mamt", "mamt_ws"])
def test_with_an_updates_statistics_it_says_what_the_update_says(name: str) -> None:
    """And the update adds its mean score to the running one, the unit of C."""
    made = case(name)
    alive = np.random.default_rng(2).random((BATCH, 3)) < 0.8
    batch = tiny.leaving(tiny.batch(*GAME[:2], BATCH, seed=7), alive)
    after, metrics = made.update(made.state, jax.random.key(4), batch, jnp.int32(0))  # δ is not due
    state = plugged(made.state, batch, metrics)
    sample = batch.sample
    found = fields(made.inspect(state, sample.obs, sample.action, sample.alive))

    def check(metric: str, values: np.ndarray, there: np.ndarray) -> None:
        expected, got = np.asarray(metrics[metric]), mean_where(values, there)
        np.testing.assert_allclose(got, expected, rtol=2e-4, atol=1e-6, err_msg=metric)

    chosen = np.take_along_axis(found["q"], np.asarray(sample.action)[..., None], -1)[..., 0]
    check("q_mean", chosen, alive)
    check("local_kl", found["local_kl"], alive)
    entropy = -np.nansum(found["probability"] * np.log(found["probability"] + 1e-30), axis=-1)
    check("entropy", entropy, alive)
    weights = found["attention"]
    spread = -np.nansum(weights * np.log(np.where(weights > 0, weights, 1)), axis=2)
    check("attention_entropy", spread, alive[..., None])
    check("delta", found["delta"], alive)
    pairs = (alive[:, :, None] & alive[:, None]) | np.eye(3, dtype=bool)
    check("coordination_mean", found["coordination"], pairs)
    check("nonstationarity", found["nonstationarity"], alive)
    check("trd_kl", found["local_kl_predicted"], alive)
    assert np.ptp(found["coordination"][:, 0, 1:][alive.all(1)]) > 0.01
    before, unit = made.state.region.coordination, state.region.coordination.total
    running = after.region.coordination
    np.testing.assert_allclose(running.total, 0.9 * before.total + 0.1 * unit, rtol=1e-4)
    np.testing.assert_allclose(running.weight, 0.9 * before.weight + 0.1, rtol=1e-5)


def numpy_mamt(state: Any, obs: np.ndarray, action: np.ndarray) -> dict[str, np.ndarray]:
    """Everything, one step and one opponent's action at a time; agent-major."""

    def normal(stats: Any, x: np.ndarray) -> np.ndarray:
        mean, var = (np.asarray(leaf, np.float64)[:, None] for leaf in stats)
        return np.asarray((x - mean) / np.sqrt(var + 1e-5))

    def log_policy(params: Any) -> np.ndarray:
        logits = literal.actor(literal.as_numpy(params), x)
        logits[1, :, 2] = -1e9
        return np.log(np.maximum(literal.softmax(logits), 1e-300))

    x = normal(state.norm, np.moveaxis(obs, 1, 0))
    rows, chosen = np.arange(STEPS), action.T
    new, old = log_policy(state.actor.params), log_policy(state.old_actor)
    policy = np.exp(new)
    params = literal.as_numpy(state.critic.params)
    encoded = normal(state.action_norm, np.eye(3)[chosen])
    q, logits = literal.critic(params, x, encoded, 2)
    value = np.sum(policy * q, axis=-1)
    taken = np.take_along_axis(q, chosen[..., None], -1)[..., 0]
    effect = np.zeros((3, 3, STEPS))
    for j in range(3):
        mean = np.zeros((3, STEPS))
        for u in range(3):
            changed = chosen.copy()
            changed[j] = u
            other = literal.critic(params, x, normal(state.action_norm, np.eye(3)[changed]), 2)[0]
            for i in range(3):
                mean[i] += policy[j, :, u] * other[i, rows, chosen[i]]
        effect[:, j] = np.abs(mean - taken)
    unit = float(state.region.coordination.total / state.region.coordination.weight)
    off = ~np.eye(3, dtype=bool)[..., None]
    soft = np.exp(effect / unit) * off
    soft /= soft.sum(axis=1, keepdims=True)
    coordination = np.where(soft >= 0.2, soft, 0.0)
    divergence = np.zeros((3, 3, STEPS))
    modelling = literal.as_numpy(state.region.nonstationarity.params)
    for (i, j), expected in literal.modelling(modelling, x).items():
        count = GAME.action_counts[j]
        h = literal.softmax(expected[:, :count])
        divergence[i, j] = np.sum(h * np.log(h / policy[j, :, :count]), axis=-1)
    region = state.region
    log_delta, offset = (np.asarray(leaf) for leaf in (region.log_delta, region.offset))
    sign = lambda kernel: np.asarray(layers.positive(kernel))  # noqa: E731
    trd = literal.as_numpy(region.trd.params)
    weights = np.zeros((3, 3, STEPS, 2))
    for i in range(3):
        others = [j for j in range(3) if j != i]
        score = np.moveaxis(logits[i, others], 0, -1) / np.sqrt(2)
        weights[i, others] = np.moveaxis(literal.softmax(score), -1, 0)
    return {
        "probability": policy,
        "q": q,
        "value": value,
        "advantage": taken - value,
        "attention": weights,
        "coordination": coordination,
        "divergence": divergence,
        "nonstationarity": np.sum(coordination * divergence, axis=1),
        "delta": np.repeat(np.exp(log_delta)[:, None], STEPS, axis=1),
        "local_kl": np.sum(policy * (new - old), axis=-1),
        "local_kl_predicted": literal.trd_net(
            trd, x, encoded, log_delta + offset, coordination, sign
        ),
    }


def test_every_number_of_mamt_against_numpy() -> None:
    made, (obs, action) = case("mamt"), steps("mamt")
    found = fields(made.inspect(made.state, obs, action, None))
    expected = numpy_mamt(made.state, np.asarray(obs, np.float64), np.asarray(action))
    for key, values in expected.items():
        pair = key in ("attention", "coordination", "divergence")
        turned = np.moveaxis(values, 2, 0) if pair else np.swapaxes(values, 0, 1)
        if key == "q":
            turned[:, 1, 2] = np.nan
        np.testing.assert_allclose(found[key], turned, rtol=1e-3, atol=2e-5, err_msg=key)
    assert np.ptp(found["coordination"]) > 0.3 and np.ptp(found["divergence"]) > 0.01


def test_the_unit_of_c_forgets_its_start_and_batches_without_pairs() -> None:
    unit = ScoreUnit(jnp.zeros(()), jnp.zeros(()))
    assert unit.value() == 1
    for mean in (0.4, 0.2, 0.3):
        unit = unit.add(jnp.float32(mean), True).add(jnp.float32(9.0), jnp.bool_(False))
    shares = 0.1 * np.array([0.81, 0.9, 1.0])
    np.testing.assert_allclose(unit.value(), shares @ [0.4, 0.2, 0.3] / shares.sum(), rtol=1e-5)


def test_values_of_ppo_are_in_units_of_the_reward() -> None:
    made, (obs, action) = case("mamt_ppo"), steps("mamt_ppo")
    state, found = made.state, fields(made.inspect(made.state, obs, action, None))
    rows = np.moveaxis(np.asarray(obs, np.float64), 1, 0)

    def normal(stats: Any, x: np.ndarray) -> np.ndarray:
        mean, var = (np.asarray(leaf, np.float64)[:, None] for leaf in stats)
        return np.asarray((x - mean) / np.sqrt(var + 1e-5))

    encoded = normal(state.action_norm, np.eye(3)[np.asarray(action).T])
    params = literal.as_numpy(state.critic.params)
    q, _ = literal.critic(params, normal(state.norm, rows), encoded, 2)
    mean, std = (np.asarray(leaf)[:, None] for leaf in state.returns.mean_and_std())
    np.testing.assert_allclose(found["value"].T, mean + std * q[..., 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["maddpg", "lola_dqn"])
def test_values_of_joint_critics(name: str) -> None:
    """Q_i of every own action beside what the others did, by the NumPy critic."""
    made, (obs, action) = case(name), steps(name)
    game, state = game_of(name), made.state
    n, sizes = game.num_agents, game.obs_sizes
    found = fields(made.inspect(state, obs, action, None))
    mean, var = (np.asarray(leaf, np.float64)[:, None] for leaf in state.norm)
    x = (np.moveaxis(np.asarray(obs, np.float64), 1, 0) - mean) / np.sqrt(var + 1e-5)
    joint = np.concatenate([x[i][:, : sizes[i]] for i in range(n)], axis=1)
    params, chosen = literal.as_numpy(state.critic.params), np.asarray(action)
    q = np.zeros((STEPS, n, 3))
    for i in range(n):
        for u in range(3):
            acts = chosen.copy()
            acts[:, i] = u
            if name == "maddpg":
                inputs = np.concatenate((joint, np.eye(3)[acts].reshape(STEPS, -1)), axis=1)
                q[:, i, u] = literal.joint_critic(params, np.stack([inputs] * n))[i, :, 0]
            else:
                both = literal.joint_critic(params, np.stack([joint] * n))[i]
                q[:, i, u] = both[np.arange(STEPS), acts[:, 0] * 3 + acts[:, 1]]
    value = np.sum(found["probability"] * q, axis=-1)
    q[:, 1, 2] = np.nan
    np.testing.assert_allclose(found["q"], q, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["value"], value, rtol=1e-4, atol=1e-5)
    taken = np.take_along_axis(q, chosen[..., None], -1)[..., 0]
    np.testing.assert_allclose(found["advantage"], taken - value, rtol=1e-3, atol=1e-5)
