"""Weights both ways between mamt_jax's learner state and a learner here.

A learner's parameters by name: ``"critic/query/kernel"`` and so on, with mamt_jax's names and
shapes. "batched" has them nearly as they are; "modules" has views of each agent's own layers, where
rows for padding do not exist: they are written as zeros and not read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.torch_reference.learner import Learner
from benchmarks.torch_reference.proximal import ProximalLearner
from benchmarks.torch_reference.states import Named, flatten, unflatten

__all__ = ["Named", "export", "first_moments", "flatten", "load", "unflatten"]

AnyLearner: TypeAlias = Learner | ProximalLearner
Source: TypeAlias = Callable[[Tensor], Tensor]
"""parameter -> itself, or what an optimiser keeps for it."""
Rows: TypeAlias = list[Tensor] | Tensor
"""A tensor with mamt_jax's shape, or one view per agent."""


NETWORKS = (
    "actor",
    "target_actor",
    "old_actor",
    "critic",
    "target_critic",
    "modelling",
    "trd",
    "target_trd",
)
TENSORS = {
    "norm/mean": "norm_mean",
    "norm/var": "norm_var",
    "log_delta": "log_delta",
    "returns/first": "returns_first",
    "returns/second": "returns_second",
    "returns/weight": "returns_weight",
}
"""Attributes of a learner that are no networks, by name."""


def networks(learner: AnyLearner) -> dict[str, nn.Module]:
    """The learner's networks by name."""
    return {name: getattr(learner, name) for name in NETWORKS if hasattr(learner, name)}


def _tensors(learner: AnyLearner) -> dict[str, Tensor]:
    """Tensors that are no network's, by name."""
    return {k: getattr(learner, name) for k, name in TENSORS.items() if hasattr(learner, name)}


def _views(net: nn.Module, source: Source) -> dict[str, Rows]:
    """A network's parameters, or what belongs to them, by mamt_jax's names."""
    parameters = dict(net.named_parameters())
    if not any(name.startswith(("agents.", "encode.0.")) for name in parameters):
        outputs = ("out.kernel", "head_out.kernel")  # mamt_jax keeps them transposed
        return {
            name.replace(".", "/"): source(leaf).transpose(1, 2)
            if name in outputs
            else source(leaf)
            for name, leaf in parameters.items()
        }
    views: dict[str, Rows] = {}

    def add(name: str, layers: list[nn.Module], first: str = "", width: Any = 0) -> None:
        """Layers of all agents; those on two inputs are split after ``width``."""
        weights = [source(layer.weight).T for layer in layers]
        views[f"{first or name}/bias"] = [source(layer.bias) for layer in layers]
        if first:
            widths = width if isinstance(width, tuple) else (width,) * len(layers)
            views[f"{first}/kernel"] = [w[:k] for w, k in zip(weights, widths, strict=True)]
            weights = [w[k:] for w, k in zip(weights, widths, strict=True)]
        views[f"{name}/kernel"] = weights

    def output(name: str, layers: list[nn.Module]) -> None:
        """The last layers of all agents, whose kernels are stored as PyTorch's."""
        views[f"{name}/bias"] = [source(layer.bias) for layer in layers]
        views[f"{name}/kernel"] = [source(layer.weight) for layer in layers]

    def shared(name: str, layer: nn.Module, first: str = "", width: int = 0) -> None:
        add(name, [layer], first, width)
        for key in [key for key, rows in views.items() if key.split("/")[0] in (name, first)]:
            rows = views[key]
            views[key] = rows[0] if isinstance(rows, list) else rows

    kind, obs_sizes = type(net).__name__, net.obs_sizes
    if kind == "Actor":
        for k in range(2):
            add(f"AgentDense_{k}", [agent[2 * k] for agent in net.agents])
        output("out", [agent[4] for agent in net.agents])
    elif kind == "ModellingPolicy":
        add("agent", [agent[0] for agent in net.agents], "obs", obs_sizes)
        add("AgentDense_0", [agent[2] for agent in net.agents])
        output("out", [agent[4] for agent in net.agents])
    elif kind == "Critic":
        hidden = net.key.weight.shape[0]
        add("encode_action", [agent.encode for agent in net.agents], "encode_obs", obs_sizes)
        add("encode_state", [agent.encode_state for agent in net.agents])
        add("head_attended", [agent.head for agent in net.agents], "head_state", hidden)
        output("head_out", [agent.head_out for agent in net.agents])
        views |= {
            f"{name}/kernel": source(getattr(net, name).weight).T for name in ("query", "key")
        }
        shared("value", net.value)
    else:
        hidden = net.node.weight.shape[0]
        add("encode_action", list(net.encode), "encode_obs", obs_sizes)
        shared("node", net.node)
        shared("convolution", net.convolution)
        shared("kl_graph", net.kl, "kl_node", hidden)
        shared("kl_out", net.kl_out)
        views["delta/kernel"] = source(net.delta)[None]
    return views


def _joined(rows: Rows) -> np.ndarray:
    """One array; agents' kernels with fewer rows than the widest get zeros."""
    if isinstance(rows, Tensor):
        return rows.detach().cpu().numpy().copy()
    widest = max(row.shape[0] for row in rows)
    padded = [
        nn.functional.pad(row.detach(), (0, 0) * (row.ndim - 1) + (0, widest - row.shape[0]))
        for row in rows
    ]
    return torch.stack(padded).cpu().numpy()


def export(learner: AnyLearner) -> Named:
    """All parameters, running statistics and log δ."""
    named = {
        name: tensor.detach().cpu().numpy().copy() for name, tensor in _tensors(learner).items()
    }
    for net_name, net in networks(learner).items():
        for name, rows in _views(net, lambda leaf: leaf).items():
            named[f"{net_name}/{name}"] = _joined(rows)
    return named


def first_moments(learner: AnyLearner) -> Named:
    """Adam's first moments by the same names, of the networks that have an optimiser."""
    named: Named = {}
    for net_name, net in networks(learner).items():
        optimiser = getattr(learner, f"{net_name}_optimiser", None)
        if optimiser is None:
            continue

        def moment(leaf: Tensor, state: Any = optimiser.state) -> Tensor:
            return state[leaf]["exp_avg"]

        for name, rows in _views(net, moment).items():
            named[f"{net_name}/{name}"] = _joined(rows)
    return named


@torch.no_grad()
def load(learner: AnyLearner, named: Named) -> None:
    """Inverse of :func:`export`; optimisers are left as they are."""
    targets: dict[str, Rows] = dict(_tensors(learner))
    for net_name, net in networks(learner).items():
        targets |= {f"{net_name}/{k}": v for k, v in _views(net, lambda leaf: leaf).items()}
    if targets.keys() != named.keys():
        raise ValueError(f"Names differ: {sorted(targets.keys() ^ named.keys())}.")
    for name, rows in targets.items():
        array = torch.as_tensor(np.asarray(named[name]))
        if isinstance(rows, Tensor):
            rows.copy_(array)
        else:
            for row, values in zip(rows, array, strict=True):
                row.copy_(values[: row.shape[0]])
