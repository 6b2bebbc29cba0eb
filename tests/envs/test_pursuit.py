"""Pursuit against PettingZoo's `pursuit_v5`, from the same states and with the same evader moves.

PettingZoo plays the episodes. Every state it passes through is put into the JAX environment, which
makes one step from it: places are integers, so that agreement in every step is agreement in whole
episodes.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.typing import NDArray
from pettingzoo.sisl import pursuit_v5
from pettingzoo.sisl.pursuit.utils import two_d_maps
from pettingzoo.sisl.pursuit.utils.controllers import PursuitPolicy
from scipy import stats

from mamt_jax import envs
from mamt_jax.envs.pursuit import STAY, Pursuit, PursuitState

TOLERANCE = 1e-6
MOVES = np.array([(-1, 0), (1, 0), (0, 1), (0, -1), (0, 0)])
PAPER = {"shared_reward": False, "urgency_reward": 0.0}  # in PettingZoo's words

CONFIGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "pettingzoo": {"variant": "pettingzoo"},
    "few on a small board": {
        "variant": "pettingzoo",
        "x_size": 9,
        "y_size": 7,
        "n_evaders": 5,
        "n_pursuers": 4,
        "obs_range": 5,
    },
    "without surrounding": {"surround": False, "x_size": 8, "y_size": 8, "n_evaders": 6},
    "three on top": {
        "surround": False,
        "n_catch": 3,
        "n_pursuers": 7,
        "n_evaders": 4,
        "shared_reward": True,
        "catch_reward": 2.5,
        "tag_reward": 0.3,
        "urgency_reward": -0.05,
        "obs_range": 3,
        "x_size": 6,
        "y_size": 9,
    },
    "frozen": {"freeze_evaders": True, "n_evaders": 4, "n_pursuers": 6, "x_size": 7, "y_size": 10},
    "even range, window": {
        "obs_range": 6,
        "x_size": 12,
        "y_size": 20,
        "constraint_window": 0.75,
        "n_evaders": 6,
        "n_pursuers": 5,
        "tag_reward": -0.2,
        "catch_reward": 7.5,
        "urgency_reward": 0.1,
    },
    "one evader, wide view": {
        "x_size": 5,
        "y_size": 5,
        "n_evaders": 1,
        "n_pursuers": 5,
        "obs_range": 11,
    },
    "any touch": {"surround": False, "n_catch": 1, "n_evaders": 3, "x_size": 10, "y_size": 5},
}


class Scripted(PursuitPolicy):
    """Moves evaders as told. PettingZoo asks for one remaining evader after the other."""

    gone: NDArray[np.bool_]  # PettingZoo's own array: what it says is true when it asks

    def begin(self, moves: NDArray[np.int64]) -> None:
        self.moves, self.asked = moves, 0

    def act(self, state: Any) -> int:
        slot = np.flatnonzero(~self.gone)[self.asked]
        self.asked += 1
        return int(self.moves[slot])


class Theirs:
    """PettingZoo's environment with evaders on strings, read and set by slot."""

    def __init__(self, options: dict[str, Any]) -> None:
        kwargs = {k: v for k, v in options.items() if k != "variant"}
        if options.get("variant", "paper") == "paper":
            kwargs = PAPER | kwargs
        self.script = Scripted()
        if not kwargs.get("freeze_evaders", False):
            kwargs["evader_controller"] = self.script
        self.env = pursuit_v5.parallel_env(**kwargs)
        self.base = self.env.unwrapped.env
        self.script.gone = self.base.evaders_gone
        self.env.reset(seed=0)

    def places(self) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.bool_]]:
        """Pursuers [n, 2], evaders [m, 2] (0 if gone) and which evaders are alive [m]."""
        alive = ~self.base.evaders_gone
        evader = np.zeros((alive.size, 2), np.int32)
        found = [agent.current_position() for agent in self.base.evader_layer.allies]
        evader[alive] = np.reshape(found, (-1, 2))
        pursuer = [agent.current_position() for agent in self.base.pursuers]
        return np.array(pursuer), evader, alive

    def put(self, pursuer: NDArray[Any], evader: NDArray[Any]) -> None:
        """Sets the places of all agents, none of them gone."""
        base = self.base
        for layer, places in ((base.pursuer_layer, pursuer), (base.evader_layer, evader)):
            for i, (x, y) in enumerate(places):
                layer.set_position(i, int(x), int(y))
        base.model_state[1] = base.pursuer_layer.get_state_matrix()
        base.model_state[2] = base.evader_layer.get_state_matrix()

    def observe(self) -> NDArray[np.float32]:
        """Observations [n, O]."""
        names = self.env.possible_agents
        return np.stack([self.env.aec_env.observe(name).reshape(-1) for name in names])


def inner(env: Pursuit) -> NDArray[np.bool_]:
    """Cells that are not wall, from PettingZoo: [X, Y]."""
    return np.asarray(two_d_maps.rectangle_map(env.x_size, env.y_size) == 0)


def crowd(rng: np.random.Generator, env: Pursuit, evader: NDArray[Any]) -> NDArray[Any]:
    """Pursuers [n, 2] on the cells around evaders, or with `surround` off on top of them."""
    open_cells = inner(env)
    spots: list[Any] = []
    for place in evader[rng.permutation(len(evader))]:
        sides = place + MOVES[:4] if env.surround else np.repeat(place[None], env.n_catch, 0)
        inside = (sides >= 0).all(axis=1) & (sides < open_cells.shape).all(axis=1)
        spots += [spot for spot in sides[inside] if open_cells[tuple(spot)]]
    spots *= env.n_pursuers
    return np.array(spots[: env.n_pursuers])


class Records(NamedTuple):
    """Steps that PettingZoo made, each array [steps, ...]."""

    pursuer: NDArray[Any]
    evader: NDArray[Any]
    alive: NDArray[Any]
    time: NDArray[Any]
    actions: NDArray[Any]
    evader_actions: NDArray[Any]
    next_pursuer: NDArray[Any]
    next_evader: NDArray[Any]
    next_alive: NDArray[Any]
    reward: NDArray[Any]
    obs: NDArray[Any]
    terminated: NDArray[Any]
    truncated: NDArray[Any]


def record(options: dict[str, Any], episodes: int, seed: int = 0) -> Records:
    """Random episodes. Each second one starts with pursuers around evaders, who stay for a step."""
    rng = np.random.default_rng(seed)
    env, theirs = Pursuit(**options), Theirs(options)
    names = theirs.env.possible_agents
    rows = []
    for episode in range(episodes):
        theirs.env.reset(seed=1000 * seed + episode)
        crowded = episode % 2 == 1
        if crowded:
            evader = theirs.places()[1]
            theirs.put(crowd(rng, env, evader), evader)
        for time in range(env.max_cycles):
            before = theirs.places()
            actions = rng.integers(0, 5, env.n_pursuers)
            if crowded and time == 0:
                actions = np.full(env.n_pursuers, STAY)
            moves = rng.integers(0, 5, env.n_evaders)
            theirs.script.begin(moves)
            _, reward, terminated, truncated, _ = theirs.env.step(
                dict(zip(names, actions, strict=True))
            )
            assert len(set(terminated.values())) == len(set(truncated.values())) == 1
            ends = (all(terminated.values()), all(truncated.values()))
            rows.append(
                (*before, time, actions, moves, *theirs.places())
                + (np.array([reward[name] for name in names]), theirs.observe(), *ends)
            )
            if any(ends):
                break
    return Records(*(np.stack(column) for column in zip(*rows, strict=True)))


def differences(env: Pursuit, records: Records) -> dict[str, float]:
    """Largest absolute difference of one step of `env` from each recorded one."""
    state = PursuitState(*map(jnp.asarray, records[:4]))
    if env.freeze_evaders:
        keys = jax.random.split(jax.random.key(0), len(records.time))
        ours = jax.jit(jax.vmap(env.step))(keys, state, records.actions)
    else:
        ours = jax.jit(jax.vmap(env.step_given))(state, records.actions, records.evader_actions)
    left = records.next_alive[..., None]
    pairs = {
        "pursuer": (ours.state.pursuer, records.next_pursuer),
        "evader": (ours.state.evader * left, records.next_evader),
        "alive": (ours.state.alive, records.next_alive),
        "time": (ours.state.time, records.time + 1),
        "reward": (ours.reward, records.reward),
        "obs": (ours.obs, records.obs),
        "terminated": (ours.terminated, records.terminated),
        "truncated": (ours.truncated, records.truncated),
    }
    result = {}
    for name, (mine, other) in pairs.items():
        assert mine.shape == other.shape, name
        result[name] = float(np.abs(np.asarray(mine, float) - np.asarray(other, float)).max())
    return result


def assert_parity(options: dict[str, Any], records: Records) -> None:
    found = differences(Pursuit(**options), records)
    assert found.pop("reward") <= TOLERANCE
    assert set(found.values()) == {0.0}, found


def catches(records: Records) -> int:
    return int((records.alive & ~records.next_alive).sum())


@pytest.mark.parametrize("name", CONFIGS)
def test_steps_like_pettingzoo(name: str) -> None:
    """14 episodes each, 126 in all."""
    options = CONFIGS[name] | {"max_cycles": 15}
    records = record(options, episodes=14)
    assert catches(records) >= 7
    assert records.truncated.any()
    assert_parity(options, records)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_steps_like_pettingzoo_for_whole_episodes(name: str) -> None:
    options = CONFIGS[name]
    records = record(options, episodes=100 if name == "paper" else 20, seed=1)
    assert catches(records) >= 10
    assert_parity(options, records)


def test_terminated_is_not_set_in_the_last_step() -> None:
    """PettingZoo reports that the evader is caught, or that time is up, but never both."""
    options = CONFIGS["one evader, wide view"]
    last = record(options | {"max_cycles": 1}, episodes=4)
    assert catches(last) == 2 and last.truncated.all() and not last.terminated.any()
    assert_parity(options | {"max_cycles": 1}, last)
    longer = record(options | {"max_cycles": 2}, episodes=4)
    assert longer.terminated.sum() >= 2
    assert_parity(options | {"max_cycles": 2}, longer)


def test_the_parity_check_can_fail() -> None:
    options = CONFIGS["without surrounding"] | {"max_cycles": 5}
    records = record(options, episodes=2)
    for other, quantities in (
        ({"n_catch": 3}, {"alive", "reward", "obs"}),
        ({"tag_reward": 0.0101}, {"reward"}),
        ({"max_cycles": 6}, {"truncated"}),
    ):
        found = differences(Pursuit(**options | other), records)
        wrong = {name for name, error in found.items() if error > TOLERANCE}
        assert wrong == quantities, other


@partial(jax.jit, static_argnums=0)
def reset_all(env: Pursuit, keys: jax.Array) -> tuple[PursuitState, jax.Array]:
    return jax.vmap(env.reset)(keys)


def starts(env: Pursuit, count: int) -> tuple[PursuitState, NDArray[np.float32]]:
    """States and observations of `count` resets."""
    keys = jax.random.split(jax.random.key(5), count)
    state, obs = reset_all(env, keys)
    return PursuitState(*map(np.asarray, state)), np.asarray(obs)


def assert_no_neighbours(places: NDArray[Any]) -> None:
    """Places [..., agents, 2] of a team: all distances are at least 2."""
    far = np.abs(places[..., :, None, :] - places[..., None, :, :]).sum(axis=-1)
    first, second = np.triu_indices(places.shape[-2], k=1)
    assert far[..., first, second].min() >= 2


@pytest.mark.parametrize(
    "options", [{}, CONFIGS["even range, window"], {"constraint_window": 0.5, "n_evaders": 7}]
)
def test_starts_are_allowed_and_seen_as_pettingzoo_sees_them(options: dict[str, Any]) -> None:
    """The last options leave too little room in some windows: PettingZoo hangs there, so that it is
    opened without them. What it sees depends on places alone.
    """
    anywhere = {name: value for name, value in options.items() if name != "constraint_window"}
    env, theirs = Pursuit(**options), Theirs(anywhere)
    state, obs = starts(env, 4000)
    for places in (state.pursuer, state.evader):
        assert_no_neighbours(places)
        assert inner(env)[places[..., 0], places[..., 1]].all()
        span = np.ptp(places, axis=1).max(axis=0)
        np.testing.assert_array_equal(
            span, [int(k * env.constraint_window) - 1 for k in (env.x_size, env.y_size)]
        )
    assert state.alive.all() and not state.time.any()
    for i in range(10):
        theirs.put(state.pursuer[i], state.evader[i])
        np.testing.assert_array_equal(obs[i], theirs.observe())


def their_starts(theirs: Theirs, count: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places of pursuers and evaders after `count` resets, with PettingZoo's own random numbers."""
    theirs.env.reset(seed=11)
    drawn = []
    for _ in range(count):
        theirs.base.reset()
        drawn.append(theirs.places()[:2])
    pursuer, evader = zip(*drawn, strict=True)
    return np.stack(pursuer), np.stack(evader)


def chi_square(ours: NDArray[Any], other: NDArray[Any]) -> float:
    """p-value of two samples of integers having one distribution; rare values are pooled."""
    table = np.stack(
        [np.bincount(s, minlength=max(ours.max(), other.max()) + 1) for s in (ours, other)]
    )
    rare = table.sum(axis=0) < 20
    table = np.column_stack([table[:, ~rare], table[:, rare].sum(axis=1)])
    return float(stats.chi2_contingency(table[:, table.any(axis=0)]).pvalue)


@pytest.mark.parametrize("name", ["paper", "even range, window"])
def test_starts_are_distributed_as_in_pettingzoo(name: str) -> None:
    """Chi-square over cells, for the first and the last agent drawn of either team.

    One agent's cell is one independent draw a reset, whereas the cells of a whole team are not
    independent of each other: for these, each cell's share of resets in which it is taken.
    """
    env, theirs = Pursuit(**CONFIGS[name]), Theirs(CONFIGS[name])
    state, _ = starts(env, 4000)
    for mine, other in zip(state[:2], their_starts(theirs, 1500), strict=True):
        assert_no_neighbours(other)
        cells = [places[..., 0] * env.y_size + places[..., 1] for places in (mine, other)]
        for slot in (0, -1):
            assert chi_square(cells[0][:, slot], cells[1][:, slot]) > 1e-3
        apart = [np.abs(places[:, 1] - places[:, 0]).sum(axis=-1) for places in (mine, other)]
        assert chi_square(*apart) > 1e-3

        total = env.x_size * env.y_size
        taken = np.stack([np.bincount(c.ravel(), minlength=total) / len(c) for c in cells])
        share = np.average(taken, axis=0, weights=[4000, 1500])
        error = np.sqrt(share * (1.0 - share) * (1 / 4000 + 1 / 1500))
        used = share > 0.0
        assert not used[~inner(env).ravel()].any()
        scores = np.abs(taken[0] - taken[1])[used] / error[used]
        assert scores.max() < stats.norm.isf(5e-4 / used.sum())


def test_first_places_are_uniform() -> None:
    env = Pursuit()
    state, _ = starts(env, 4000)
    for places in (state.pursuer, state.evader):
        counts = np.bincount(places[:, 0] @ np.array([16, 1]), minlength=256)[inner(env).ravel()]
        assert counts.size == 193 and counts.sum() == 4000
        assert stats.chisquare(counts).pvalue > 1e-3


def test_evaders_walk_at_random() -> None:
    """One by one and independently of each other: the moves of three make 125 equal outcomes."""
    env = Pursuit(n_evaders=3, n_pursuers=2, obs_range=1)
    evader = jnp.array([(2, 2), (2, 8), (13, 8)])
    state = PursuitState(jnp.zeros((2, 2), jnp.int32), evader, jnp.ones(3, bool), jnp.int32(0))
    keys = jax.random.split(jax.random.key(3), 20_000)
    after = jax.jit(jax.vmap(env.step, (0, None, None)))(keys, state, jnp.full(2, STAY))
    step = np.asarray(after.state.evader - evader)
    code = np.argmax(np.all(step[:, :, None] == MOVES, axis=-1), axis=-1)
    np.testing.assert_array_equal(MOVES[code], step)
    counts = np.bincount(code @ np.array([25, 5, 1]), minlength=125)
    assert stats.chisquare(counts).pvalue > 1e-3


def test_random_return() -> None:
    """Reference point "about 3.7"; 44 episodes of PettingZoo gave 3.85 +- 0.19."""
    env = Pursuit()

    def body(state: PursuitState, key: jax.Array) -> tuple[PursuitState, jax.Array]:
        act_key, env_key = jax.random.split(key)
        actions = jax.random.randint(act_key, (300, env.n_pursuers), 0, 5)
        step = jax.vmap(env.step)(jax.random.split(env_key, 300), state, actions)
        return step.state, step.reward.mean(axis=-1)

    state = PursuitState(*map(jnp.asarray, starts(env, 4000)[0]))
    state = jax.tree.map(lambda leaf: leaf[:300], state)
    keys = jax.random.split(jax.random.key(6), env.max_cycles)
    state, reward = jax.jit(lambda state: jax.lax.scan(body, state, keys))(state)
    assert state.alive.any(axis=1).all()  # no episode was over sooner
    returns = np.asarray(reward.sum(axis=0))
    assert abs(returns.mean() - 3.8) < 4.0 * stats.sem(returns)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"variant": "mpe2"}, "variant must be 'paper' or 'pettingzoo', got 'mpe2'"),
    ({"variant": ["paper"]}, "variant must be 'paper' or 'pettingzoo'"),
    ({"x_size": 0}, "x_size must be an integer of at least 1, got 0"),
    ({"n_evaders": 2.0}, "n_evaders must be an integer of at least 1, got 2.0"),
    ({"n_catch": 0}, "n_catch must be an integer of at least 1, got 0"),
    ({"surround": 1}, "surround must be True or False, got 1"),
    ({"shared_reward": "no"}, "shared_reward must be True or False, got 'no'"),
    ({"tag_reward": None}, "tag_reward must be a finite number, got None"),
    ({"catch_reward": float("inf")}, "catch_reward must be a finite number, got inf"),
    ({"urgency_reward": True}, "urgency_reward must be a finite number, got True"),
    ({"constraint_window": 0.0}, "constraint_window must be in (0, 1], got 0.0"),
    ({"constraint_window": 0.05}, "at least one cell of a grid of 16 by 16, got 0.05"),
    ({"n_evaders": 150}, "150 evaders and 8 pursuers are too many"),
    ({"constraint_window": 0.5}, "30 evaders and 8 pursuers are too many"),
    ({"episode_length": 25}, "no option 'episode_length'"),
]


@pytest.mark.parametrize(("chosen", "words"), WRONG)
def test_refusals_say_what_is_wrong(chosen: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        envs.make("pursuit", **chosen)
    message = str(caught.value)
    assert "pursuit" in message and words in message, message
    assert message.endswith(".") and "\n" not in message
