"""mamt_jax's numbers beside the golden files; without PyTorch.

Differences are relative to the largest entry of an array: its entries are sums whose terms cancel,
and each carries the error of its terms.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.torch_reference.cases import (
    CASES,
    PROXIMAL,
    PROXIMAL_CASES,
    ROLLOUTS_BEFORE,
    UPDATES,
    Case,
    ProximalCase,
    settings,
)
from benchmarks.torch_reference.states import Named, flatten, leaves, read, unflatten
from mamt_jax.algorithms.actor_critic import actor_critic
from mamt_jax.algorithms.coordination import critic_coordination
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.nonstationarity import modelled_nonstationarity
from mamt_jax.algorithms.optimisers import _adam_state
from mamt_jax.algorithms.registry import make
from mamt_jax.algorithms.trust_region import no_trust_region
from mamt_jax.backend import Precision, with_precision
from mamt_jax.networks.trd_net import TRDNet
from mamt_jax.settings import Networks
from mamt_jax.training.programs import Program
from mamt_jax.types import Batch, Transition

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden"
NEAR_ZERO = ("local_kl", "switching_cost", "switching_cost_mean")
"""Divergences between nearly equal policies: their error is that of log-probabilities of size 1."""

Jit = Callable[[Callable[..., Any]], Callable[..., Any]]
"""How a function is compiled."""


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
# In float32 a ratio that one side clips and the other does not makes a visible difference.
PROXIMAL_TOLERANCES = {"float32": 1e-4, "float64": 1e-10}


class Difference(NamedTuple):
    """An array beside the expected one."""

    name: str
    largest: float
    """Relative to the largest entry."""
    tolerance: float

    @property
    def too_large(self) -> bool:
        """Also where it is no number."""
        return not self.largest <= self.tolerance


class Golden(NamedTuple):
    """One golden file at one precision."""

    case: Case
    precision: str
    arrays: dict[str, np.ndarray]

    def of(self, *prefix: str) -> Named:
        """Arrays below a prefix, by the rest of their names."""
        return below(self.arrays, "/".join(prefix))

    @property
    def tolerance(self) -> Tolerance:
        """Of this precision."""
        return TOLERANCES[self.precision]

    def batch(self) -> Batch:
        """What every update learns from."""
        rows = {k: jnp.asarray(v) for k, v in cast(self.of("batch"), self.precision).items()}
        mean, std = rows.pop("reward_mean"), rows.pop("reward_std")
        rows["action"] = rows["action"].astype(jnp.int32)
        return Batch(Transition(**rows), mean, std, None)

    def state(self, algorithm: Any) -> Any:
        """The learner's state with the initial weights, all in this precision."""
        shapes = jax.eval_shape(algorithm.init, jax.random.key(0))
        zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, self._type(leaf)), shapes)
        if hasattr(zeros.region, "key"):
            key = jax.random.wrap_key_data(jnp.asarray(self.arrays["offset_key"]))
            zeros = zeros._replace(region=zeros.region._replace(key=key))
        return unflatten(self.of("initial"), zeros)

    def _type(self, leaf: Any) -> Any:
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return np.uint32
        return self.precision if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf.dtype

    def keys(self) -> jax.Array:
        """One for each update."""
        return jax.random.wrap_key_data(jnp.asarray(self.arrays["update_keys"]))

    def build(self, algorithm: str) -> Any:
        """An algorithm with the file's settings."""
        return make(algorithm, self.case.game, settings(algorithm))


def below(arrays: Named, prefix: str) -> Named:
    """Arrays below a prefix, by the rest of their names."""
    start = f"{prefix}/"
    return {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}


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


def compare(actual: Named, expected: Named, tolerance: float, prefix: str = "") -> list[Difference]:
    """Every expected array beside the one of its name; the shapes must agree."""
    assert expected, f"There is nothing to compare {prefix or 'with'}."
    found = []
    for name, wanted in expected.items():
        got = np.asarray(actual[name])
        assert got.shape == wanted.shape, name
        scale = np.abs(wanted).max()
        if name in NEAR_ZERO:
            scale = max(scale, 0.1)
        largest = np.abs(got.astype(np.float64) - wanted).max() / max(scale, 1e-30)
        found.append(Difference(f"{prefix}{name}", float(largest), tolerance))
    return found


def updates(golden: Golden, algorithm: str, jit: Jit) -> list[Difference]:
    """Metrics, gradients and weights over the file's updates."""
    rule, kind = golden.build(algorithm), (algorithm, golden.precision)
    state, batch, tolerance = golden.state(rule), golden.batch(), golden.tolerance
    update, found = jit(rule.update), []
    for count, key in enumerate(golden.keys()):
        state, metrics = update(state, key, batch, jnp.int32(count))
        done = count + 1
        if done in (1, 2, UPDATES):
            within = tolerance.values if done == 1 else tolerance.later
            at = f"metrics{done}"
            found += compare(metrics, golden.of(*kind, at), within, f"{at}/")
        if done == 1:
            wanted = golden.of(*kind, "moments")
            found += compare(moments(state), wanted, tolerance.gradients, "moments/")
            if after := golden.of(*kind, "after1"):
                found += compare(flatten(state), after, tolerance.values, "after1/")
    wanted = golden.of(*kind, f"after{UPDATES}")
    return found + compare(flatten(state), wanted, tolerance.later, f"after{UPDATES}/")


def moments(state: Any) -> Named:
    """Adam's first moments: after one update (1 − b1) times the clipped, decayed gradients."""
    nets = {"actor": state.actor, "critic": state.critic}
    if hasattr(state.region, "trd"):
        nets |= {"trd": state.region.trd, "modelling": state.region.nonstationarity}
    named: Named = {}
    for name, net in nets.items():
        named |= leaves(name, _adam_state(net.opt_state).mu)
    return named


def seen(golden: Golden, jit: Jit) -> list[Difference]:
    """What the trust region of MAMT sees, and predicts."""
    game = golden.case.game
    own = settings("mamt")
    actors, critic = build_actors(game, own), attention_critic(game, own)
    nonstationarity = modelled_nonstationarity(game, own)
    watcher = no_trust_region(game)._replace(
        observe=lambda state, view: (state, view, {"view": view})
    )
    watched = actor_critic("watched", actors, critic, watcher, own)
    net = TRDNet(game.obs_sizes, game.num_actions, own[Networks].hidden_size)

    @jit
    def look(state: Any, batch: Batch) -> dict[str, jax.Array]:
        bare = state._replace(region=())
        view: Any = watched.update(bare, jax.random.key(0), batch, jnp.int32(0))[1]["view"]
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

    found = look(golden.state(golden.build("mamt")), golden.batch())
    expected = golden.of("mamt", golden.precision, "look")
    expected.pop("effect", None)
    return compare(found, expected, golden.tolerance.values, "look/")


def rollout(rows: Named, precision: str) -> Batch:
    """A rollout as training hands it over."""
    arrays = {name: jnp.asarray(values) for name, values in cast(rows, precision).items()}
    sample = Transition(**arrays)._replace(action=arrays["action"].astype(jnp.int32))
    rewards = np.asarray(arrays["reward"]).reshape(-1, rows["reward"].shape[-1])
    return Batch(sample, jnp.asarray(rewards.mean(0)), jnp.asarray(rewards.std(0)), None)


def proximal_start(rule: Any, weights: Named, precision: str) -> Any:
    """MAPPO's state with the initial weights, all in this precision."""

    def zeros(leaf: Any) -> np.ndarray:
        real = jnp.issubdtype(leaf.dtype, jnp.floating)
        return np.zeros(leaf.shape, precision if real else leaf.dtype)

    shapes = jax.eval_shape(rule.init, jax.random.key(0))
    return unflatten(weights, jax.tree.map(zeros, shapes))


def proximal(case: ProximalCase, arrays: Named, jit: Jit) -> list[Difference]:
    """Metrics and weights over the file's rollouts, of MAPPO."""
    rule, tolerance = make("mappo", case.game, PROXIMAL), PROXIMAL_TOLERANCES[case.precision]
    state = proximal_start(rule, below(arrays, "initial"), case.precision)
    update, found = jit(rule.update), []
    keys = jax.random.wrap_key_data(jnp.asarray(arrays["update_keys"]))
    for count, before in enumerate(ROLLOUTS_BEFORE, start=1):
        batch = rollout(below(arrays, f"rollout{count}"), case.precision)
        state, metrics = update(state, keys[count - 1], batch, jnp.int32(before))
        expected, at = below(arrays, f"metrics{count}"), f"metrics{count}/"
        # A mean of truths, which JAX takes in float32.
        share = {"clip_fraction": expected.pop("clip_fraction")}
        found += compare(metrics, share, 1e-6, at)
        found += compare(metrics, expected, tolerance, at)
        if after := below(arrays, f"after{count}"):
            found += compare(flatten(state), after, tolerance, f"after{count}/")
    return found


def differences(
    case: str, algorithm: str, precision: str, products: Precision = "float32"
) -> list[Difference]:
    """Everything that a golden file holds of an algorithm, on this device.

    Args:
      case: of :data:`~benchmarks.torch_reference.cases.CASES`, or of those of MAPPO.
      algorithm: one that the file is about.
      precision: of the file's; MAPPO's files have one each.
      products: precision of matrix products where the file's is float32.
    """

    def as_trained(function: Callable[..., Any]) -> Callable[..., Any]:
        return Program(partial(with_precision, products, function))

    # In float64, which training never is, products are as they are.
    compiled: Jit = as_trained if precision == "float32" else jax.jit
    if case in PROXIMAL_CASES:
        with jax.enable_x64(precision == "float64"):
            return proximal(PROXIMAL_CASES[case], read(GOLDEN / f"{case}.npz"), compiled)
    with opened(case, precision) as golden:
        found = updates(golden, algorithm, compiled)
        return found + (seen(golden, compiled) if algorithm == "mamt" else [])
