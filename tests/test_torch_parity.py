"""mamt_jax's update against what PyTorch computed from the same weights, batch and random numbers.

The expected numbers are files, so that PyTorch is not needed here;
``python -m benchmarks.torch_reference.golden`` writes them. Differences are relative to the largest
entry of an array: its entries are sums whose terms cancel, and each carries the error of its terms.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.torch_reference.cases import CASES, UPDATES, Case, settings
from benchmarks.torch_reference.states import Named, flatten, leaves, read, unflatten
from mamt_jax.algorithms.actor_critic import actor_critic
from mamt_jax.algorithms.coordination import critic_coordination
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.nonstationarity import modelled_nonstationarity
from mamt_jax.algorithms.optimisers import _adam_state
from mamt_jax.algorithms.registry import make
from mamt_jax.algorithms.trust_region import no_trust_region
from mamt_jax.networks.trd_net import TRDNet
from mamt_jax.settings import Networks
from mamt_jax.types import Batch, Transition
from tests.networks import quick

GOLDEN = Path(__file__).parent / "golden"
NEAR_ZERO = ("local_kl", "switching_cost", "switching_cost_mean")
"""Divergences between nearly equal policies: their error is that of log-probabilities of size 1."""


class Tolerance(NamedTuple):
    """Largest difference, relative to an array's largest entry."""

    values: float
    gradients: float
    later: float
    """After many updates."""


TOLERANCES = {
    "float32": Tolerance(1e-5, 1e-4, 1e-4),
    "float64": Tolerance(1e-10, 1e-10, 1e-10),
}


class Golden(NamedTuple):
    """One golden file at one precision."""

    case: Case
    precision: str
    arrays: dict[str, np.ndarray]

    def of(self, *prefix: str) -> Named:
        """Arrays below a prefix, by the rest of their names."""
        start = "/".join([*prefix, ""])
        return {k[len(start) :]: v for k, v in self.arrays.items() if k.startswith(start)}

    @property
    def tolerance(self) -> Tolerance:
        return TOLERANCES[self.precision]

    def batch(self) -> Batch:
        rows = {k: jnp.asarray(v) for k, v in cast(self.of("batch"), self.precision).items()}
        mean, std = rows.pop("reward_mean"), rows.pop("reward_std")
        rows["action"] = rows["action"].astype(jnp.int32)
        return Batch(Transition(**rows), mean, std, None)

    def state(self, algorithm: Any) -> Any:
        """The learner's state with the initial weights, all in this precision."""
        shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, self._type(leaf)), shapes)
        if hasattr(zeros.region, "key"):
            key = jax.random.wrap_key_data(self.arrays["offset_key"])
            zeros = zeros._replace(region=zeros.region._replace(key=key))
        return unflatten(self.of("initial"), zeros)

    def _type(self, leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return np.uint32
        return self.precision if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype

    def keys(self) -> jax.Array:
        return jax.random.wrap_key_data(self.arrays["update_keys"])

    def build(self, algorithm: str) -> Any:
        return make(algorithm, self.case.game, settings(algorithm))

    @property
    def _actions(self) -> tuple[int, ...]:
        return (self.case.num_actions,) * len(self.case.obs_sizes)


def cast(tree: Any, precision: str) -> Any:
    """Floating-point leaves in this precision."""
    return jax.tree.map(
        lambda leaf: leaf.astype(precision) if leaf.dtype.kind == "f" else leaf, tree
    )


@contextmanager
def opened(case: str, precision: str) -> Iterator[Golden]:
    """A golden file, in a context of its precision."""
    with jax.enable_x64(precision == "float64"):
        yield Golden(CASES[case], precision, read(GOLDEN / f"{case}.npz"))


def assert_close(actual: Named, expected: Named, tolerance: float) -> None:
    """Every expected array is there, and near."""
    assert expected
    far = {}
    for name, wanted in expected.items():
        got = np.asarray(actual[name])
        assert got.shape == wanted.shape, name
        scale = np.abs(wanted).max()
        if name in NEAR_ZERO:
            scale = max(scale, 0.1)
        worst = np.abs(got.astype(np.float64) - wanted).max() / max(scale, 1e-30)
        if not worst <= tolerance:
            far[name] = worst
    assert not far, far


RUNS = [(name, *run) for name, case in CASES.items() for run in case.runs]


@pytest.mark.parametrize(("case", "algorithm", "precision"), RUNS)
def test_updates(case: str, algorithm: str, precision: str) -> None:
    with opened(case, precision) as golden:
        check_updates(golden, algorithm)


def check_updates(golden: Golden, algorithm: str) -> None:
    rule, kind = golden.build(algorithm), (algorithm, golden.precision)
    state, batch, tolerance = golden.state(rule), golden.batch(), golden.tolerance
    update = quick.jit(rule.update)
    for count, key in enumerate(golden.keys()):
        state, metrics = update(state, key, batch, jnp.int32(count))
        done = count + 1
        if done in (1, 2, UPDATES):
            within = tolerance.values if done == 1 else tolerance.later
            assert_close(metrics, golden.of(*kind, f"metrics{done}"), within)
        if done == 1:
            assert_close(moments(state), golden.of(*kind, "moments"), tolerance.gradients)
            if after := golden.of(*kind, "after1"):
                assert_close(flatten(state), after, tolerance.values)
    assert_close(flatten(state), golden.of(*kind, f"after{UPDATES}"), tolerance.later)


def moments(state: Any) -> Named:
    """Adam's first moments: after one update (1 − b1) times the clipped, decayed gradients."""
    nets = {"actor": state.actor, "critic": state.critic}
    if hasattr(state.region, "trd"):
        nets |= {"trd": state.region.trd, "modelling": state.region.nonstationarity}
    named: Named = {}
    for name, net in nets.items():
        named |= leaves(name, _adam_state(net.opt_state).mu)
    return named


SEEN = [(name, precision) for name, algorithm, precision in RUNS if algorithm == "mamt"]


@pytest.mark.parametrize(("case", "precision"), SEEN)
def test_what_the_trust_region_sees(case: str, precision: str) -> None:
    with opened(case, precision) as golden:
        check_what_is_seen(golden)


def check_what_is_seen(golden: Golden) -> None:
    game = golden.case.game
    own = settings("mamt")
    actors, critic = build_actors(game, own), attention_critic(game, own)
    nonstationarity = modelled_nonstationarity(game, own)
    watcher = no_trust_region(game)._replace(
        observe=lambda state, view: (state, view, {"view": view})
    )
    watched = actor_critic("watched", actors, critic, watcher, own)
    net = TRDNet(game.obs_sizes, game.num_actions, own[Networks].hidden_size)

    @quick.jit
    def look(state: Any, batch: Batch) -> dict[str, jax.Array]:
        bare = state._replace(region=())
        view = watched.update(bare, jax.random.key(0), batch, jnp.int32(0))[1]["view"]
        region, seen = state.region, {}
        for units in ("relative", "raw"):
            rule = critic_coordination(critic, own.replace({"coordination_units": units}))
            seen[f"coordination_{units}"] = rule.measure(rule.init(), view)[1]
        view = view._replace(coordination=seen["coordination_relative"])
        _, found, _ = nonstationarity.measure(region.nonstationarity, view)
        inputs = view.x, view.encoded, region.log_delta, view.coordination
        predicted = net.apply(region.trd.params, *inputs)
        return seen | {
            "q": view.trace.q,
            "attention": view.trace.weights,
            "drift": found,
            "trd": predicted,
        }

    seen = look(golden.state(golden.build("mamt")), golden.batch())
    expected = golden.of("mamt", golden.precision, "look")
    expected.pop("effect", None)
    assert_close(seen, expected, golden.tolerance.values)
