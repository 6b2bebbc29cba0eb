"""mamt_jax's learner state as named arrays (``"critic/query/kernel"``); without PyTorch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Named = dict[str, np.ndarray]


SLOW = ("target_actor", "old_actor", "target_critic")
"""Networks without an optimiser, of those algorithms that have them."""


def flatten(state: Any) -> Named:
    """Parameters of all networks, running statistics and log δ of a ``LearnerState``."""
    trees = {"actor": state.actor.params, "critic": state.critic.params}
    trees |= {name: getattr(state, name) for name in SLOW if hasattr(state, name)}
    named = {"norm/mean": np.array(state.norm.mean), "norm/var": np.array(state.norm.var)}
    if hasattr(state, "returns"):
        named |= {f"returns/{k}": np.array(v) for k, v in state.returns._asdict().items()}
    if hasattr(state.region, "trd"):
        region = state.region
        trees |= {"modelling": region.nonstationarity.params, "trd": region.trd.params}
        trees["target_trd"] = region.target_trd
        named["log_delta"] = np.array(region.log_delta)
    for net, tree in trees.items():
        named |= leaves(net, tree)
    return named


def unflatten(named: Named, state: Any) -> Any:
    """The state with these weights; its optimisers' states and keys are kept."""

    def tree(net: str, old: Any) -> Any:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: jnp.asarray(named[_name(net, path)], leaf.dtype), old
        )

    def array(name: str, old: Any) -> Any:
        return jnp.asarray(named[name], old.dtype)

    region = state.region
    if hasattr(region, "trd"):
        inner = region.nonstationarity
        region = region._replace(
            log_delta=array("log_delta", region.log_delta),
            trd=region.trd._replace(params=tree("trd", region.trd.params)),
            target_trd=tree("target_trd", region.target_trd),
            nonstationarity=inner._replace(params=tree("modelling", inner.params)),
        )

    def arrays(name: str, old: Any) -> Any:
        pairs = old._asdict().items()
        return type(old)(**{field: array(f"{name}/{field}", values) for field, values in pairs})

    moments = {
        name: arrays(name, getattr(state, name))
        for name in ("norm", "returns")
        if hasattr(state, name)
    }
    slow = {name: tree(name, getattr(state, name)) for name in SLOW if hasattr(state, name)}
    return state._replace(
        actor=state.actor._replace(params=tree("actor", state.actor.params)),
        critic=state.critic._replace(params=tree("critic", state.critic.params)),
        region=region,
        **moments,
        **slow,
    )


def leaves(net: str, tree: Any) -> Named:
    """A network's parameters, or a tree like them, by name."""
    rows = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(net, path): np.array(leaf) for path, leaf in rows}


def _name(net: str, path: Any) -> str:
    return "/".join([net, *(key.key for key in path if key.key != "params")])


def write(path: Path, named: Named) -> None:
    """Writes arrays to a small file: one flat vector per type, and an index of names and shapes.

    An archive with an entry per array would be mostly headers.
    """
    index: dict[str, list[Any]] = {}
    vectors: Named = {}
    for kind in sorted({values.dtype.name for values in named.values()}):
        rows = {name: values for name, values in named.items() if values.dtype.name == kind}
        index[kind] = [(name, values.shape) for name, values in rows.items()]
        vectors[kind] = np.concatenate([values.ravel() for values in rows.values()])
    np.savez_compressed(path, index=np.array(json.dumps(index)), **vectors)  # type: ignore[arg-type]


def read(path: Path) -> Named:
    """Inverse of :func:`write`."""
    named: Named = {}
    with np.load(path) as file:
        for kind, entries in json.loads(str(file["index"])).items():
            vector, start = file[kind], 0
            for name, shape in entries:
                end = start + int(np.prod(shape))
                named[name] = vector[start:end].reshape(shape)
                start = end
    return named
