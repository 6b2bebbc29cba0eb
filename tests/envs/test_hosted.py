"""One copy of somebody else's environment: what it may say, in which ways, and what is refused."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gymnasium.spaces import Box, Discrete

from mamt_jax import envs
from mamt_jax.envs.base import EnvSpec
from mamt_jax.envs.bridge import read_spec
from mamt_jax.envs.hosted import BadEnvironment, HostEnvironment, HostEpisodes, opened

AGENTS = ["a", "b"]
LENGTH = 4


class Loose:
    """Two agents, four steps, reward 1 each; `self.agents` is left as it is. Tests replace parts.

    Not a ParallelEnv by inheritance: nothing mends what it does.
    """

    possible_agents = AGENTS
    box = Box(-1.0, 1.0, (3,), np.float32)

    def observation_space(self, agent: str) -> Any:
        return self.box

    def action_space(self, agent: str) -> Any:
        return Discrete(3)

    def seen(self, agent: str) -> Any:
        return np.full(3, self.t / 10, np.float32)

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.agents, self.t = list(self.possible_agents), 0
        return {agent: self.seen(agent) for agent in self.agents}, {}

    def rewards(self) -> Any:
        return dict.fromkeys(AGENTS, 1.0)

    def ends(self) -> tuple[Any, Any]:
        return dict.fromkeys(AGENTS, self.t >= LENGTH), dict.fromkeys(AGENTS, False)

    def observations(self) -> Any:
        return {agent: self.seen(agent) for agent in AGENTS}

    def step(self, actions: Any) -> Any:
        assert set(actions) == set(self.agents)
        self.t += 1
        return self.observations(), self.rewards(), *self.ends(), {}


class Local(HostEnvironment):
    """A class of this file as a host environment; its own limit lies far beyond its episodes."""

    name, summary = "local", "of this file"

    def __init__(self, kind: Callable[[], Any], leave: bool = True) -> None:
        self.kind, self.leave = kind, leave

    @property
    def spec(self) -> EnvSpec:
        return read_spec(self.kind(), "local", "it", 100, self.leave)

    def parallel_env(self, render_mode: str | None = None) -> Any:
        return self.kind()


def loose(**parts: Any) -> HostEpisodes:
    """Episodes of a `Loose` with other parts."""
    return HostEpisodes(Local(type("Loose", (Loose,), parts)))


def play(episodes: HostEpisodes) -> list[Any]:
    episodes.reset(0)
    steps = [episodes.step(np.zeros(2, int))]
    while not steps[-1].finished:
        assert len(steps) < 50, "it goes on and on"
        steps.append(episodes.step(np.zeros(2, int)))
    return steps


def at_end(value: Any) -> Callable[[Any], Any]:
    """Terminations that hold `value` for both agents at the end, and nothing before."""
    return lambda self: ({a: value for a in AGENTS} if self.t >= LENGTH else {}, {})


SAID_IN_WAYS: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "terminated": (at_end(True), True),
    "numpy": (at_end(np.bool_(True)), True),
    "array": (at_end(np.array([True])), True),
    "one": (at_end(1), True),
    "truncated": (lambda self: ({}, dict.fromkeys(AGENTS, self.t >= LENGTH)), False),
    "both": (lambda self: (dict.fromkeys(AGENTS, self.t >= LENGTH),) * 2, True),
    "__all__": (lambda self: ({"__all__": self.t >= LENGTH}, {"__all__": False}), True),
    "__all__ truncated": (lambda self: ({"__all__": False}, {"__all__": self.t >= LENGTH}), False),
    "bare flags": (lambda self: (self.t >= LENGTH, False), True),
    "bare truncation": (lambda self: (False, self.t >= LENGTH), False),
    "no dict of truncations": (lambda self: (at_end(True)(self)[0], None), True),
}


@pytest.mark.parametrize("way", SAID_IN_WAYS)
def test_an_episode_is_over_in_whatever_way_it_is_said(way: str) -> None:
    ends, terminated = SAID_IN_WAYS[way]
    steps = play(loose(ends=ends))
    assert len(steps) == LENGTH and sum(step.reward.mean() for step in steps) == 4
    assert [bool(step.terminated.all()) for step in steps] == [False] * 3 + [terminated]
    assert all(step.alive.all() for step in steps) and not steps[-1].present.any()


@pytest.mark.parametrize("struck_off", [True, False])
def test_an_agent_that_is_out_stays_out(struck_off: bool) -> None:
    """In the list or not; one that is terminated while the other goes on; one that is revived."""

    def ends(self: Any) -> Any:
        if self.t == 2 and struck_off:
            self.agents = ["a"]
        if self.t == 3:
            self.agents = list(AGENTS)  # here it is again
        return {"a": self.t >= LENGTH, "b": self.t == 2}, {}

    steps = play(loose(ends=ends))
    assert [step.alive.tolist() for step in steps] == [[True, True]] * 2 + [[True, False]] * 2
    assert [step.terminated.tolist()[1] for step in steps] == [False, True, False, False]
    assert not any(step.reward[1] or step.obs[1].any() for step in steps[2:])


@pytest.mark.parametrize(
    "value", ["False", [False, True], np.array([False, True]), float("nan"), 2, {1}, object()]
)
@pytest.mark.parametrize("named", [True, False])
def test_ends_are_said_by_true_or_false(value: Any, named: bool) -> None:
    """Not taken for true because they are something."""
    said = {"a": value} if named else value
    for ends in ((said, {}), ({}, said)):
        episodes = loose(ends=returns(ends))
        episodes.reset(0)
        with pytest.raises(BadEnvironment, match="end must be said by True or False, .* 'a'"):
            episodes.step(np.zeros(2, int))


def test_an_empty_list_of_agents_cuts_the_episode_off() -> None:
    def ends(self: Any) -> Any:
        self.agents = [] if self.t >= LENGTH else self.agents
        return {}, {}

    steps = play(loose(ends=ends))
    assert len(steps) == LENGTH and not steps[-1].terminated.any()


BOXES: dict[str, tuple[Box, Any, Any]] = {  # space, observation, what becomes of it or a sentence
    "one for three": (Loose.box, [0.5], r"has shape \(1,\), and its space \(3,\)"),
    "four for three": (Loose.box, np.zeros(4), r"has shape \(4,\)"),
    "a number": (Loose.box, 0.5, r"has shape \(\)"),
    "transposed": (Box(0, 1, (2, 3)), np.zeros((3, 2)), r"has shape \(3, 2\)"),
    "flat": (Box(0, 1, (2, 3)), np.zeros(6), r"has shape \(6,\)"),
    "a column": (Loose.box, [[0.25], [0.5], [1.0]], [0.25, 0.5, 1.0]),
    "a list": (Loose.box, [0, 1, 0], [0, 1, 0]),
    "double": (Loose.box, np.array([0.1, 0.2, 0.3]), np.float32([0.1, 0.2, 0.3])),
    "no axis": (Box(0, 1, ()), 0.5, [0.5]),
    "outside of its bounds": (Loose.box, [7.0, 0, 0], [7, 0, 0]),
    "a list of lists": (Loose.box, [[1.0], [1.0, 2.0], []], "must hold numbers"),
    "text": (Loose.box, np.array(["1", "2", "3"]), "must hold numbers, got <U1"),
    "objects": (Loose.box, np.array([1, None, 2]), "must hold numbers, got object"),
    "complex": (Loose.box, np.array([1j, 0, 0]), "must hold numbers, got complex128"),
    "NaN": (Loose.box, [0.0, np.nan, 0.0], "holds NaN or infinity"),
    "infinity": (Loose.box, [0.0, np.inf, 0.0], "holds NaN or infinity"),
    "beyond float32": (Loose.box, [0.0, 1e300, 0.0], "holds NaN or infinity"),
    "bytes": (Box(0, 255, (3,), np.uint8), np.uint8([0, 7, 255]), [0, 7, 255]),
    "whole floats": (Box(0, 255, (3,), np.uint8), [0.0, 7.0, 255.0], [0, 7, 255]),
    "flags": (Box(0, 255, (3,), np.uint8), [True, False, True], [1, 0, 1]),
    "below bytes": (Box(0, 255, (3,), np.uint8), [0, -3, 1], "must hold uint8 .* from -3 to 1"),
    "above bytes": (Box(0, 255, (3,), np.uint8), [0, 300, 1], "must hold uint8 .* from 0 to 300"),
    "halves": (Box(0, 255, (3,), np.uint8), [0, 3.5, 1], "must hold uint8"),
    "NaN for bytes": (Box(0, 255, (3,), np.uint8), [0, np.nan, 1], "must hold uint8"),
    "signed": (Box(-9, 9, (3,), np.int8), [-9, 0, 9], [-9, 0, 9]),
    "beyond signed": (Box(-9, 9, (3,), np.int8), [-129, 0, 9], "must hold int8"),
    "half for int": (Box(-9, 9, (3,), np.int32), [0.5, 0, 9], "must hold int32"),
}


@pytest.mark.parametrize("case", BOXES)
@pytest.mark.parametrize("when", ["reset", "step"])
def test_observations_are_what_their_space_says(case: str, when: str) -> None:
    box, given, expected = BOXES[case]

    def seen(self: Any, agent: str) -> Any:
        bad = (agent == "b") and (self.t == (0 if when == "reset" else 1))
        return given if bad else np.zeros(box.shape, box.dtype)

    episodes = loose(box=box, seen=seen)

    def until_there() -> np.ndarray:
        obs = episodes.reset(0)
        return obs if when == "reset" else episodes.step(np.zeros(2, int)).obs

    if isinstance(expected, str):
        with pytest.raises(BadEnvironment, match=f"local: the observation of 'b' .*({expected})"):
            until_there()
    else:
        np.testing.assert_array_equal(until_there()[1], expected)


@pytest.mark.parametrize("missing", ["absent", "None"])
@pytest.mark.parametrize(
    ("end", "refused"), [("terminated", False), ("truncated", True), ("time limit", True)]
)
def test_who_is_cut_off_must_be_seen_once_more(end: str, refused: bool, missing: str) -> None:
    """Values are bootstrapped from there; zeros would be taken for what was seen."""

    def ends(self: Any) -> Any:
        over = dict.fromkeys(AGENTS, self.t >= 2)
        return {"terminated": (over, {}), "truncated": ({}, over)}.get(end, ({}, {}))

    def observations(self: Any) -> Any:
        if self.t < 2:
            return {agent: self.seen(agent) for agent in AGENTS}
        return {} if missing == "absent" else dict.fromkeys(AGENTS)

    episodes = loose(ends=ends, observations=observations)
    episodes._limit = 2 if end == "time limit" else 100
    episodes.reset(0)
    episodes.step(np.zeros(2, int))
    if refused:
        with pytest.raises(BadEnvironment, match="the observation of 'a' is missing"):
            episodes.step(np.zeros(2, int))
    else:
        step = episodes.step(np.zeros(2, int))
        assert step.terminated.all() and step.finished and not step.obs.any()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (np.array([0.5]), 0.5),
        (np.float64(0.5), 0.5),
        (np.array(2), 2.0),
        (True, 1.0),
        (None, "must be one finite number, got None"),
        (float("nan"), "must be one finite number, got nan"),
        (np.array([1.0, 2.0]), "must be one finite number"),
        ("much", "must be one finite number, got 'much'"),
        (1e39, "must be one finite number, got 1e[+]39"),
    ],
)
def test_rewards_are_one_number(given: Any, expected: Any) -> None:
    episodes = loose(rewards=lambda self: {"a": 1.0, "b": given})
    episodes.reset(0)
    if isinstance(expected, str):
        with pytest.raises(BadEnvironment, match=f"the reward of 'b' {expected}"):
            episodes.step(np.zeros(2, int))
    else:
        np.testing.assert_array_equal(episodes.step(np.zeros(2, int)).reward, [1.0, expected])


def returns(value: Any) -> Callable[..., Any]:
    return lambda self, *_, **__: value


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"reset": returns(dict.fromkeys(AGENTS, 0))}, "reset must return two dicts"),
        ({"reset": returns(None)}, "reset must return two dicts"),
        ({"agents": [], "reset": returns(({}, {}))}, "no agent is there after reset"),
        ({"agents": None, "reset": returns(({}, {}))}, "it has no list of agents"),
        ({"agents": ["x"], "reset": returns(({}, {}))}, "agents holds 'x', which possible_agents"),
        ({"agents": AGENTS, "reset": returns(([1, 2], {}))}, "observations must be a dict"),
        ({"step": returns(({}, {}, {}, {}))}, "step must return five dicts"),
        ({"step": returns(([], {}, {}, {}, {}))}, "observations must be a dict by agent, got list"),
        ({"rewards": returns(0.5)}, "the reward of 'a' must be one finite number, got None"),
    ],
)
def test_what_is_no_parallel_env_is_refused(parts: dict[str, Any], sentence: str) -> None:
    episodes = loose(**parts)
    with pytest.raises(BadEnvironment, match=f"^local: {sentence}.*[.]$"):
        episodes.reset(0)
        episodes.step(np.zeros(2, int))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"possible_agents": None}, "it has no possible_agents"),
        ({"possible_agents": ["a"]}, "it has 1 agent; at least 2"),
        ({"possible_agents": ["a", "a"]}, "names an agent twice"),
        ({"box": Box(0, 1, (0,))}, r"must hold at least one number, a has Box"),
        ({"box": Box(0, 1, (3, 0))}, r"must hold at least one number"),
        ({"box": Discrete(3)}, "observations must be a Box"),
    ],
)
def test_spaces_that_cannot_be_trained_on_are_refused(parts: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadEnvironment, match=sentence):
        loose(**parts)


class Named(Loose):
    """Every agent sees its number; rewards are the actions."""

    def seen(self, agent: str) -> Any:
        return np.full(3, AGENTS.index(agent))

    def step(self, actions: Any) -> Any:
        _, _, *rest = super().step(actions)
        return self.observations(), dict(actions), *rest


@pytest.mark.parametrize("listed", [["b", "a"], {"b": 0, "a": 0}.keys(), {"a", "b"}])
def test_agents_have_one_order_in_all_copies(listed: Any) -> None:
    """A set has another one in every process."""
    described = Local(Named).spec
    copy = type("Copy", (Named,), {"possible_agents": listed})
    episodes = HostEpisodes(Local(copy), spec=described)
    assert episodes.reset(0)[:, 0].tolist() == [0, 1]
    assert episodes.step(np.array([1, 2])).reward.tolist() == [1, 2]


def test_a_set_of_agents_is_described_in_order() -> None:
    many = type("Many", (Loose,), {"possible_agents": {f"walker_{i}" for i in range(9)}})
    assert Local(many).spec.agents == tuple(f"walker_{i}" for i in range(9))


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"box": Box(-1.0, 1.0, (1,))}, r"observations of sizes \(3, 3\), another \(1, 1\)"),
        ({"possible_agents": ["a", "b", "c"]}, r"sizes \(3, 3\), another \(3, 3, 3\)"),
        ({"action_space": lambda *_: Discrete(2)}, r"numbers of \(3, 3\), another \(2, 2\)"),
    ],
)
def test_all_copies_are_alike(parts: dict[str, Any], sentence: str) -> None:
    """One number would be taken for three, and actions chosen that a copy does not have."""
    with pytest.raises(BadEnvironment, match=f"^local: one copy has .*{sentence}[.]$"):
        HostEpisodes(Local(type("Other", (Loose,), parts)), spec=Local(Loose).spec)


@pytest.mark.parametrize("error", [RuntimeError("not now"), SystemExit(0)])
def test_a_copy_is_closed_whatever_happens_then(error: BaseException) -> None:
    """Games that draw themselves often end their program when they are closed."""
    closed = []

    class Closing(Loose):
        def close(self) -> None:
            closed.append(self)
            raise error

    class Broken(Closing):
        def action_space(self, agent: str) -> Any:
            raise KeyError(agent)

    HostEpisodes(Local(Closing)).close()
    assert len(closed) == 1
    HostEpisodes(Local(Loose)).close()  # there is no close at all
    with pytest.raises(KeyError):
        HostEpisodes(Local(Broken), spec=Local(Loose).spec)
    assert len(closed) == 2
    with opened(Local(Closing)):
        pass
    assert len(closed) == 3


def test_streams_are_put_back() -> None:
    """A copy that silences itself for good does not silence whoever opened it."""

    class Silent(Loose):
        def reset(self, seed: int | None = None, options: Any = None) -> Any:
            sys.stdout = sys.stderr = io.StringIO()
            return super().reset(seed, options)

    before = sys.stdout, sys.stderr
    HostEpisodes(Local(Silent)).reset(0)
    assert (sys.stdout, sys.stderr) == before


def test_what_is_of_pettingzoo_already_is_not_wrapped() -> None:
    with pytest.raises(ValueError, match="local is a PettingZoo environment already"):
        envs.to_pettingzoo(Local(Loose))  # type: ignore[arg-type]
