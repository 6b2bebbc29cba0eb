"""The networks of SPEC §2 in NumPy float64, with the papers' loops over agents and heads.

They read the parameters of the flax modules and share no code with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def as_numpy(params: Any) -> dict[str, Any]:
    """Flax variables as a nested dict of float64 arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)["params"]


def leaky(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.01 * x)


def softmax(logits: np.ndarray) -> np.ndarray:
    e = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def batch_norm(x: np.ndarray) -> np.ndarray:
    """[n, B, I]: every feature of every agent over the batch."""
    return (x - x.mean(axis=1, keepdims=True)) / np.sqrt(x.var(axis=1, keepdims=True) + 1e-5)


def agent_dense(layer: dict[str, np.ndarray], i: int, x: np.ndarray) -> np.ndarray:
    return x @ layer["kernel"][i] + (layer["bias"][i] if "bias" in layer else 0.0)


def agent_output(layer: dict[str, np.ndarray], i: int, x: np.ndarray) -> np.ndarray:
    return x @ layer["kernel"][i].T + layer["bias"][i]


def shared_dense(layer: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    return x @ layer["kernel"] + layer.get("bias", 0.0)


def actor(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
    """[n, B, O] -> logits [n, B, A]."""
    out = []
    for i in range(len(x)):
        h = leaky(agent_dense(params["AgentDense_0"], i, x[i]))
        h = leaky(agent_dense(params["AgentDense_1"], i, h))
        out.append(agent_output(params["out"], i, h))
    return np.stack(out)


def modelling(params: dict[str, Any], x: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Logits [B, A] of every pair (i, j), with one-hot(j) concatenated to agent i's observation."""
    num_agents, batch, _ = x.shape
    out = {}
    for i in range(num_agents):
        kernel = np.concatenate([params["obs"]["kernel"][i], params["agent"]["kernel"][i]])
        for j in set(range(num_agents)) - {i}:
            one_hot = np.tile(np.eye(num_agents)[j], (batch, 1))
            h = leaky(np.concatenate([x[i], one_hot], axis=1) @ kernel + params["obs"]["bias"][i])
            h = leaky(agent_dense(params["AgentDense_0"], i, h))
            out[i, j] = agent_output(params["out"], i, h)
    return out


def critic(
    params: dict[str, Any], x: np.ndarray, action: np.ndarray, heads: int
) -> tuple[np.ndarray, np.ndarray]:
    """MAAC's critic: ([n, B, O], [n, B, A]) -> (Q [n, B, A], unscaled logits [n, n, B, K]).

    The multi-head maps hold the heads' maps side by side.
    """
    num_agents, batch, _ = x.shape
    width = params["query"]["kernel"].shape[1] // heads
    encoded, state = [], []
    for i in range(num_agents):
        pair = np.concatenate([x[i], action[i]], axis=1)
        kernel = np.concatenate(
            [params["encode_obs"]["kernel"][i], params["encode_action"]["kernel"][i]]
        )
        encoded.append(leaky(pair @ kernel + params["encode_obs"]["bias"][i]))
        state.append(leaky(agent_dense(params["encode_state"], i, x[i])))
    q, logits = [], np.zeros((num_agents, num_agents, batch, heads))
    for i in range(num_agents):
        others = [j for j in range(num_agents) if j != i]
        attended = []
        for head in range(heads):
            columns = slice(head * width, (head + 1) * width)
            selector = state[i] @ params["query"]["kernel"][:, columns]
            keys = [encoded[j] @ params["key"]["kernel"][:, columns] for j in others]
            values = [
                leaky(
                    encoded[j] @ params["value"]["kernel"][:, columns]
                    + params["value"]["bias"][columns]
                )
                for j in others
            ]
            product = np.stack([np.sum(selector * key, axis=1) for key in keys], axis=1)
            logits[i, others, :, head] = product.T
            weight = softmax(product / np.sqrt(width))
            attended.append(sum(weight[:, [k]] * values[k] for k in range(len(others))))
        kernel = np.concatenate(
            [params["head_state"]["kernel"][i], params["head_attended"]["kernel"][i]]
        )
        joint = np.concatenate([state[i], *attended], axis=1)
        hidden = leaky(joint @ kernel + params["head_state"]["bias"][i])
        q.append(agent_output(params["head_out"], i, hidden))
    return np.stack(q), logits


def trd_net(
    params: dict[str, Any],
    x: np.ndarray,
    action: np.ndarray,
    log_delta: np.ndarray,
    coordination: np.ndarray,
    sign: Callable[[np.ndarray], np.ndarray] = lambda kernel: kernel,
) -> np.ndarray:
    """KL [n, B]; one sample and one agent at a time. ``sign`` makes kernels positive if it must."""
    num_agents, batch, _ = x.shape
    node = np.zeros((num_agents, batch, params["convolution"]["kernel"].shape[0]))
    for i in range(num_agents):
        encoded = agent_dense(params["encode_obs"], i, x[i])
        encoded = leaky(encoded + agent_dense(params["encode_action"], i, action[i]))
        by_delta = log_delta[i] * sign(params["delta"]["kernel"])[0]
        node[i] = leaky(shared_dense(params["node"], encoded) + by_delta)
    out = np.zeros((num_agents, batch))
    for b in range(batch):
        weight = coordination[:, :, b] + np.eye(num_agents)
        degree = weight.sum(axis=1)
        for i in range(num_agents):
            hop = 0.0
            for j in range(num_agents):
                sent = node[j, b] @ sign(params["convolution"]["kernel"])
                sent = sent + params["convolution"]["bias"]
                hop = hop + weight[i, j] / np.sqrt(degree[i] * degree[j]) * sent
            joint = node[i, b] @ sign(params["kl_node"]["kernel"]) + params["kl_node"]["bias"]
            joint = leaky(joint + leaky(hop) @ sign(params["kl_graph"]["kernel"]))
            z = joint @ sign(params["kl_out"]["kernel"])[:, 0] + params["kl_out"]["bias"][0]
            out[i, b] = (z + np.sqrt(z**2 + 1)) / 2  # squareplus
    return out


def joint_critic(params: dict[str, Any], joint: np.ndarray) -> np.ndarray:
    """[n, B, I], each agent's joint input -> [n, B, outputs]; the layers of an actor."""
    return actor(params, joint)


def attention_actor(
    params: dict[str, Any], x: np.ndarray, sizes: tuple[int, ...], heads: int, width: int = 2
) -> np.ndarray:
    """[n, B, O] -> logits [n, B, A]; one sample, one head, one token at a time."""
    hidden = params["query"]["kernel"].shape[-1]
    part = hidden // heads
    out = []
    for i, size in enumerate(sizes):
        tokens = range(-(-size // width))
        rows = []
        for row in x[i]:
            state = leaky(agent_dense(params["encode"], i, row))
            query = agent_dense(params["query"], i, state)
            attended = np.zeros(hidden)
            padded = np.append(row, np.zeros(width))
            pieces = [padded[t * width : (t + 1) * width] for t in tokens]
            keys, values = (
                [
                    p @ params[name]["kernel"][i, t] + params[name]["bias"][i, t]
                    for t, p in zip(tokens, pieces, strict=True)
                ]
                for name in ("key", "value")
            )
            for head in range(heads):
                part_of = slice(head * part, (head + 1) * part)
                score = np.array([query[part_of] @ key[part_of] for key in keys])
                weight = softmax(score / np.sqrt(part))
                attended[part_of] = sum(
                    w * leaky(value[part_of]) for w, value in zip(weight, values, strict=True)
                )
            joint = agent_dense(params["head_state"], i, state)
            joint = joint + agent_dense(params["head_attended"], i, attended)
            rows.append(agent_output(params["out"], i, leaky(joint)))
        out.append(rows)
    return np.array(out)
