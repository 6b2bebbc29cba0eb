"""C_ij from a critic, of a view that a real update has made."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mamt_jax.algorithms.coordination import critic_coordination
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.parts import Critic, View
from mamt_jax.config import AlgorithmConfig, ConfigError
from mamt_jax.ops.coordination import mean_score
from mamt_jax.types import Game
from tests.algorithms import tiny
from tests.networks import literal, quick

SIZES, COUNTS, BATCH = (3, 2, 3), (3, 3, 3), 6


@cache
def seen() -> tuple[Critic, View]:
    return tiny.view(SIZES, COUNTS, tiny.batch(SIZES, COUNTS, BATCH))


def weights(**options: object) -> np.ndarray:
    critic, view = seen()
    rule = critic_coordination(critic, tiny.hyper(**options))
    return np.asarray(quick.jit(lambda view: rule.measure(rule.init(), view)[1])(view))


def normalised(action: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batch-normalised one-hot actions, and what they were normalised with."""
    one_hot = np.eye(3)[action]
    mean, spread = one_hot.mean(1, keepdims=True), np.sqrt(one_hot.var(1, keepdims=True) + 1e-5)
    return (one_hot - mean) / spread, mean, spread


def scores() -> np.ndarray:
    """|Q_i(a\\j) − Q_i(a)| by brute force, in NumPy: [n, n, B]."""
    _, view = seen()
    params = literal.as_numpy(view.critic_params)
    x, action = np.asarray(view.x, np.float64), np.asarray(view.action)
    policy = np.exp(np.asarray(view.log_policy, np.float64))
    encoded, mean, spread = normalised(action)
    rows = np.arange(BATCH)
    q = literal.critic(params, x, encoded, 2)[0]
    out = np.zeros((3, 3, BATCH))
    for i in range(3):
        for j in set(range(3)) - {i}:
            other = np.zeros(BATCH)
            for u in range(3):
                changed = np.eye(3)[action]
                changed[j] = np.eye(3)[u]
                replaced = literal.critic(params, x, (changed - mean) / spread, 2)[0]
                other += policy[j, :, u] * replaced[i, rows, action[i]]
            out[i, j] = np.abs(other - q[i, rows, action[i]])
    return out


def softmax_over_others(score: np.ndarray) -> np.ndarray:
    out = np.exp(score) * ~np.eye(3, dtype=bool)[:, :, None]
    return out / out.sum(axis=1, keepdims=True)


def test_coefficients_are_a_softmax_of_brute_force_scores() -> None:
    score = scores()
    raw = weights(coordination_units="raw", coordination_threshold=0.0)
    np.testing.assert_allclose(raw, softmax_over_others(score), atol=1e-5)
    assert np.ptp(score[0, 1:]) > 1e-2  # else anything would pass
    relative = weights(coordination_threshold=0.0)
    mean = score.sum() / (BATCH * 6)
    np.testing.assert_allclose(relative, softmax_over_others(score / mean), atol=1e-4)


def test_released_coefficients_one_sample_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the authors' code has them: fresh actions, |Q_i − V_j| as it is, a column at a time."""
    tiny.know_the_draws(monkeypatch)
    _, view = seen()
    action = tiny.drawn(3, BATCH, 3)
    assert (action != np.asarray(view.action)).any()
    x = np.asarray(view.x, np.float64)
    q = literal.critic(literal.as_numpy(view.critic_params), x, normalised(action)[0], 2)[0]
    policy = np.exp(np.asarray(view.log_policy, np.float64))
    expected = np.zeros((3, 3, BATCH))
    for b in range(BATCH):
        for j in range(3):
            own_mean = policy[j, b] @ q[j, b]
            others = [i for i in range(3) if i != j]
            size = np.array([np.exp(abs(q[i, b, action[i, b]] - own_mean)) for i in others])
            expected[others, j, b] = size / size.sum()
    got = weights(coordination="released", coordination_threshold=0.0)
    np.testing.assert_allclose(got, expected, atol=1e-5)
    np.testing.assert_allclose(got.sum(axis=0), 1, rtol=1e-5)
    assert np.ptp(got.sum(axis=1)) > 1e-2  # rows need not


def test_released_settings_are_the_released_codes() -> None:
    assert tiny.hyper().coordination_scale == (0.2, "relative")
    assert tiny.hyper(coordination="released").coordination_scale == (0.05, "raw")
    own = tiny.hyper(coordination="released", coordination_threshold=0.3)
    assert own.coordination_scale == (0.3, "raw")
    with pytest.raises(ConfigError, match="coordination_units must be 'raw' where coordination is"):
        tiny.hyper(coordination="released", coordination_units="relative")


def test_small_coefficients_are_cut() -> None:
    every = weights(coordination_threshold=0.0)
    threshold = float(np.median(every[every > 0]))
    cut = weights(coordination_threshold=threshold)
    np.testing.assert_allclose(cut, np.where(every >= threshold, every, 0.0), atol=1e-6)
    assert (cut == 0).sum() > (every == 0).sum()


def test_two_agents_need_no_critic() -> None:
    view = tiny.empty_view(action=jnp.zeros((2, BATCH), jnp.int32))
    rule = critic_coordination(None, tiny.hyper())  # type: ignore[arg-type]
    _, got, _ = rule.measure(rule.init(), view)
    np.testing.assert_array_equal(got, np.broadcast_to(1 - np.eye(2)[:, :, None], (2, 2, BATCH)))


def test_mean_score_is_over_pairs_that_are_alive() -> None:
    pairs = (1 - np.eye(3))[:, :, None]
    score = np.random.default_rng(0).uniform(size=(3, 3, 4)) * pairs
    np.testing.assert_allclose(mean_score(jnp.asarray(score)), score.sum() / 24, rtol=1e-5)
    alive = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [1, 0, 0, 0]], bool)
    there = score * alive[:, None] * alive[None]
    got = mean_score(jnp.asarray(there), jnp.asarray(alive))
    np.testing.assert_allclose(got, there.sum() / 8, rtol=1e-5)
    assert mean_score(jnp.zeros((3, 3, 4)), jnp.zeros((3, 4), bool)) == 0


def test_a_critic_that_nothing_moves_coordinates_everybody_alike() -> None:
    """Scores of zero stay zeros in units of their mean: equal shares, and no NaN."""
    critic, view = seen()
    still = critic._replace(effect=lambda view: jnp.zeros((3, 3, BATCH)))
    rule = critic_coordination(still, tiny.hyper())
    _, got, _ = quick.jit(lambda view: rule.measure(rule.init(), view))(view)
    np.testing.assert_allclose(got, 0.5 * np.broadcast_to(1 - np.eye(3)[..., None], got.shape))


def without_own_actions(**options: object) -> tuple[Critic, View, AlgorithmConfig]:
    """The on-policy critic, which has one output, in the same view."""
    _, view = seen()
    settings = tiny.hyper(coordination_units="raw", coordination_threshold=0.0, **options)
    critic = attention_critic(Game(SIZES, COUNTS), settings, own_actions=False)
    params = jax.tree.map(lambda leaf: 4 * leaf, quick.jit(critic.init)(jax.random.key(0)))
    trace = quick.jit(lambda *inputs: critic.apply(*inputs, None))(params, view.x, view.encoded)
    return critic, view._replace(critic_params=params, trace=trace), settings


def test_counterfactuals_of_a_critic_without_own_actions() -> None:
    """|V_i(a\\j) − V_i(a)| by brute force."""
    critic, given, settings = without_own_actions()
    rule = critic_coordination(critic, settings)
    _, got, metrics = quick.jit(lambda view: rule.measure(rule.init(), view))(given)
    policy, score = np.exp(np.asarray(given.log_policy)), np.zeros((3, 3, BATCH))
    for j in range(3):
        mean = np.zeros((3, BATCH))
        for u in range(3):
            changed = np.array(given.encoded)
            changed[j] = np.asarray(given.action_encoding)[j, u]
            params = literal.as_numpy(given.critic_params)
            values = literal.critic(params, np.asarray(given.x), changed, 2)[0]
            mean += policy[j, :, u] * values[..., 0]
        score[:, j] = np.abs(mean - np.asarray(given.trace.q)[..., 0])
        score[j, j] = 0
    assert (score.mean(axis=2)[~np.eye(3, dtype=bool)] > 1e-3).all()
    np.testing.assert_allclose(got, softmax_over_others(score), atol=1e-4)
    np.testing.assert_allclose(
        metrics["coordination_score"], score.mean(axis=2), rtol=1e-3, atol=1e-5
    )


def test_released_scores_of_a_critic_without_own_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its value is Q_i and V_i at once: |V_i − V_j|."""
    tiny.know_the_draws(monkeypatch)
    critic, given, settings = without_own_actions(coordination="released")
    rule = critic_coordination(critic, settings)
    metrics = quick.jit(lambda view: rule.measure(rule.init(), view))(given)[2]
    encoded = normalised(tiny.drawn(3, BATCH, 3))[0]
    params = literal.as_numpy(given.critic_params)
    values = literal.critic(params, np.asarray(given.x), encoded, 2)[0][..., 0]
    expected = np.abs(values[:, None] - values[None]).mean(axis=-1)
    np.testing.assert_allclose(metrics["coordination_score"], expected, rtol=1e-3, atol=1e-5)
