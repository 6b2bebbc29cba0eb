"""The tree of settings: what parts accept, and numbers apart from structure."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mamt_jax
from mamt_jax.errors import ConfigError
from mamt_jax.settings import (
    PPO,
    AttentionNetworks,
    Coordination,
    LearnedRegion,
    Learning,
    Networks,
    Part,
    Replay,
    Rollout,
    Settings,
    numbers,
    parts,
)
from mamt_jax.settings.fields import fields_of
from mamt_jax.settings.tree import compose, recorded

TREE = compose(AttentionNetworks(), Learning(), Replay(), Coordination(), LearnedRegion())
PARTS = [each for each in vars(parts).values() if isinstance(each, type) and issubclass(each, Part)]


@pytest.mark.parametrize(
    ("part", "options", "says"),
    [
        (Learning, {"discount": 1.0}, r"discount must be in \[0, 1\), got 1.0"),
        (Learning, {"learning_rate": np.float32("inf")}, "learning_rate must be a finite number"),
        (Learning, {"learning_rate": "fast"}, "learning_rate must be a finite number, got 'fast'"),
        (Networks, {"hidden_size": True}, "hidden_size must be an integer"),
        (Networks, {"hidden_size": 0}, "hidden_size must be greater than 0"),
        (AttentionNetworks, {"hidden_size": 6}, r"hidden_size must be a multiple of attention_he"),
        (Replay, {"batch_size": 1}, "batch_size must be 2 or greater"),
        (Replay, {"buffer_size": 8}, r"batch_size must be at most buffer_size \(8\)"),
        (PPO, {"rollout_size": 15}, "rollout_size must be at least 2 for each of 8 ppo_minib"),
        (Coordination, {"coordination": "x"}, "coordination must be one of counterfactual, rele"),
        (
            Coordination,
            {"coordination": "released", "coordination_units": "relative"},
            "coordination_units must be 'raw' where coordination is 'released'",
        ),
        (LearnedRegion, {"delta_init": 200.0}, "delta_init must be between delta_min and delta_"),
        (LearnedRegion, {"trd_monotone": 1}, "trd_monotone must be true or false"),
    ],
)
def test_values_out_of_range(part: type[Part], options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        part(**options)


def test_numbers_of_numpy_become_python_s() -> None:
    part = Learning(learning_rate=np.float32(0.5), discount=0)  # type: ignore[arg-type]
    assert part == Learning(learning_rate=0.5, discount=0.0)
    assert type(part.learning_rate) is float and type(part.discount) is float


def test_a_part_is_found_by_its_class_or_a_wider_one() -> None:
    assert TREE[Networks] is TREE[AttentionNetworks] and Networks in TREE
    assert Rollout not in TREE
    with pytest.raises(ConfigError, match="needs settings of Rollout, and was given Attention"):
        TREE[Rollout]


def test_settings_change_by_name() -> None:
    changed = TREE.replace({"discount": 0.5, "batch_size": 64})
    assert (changed[Learning].discount, changed[Replay].batch_size) == (0.5, 64)
    assert changed[Learning].learning_rate == TREE[Learning].learning_rate
    with pytest.raises(ConfigError, match=r"no setting 'dicount' \(did you mean 'discount'\?\)"):
        TREE.replace({"dicount": 0.5})


def test_no_two_parts_have_a_setting_of_the_same_name() -> None:
    with pytest.raises(ConfigError, match="Two parts of an algorithm have a setting 'adam_b1'"):
        compose(Learning(), Learning())


@dataclasses.dataclass(frozen=True)
class Nameless(Part):
    """Without a group."""

    warmth: float = 0.5


@dataclasses.dataclass(frozen=True)
class Twice(Nameless):
    """With that of another."""

    group: ClassVar[str] = "replay"


@dataclasses.dataclass(frozen=True)
class Odd(Part):
    """With a field of another kind."""

    group: ClassVar[str] = "odd"
    layers: tuple[int, ...] = (8, 8)


class Undecorated(Part):
    """No dataclass of its own, so that its settings are none."""

    group = "plain"
    warmth: float = 0.5


@dataclasses.dataclass(frozen=True)
class Clash(Part):
    """With a name that runs have."""

    group: ClassVar[str] = "clash"
    env_timeout: float = 3.0


@pytest.mark.parametrize(
    ("own", "says"),
    [
        ((Nameless(),), r"Nameless needs a group \(a ClassVar\[str\]\) of its own, got ''"),
        ((Replay(), Twice()), "needs a group .* of its own, got 'replay'"),
        ((Odd(),), "Odd.layers must be a bool, int, float, str or Literal of names, got tuple"),
        ((Undecorated(),), "Undecorated must be a frozen dataclass"),
        ((Clash(),), "'env_timeout' is what a run is told; call the setting otherwise"),
        ((Replay,), r"Settings are a tuple of parts \(Part\), got"),
    ],
)
def test_parts_of_somebody_else_s_that_are_refused(own: tuple[Any, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        mamt_jax.train(mamt_jax.Recipe(lambda game, settings: None, compose(*own)))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("part", PARTS)
def test_every_setting_is_described_and_of_a_known_kind(part: type[Part]) -> None:
    assert part is Part or part.__doc__
    for each in dataclasses.fields(part):
        assert each.name in fields_of(part), f"{part.__name__}.{each.name} is never checked"


def test_what_is_open_goes_by_the_kind_of_coordination() -> None:
    for kind, threshold, units in (("counterfactual", 0.2, "relative"), ("released", 0.05, "raw")):
        settled = Coordination(coordination=kind).settled()  # type: ignore[arg-type]
        assert (settled.coordination_threshold, settled.coordination_units) == (threshold, units)
    assert Coordination(coordination_threshold=0.3).settled().coordination_threshold == 0.3


def test_leaves_are_the_numbers() -> None:
    data = numbers.as_data(TREE)
    leaves = {
        "".join(map(str, path[-1:])): leaf
        for path, leaf in jax.tree_util.tree_flatten_with_path(data)[0]
    }
    assert {".learning_rate", ".delta_period", ".coordination_threshold"} <= set(leaves)
    assert not {".hidden_size", ".batch_size", ".theta_steps", ".trd_monotone"} & set(leaves)
    assert leaves[".delta_period"].dtype == np.int32
    assert all(leaf.dtype in (np.int32, np.float32) for leaf in leaves.values())
    assert data[Networks].hidden_size == 128


def test_one_program_serves_all_numbers_and_another_structure_takes_another() -> None:
    traced = 0

    @jax.jit
    def loss(settings: Settings) -> jax.Array:
        nonlocal traced
        traced += 1
        rate = settings[Learning].learning_rate * settings[LearnedRegion].delta_period
        return jnp.full(settings[Networks].hidden_size, rate)

    for rate in (1e-3, 3e-4, 0.5):
        changed = TREE.replace({"learning_rate": rate, "delta_period": 3})
        np.testing.assert_allclose(loss(numbers.as_data(changed)), np.full(128, 3 * rate), 1e-6)
    assert traced == 1
    assert loss(numbers.as_data(TREE.replace({"hidden_size": 8}))).shape == (8,)
    assert traced == 2
    for changed, same in (({"discount": 0.1}, True), ({"theta_steps": 2}, False)):
        other = TREE.replace(changed)
        assert (TREE.structure(TREE) == other.structure(TREE)) is same
        trees = (
            jax.tree.structure(numbers.as_data(TREE)),
            jax.tree.structure(numbers.as_data(other)),
        )
        assert (trees[0] == trees[1]) is same


def test_stacked_settings_differ_where_they_do() -> None:
    each = [TREE, TREE.replace({"learning_rate": 0.5})]
    stack = numbers.stacked(each, repeats=2)
    np.testing.assert_allclose(stack[Learning].learning_rate, [1e-3, 1e-3, 0.5, 0.5])
    assert jnp.ndim(stack[Learning].discount) == 0
    assert numbers.axes(stack)[Learning].learning_rate == 0
    third = numbers.row(stack, 2)
    assert float(third[Learning].learning_rate) == 0.5
    assert numbers.row(stack, 1, 2)[Learning].learning_rate.shape == (2,)

    rates = jax.vmap(lambda one: one[Learning].learning_rate * 2, in_axes=(numbers.axes(stack),))
    np.testing.assert_allclose(rates(stack), [2e-3, 2e-3, 1.0, 1.0])


def test_structures_that_differ_do_not_stack() -> None:
    with pytest.raises(ValueError):
        numbers.stacked([TREE, TREE.replace({"hidden_size": 8})])


def test_a_part_of_somebody_else_s() -> None:
    @dataclasses.dataclass(frozen=True)
    class Mine(Part):
        """Mine."""

        group: ClassVar[str] = "mine"
        warmth: float = 0.5
        layers: int = 2

    data = numbers.as_data(compose(Learning(), Mine(warmth=0.25)))
    assert float(data[Mine].warmth) == 0.25 and data[Mine].layers == 2
    assert len(jax.tree.leaves(numbers.as_data(compose(Mine())))) == 1


def test_recorded_parts_keep_what_was_recorded() -> None:
    tree = compose(recorded("mine", {"warmth": 0.5, "kind": "x"}))
    assert tree.flat() == {"warmth": 0.5, "kind": "x"}
    assert tree.to_dict() == {"mine": {"warmth": 0.5, "kind": "x"}}
