"""Networks as one ``nn.Module`` per agent and a Python loop over agents, as published code has it.

With care: what all agents share is applied to all of them at once, and nothing loops over samples
or actions. Every network has the call signature of its namesake in ``batched``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.torch_reference.maths import (
    LEAK,
    leaky_relu,
    not_taken,
    opponents,
    others_chances,
    select,
    squareplus,
    to_square,
)


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden),
        nn.LeakyReLU(LEAK),
        nn.Linear(hidden, hidden),
        nn.LeakyReLU(LEAK),
        nn.Linear(hidden, outputs),
    )


class Actor(nn.Module):
    """Normalised observations ``[n, B, O]`` -> logits ``[n, B, A]``."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int):
        super().__init__()
        self.obs_sizes = obs_sizes
        self.agents = nn.ModuleList(mlp(size, hidden, num_actions) for size in obs_sizes)

    def forward(self, x: Tensor) -> Tensor:
        rows = own(x, self.obs_sizes)
        return torch.stack([net(obs) for net, obs in zip(self.agents, rows, strict=True)])


def own(x: Tensor, obs_sizes: Sequence[int]) -> list[Tensor]:
    """Each agent's observations ``[B, O_i]`` of ``[n, B, O]``, without padding."""
    return [rows[..., :size] for rows, size in zip(x, obs_sizes, strict=True)]


class ModellingPolicy(nn.Module):
    """``[n, B, O]`` -> logits ``[n, n − 1, B, A]`` of every opponent's action."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int):
        super().__init__()
        n = len(obs_sizes)
        self.obs_sizes, self.others = obs_sizes, opponents(n)
        self.agents = nn.ModuleList(mlp(size + n, hidden, num_actions) for size in obs_sizes)

    def forward(self, x: Tensor) -> Tensor:
        return torch.stack(
            [
                self._logits(net, rows, others)
                for net, rows, others in zip(
                    self.agents, own(x, self.obs_sizes), self.others, strict=True
                )
            ]
        )

    def _logits(self, net: nn.Sequential, x: Tensor, others: list[int]) -> Tensor:
        """``[B, O_i] -> [n − 1, B, A]``; the observation's share of the first layer only once."""
        first, size = net[0], x.shape[-1]
        by_obs = F.linear(x, first.weight[:, :size], first.bias)
        by_agent = first.weight[:, size:].T[others]
        return net[1:](by_obs + by_agent[:, None])


class AgentCritic(nn.Module):
    """One agent's own layers of the critic."""

    def __init__(self, obs_size: int, num_actions: int, hidden: int):
        super().__init__()
        self.encode = nn.Linear(obs_size + num_actions, hidden)
        self.encode_state = nn.Linear(obs_size, hidden)
        self.head = nn.Linear(2 * hidden, hidden)
        self.head_out = nn.Linear(hidden, num_actions)


class Trace(NamedTuple):
    """The critic's values and what a counterfactual needs of the way to them."""

    q: Tensor  # [n, B, A]
    logits: Tensor  # [n, n − 1, B, K] unscaled, opponents as `opponents`
    weights: Tensor  # [n, n − 1, B, K]
    x: list[Tensor]  # n of [B, O_i]
    state: Tensor  # [n, B, H]
    query: Tensor  # [n, B, K, H/K]
    value: Tensor  # [n, B, K, H/K]


class Critic(nn.Module):
    """The attention critic, ``[n, B, O], [n, B, A] -> Trace``."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int, heads: int):
        super().__init__()
        self.obs_sizes, self.others = obs_sizes, opponents(len(obs_sizes))
        self.heads, self.scale = heads, (hidden // heads) ** -0.5
        self.agents = nn.ModuleList(AgentCritic(size, num_actions, hidden) for size in obs_sizes)
        self.query = nn.Linear(hidden, hidden, bias=False)
        self.key = nn.Linear(hidden, hidden, bias=False)
        self.value = nn.Linear(hidden, hidden)

    def shared(self) -> list[nn.Parameter]:
        """Parameters that all agents' losses reach."""
        modules = [self.query, self.key, self.value, *(agent.encode for agent in self.agents)]
        return [parameter for module in modules for parameter in module.parameters()]

    def forward(self, x: Tensor, action: Tensor) -> Trace:
        rows = own(x, self.obs_sizes)
        encoded, state = [], []
        for agent, obs, chosen in zip(self.agents, rows, action, strict=True):
            encoded.append(leaky_relu(agent.encode(torch.cat((obs, chosen), -1))))
            state.append(leaky_relu(agent.encode_state(obs)))
        encodings, states = torch.stack(encoded), torch.stack(state)
        query, key = self._split(self.query(states)), self._split(self.key(encodings))
        value = self._split(leaky_relu(self.value(encodings)))
        # Unbound once: an index's backward pass would fill a tensor of all agents with zeros.
        queries, keys, values = query.unbind(), key.unbind(), value.unbind()
        q, logits, weights = [], [], []
        for i, agent in enumerate(self.agents):
            others = self.others[i]
            logit = torch.stack([(queries[i] * keys[j]).sum(-1) for j in others])
            weight = (logit * self.scale).softmax(0)
            terms = zip(weight[..., None].unbind(), others, strict=True)
            attended = sum(share * values[j] for share, j in terms)
            joint = torch.cat((state[i], attended.flatten(-2)), -1)
            q.append(agent.head_out(leaky_relu(agent.head(joint))))
            logits.append(logit)
            weights.append(weight)
        return Trace(
            torch.stack(q), torch.stack(logits), torch.stack(weights), rows, states, query, value
        )

    def read(self, x: Tensor, action: Tensor) -> Tensor:
        """Q ``[n, B, A]`` alone. With two agents the only opponent has all the attention."""
        if len(x) != 2:
            return self(x, action).q
        rows = own(x, self.obs_sizes)
        pairs = zip(self.agents, rows, action, strict=True)
        encoded = [leaky_relu(agent.encode(torch.cat(pair, -1))) for agent, *pair in pairs]
        attended = leaky_relu(self.value(torch.stack(encoded))).flip(0)
        q = []
        for agent, obs, other in zip(self.agents, rows, attended, strict=True):
            joint = torch.cat((leaky_relu(agent.encode_state(obs)), other), -1)
            q.append(agent.head_out(leaky_relu(agent.head(joint))))
        return torch.stack(q)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def effects(self, trace: Trace, action: Tensor, policy: Tensor, encoding: Tensor) -> Tensor:
        """|Q_i(a\\j) − Q_i(a)| ``[n, n, B]`` (Eq. 5), zero diagonal; for three or more agents.

        Every other action of an opponent at once: the one taken has no part in the difference.
        The average over the agents that remain is taken once, and a new key and value enter it
        with the sigmoid of their logit against the others'. The head's last layer is linear, so
        that the mean over actions is taken before it.
        """
        keys, values = [], []
        for agent, obs, table, taken in zip(self.agents, trace.x, encoding, action, strict=True):
            weight, size = agent.encode.weight, obs.shape[-1]
            by_obs = F.linear(obs, weight[:, :size], agent.encode.bias)
            by_action = not_taken(F.linear(table, weight[:, size:])[:, None], taken)
            encoded = leaky_relu(by_obs + by_action)
            keys.append(self._split(self.key(encoded)))
            values.append(self._split(leaky_relu(self.value(encoded))))
        actual, (chance, total) = select(trace.q, action), others_chances(policy, action)
        pairs = []
        for i, agent in enumerate(self.agents):
            hidden_size = trace.state.shape[-1]
            by_state = F.linear(trace.state[i], agent.head.weight[:, :hidden_size], agent.head.bias)
            row = []
            for k, j in enumerate(self.others[i]):
                kept, against = self._remaining(trace, i, k)
                gap = (trace.query[i] * keys[j]).sum(-1) * self.scale - against
                attended = kept + gap.sigmoid()[..., None] * (values[j] - kept)
                by_attended = F.linear(attended.flatten(-2), agent.head.weight[:, hidden_size:])
                hidden = leaky_relu(by_attended + by_state)
                mean = (hidden * chance[j][..., None]).sum(0)
                moved = select(agent.head_out(mean), action[i]) - actual[i]
                row.append(total[j] * moved.abs())
            pairs.append(torch.stack(row))
        return to_square(torch.stack(pairs))

    def _remaining(self, trace: Trace, i: int, left_out: int) -> tuple[Tensor, Tensor]:
        """Agent i's attended value without one opponent, and the logarithm of its weight."""
        kept = [k for k in range(len(self.others[i])) if k != left_out]
        scaled = trace.logits[i, kept] * self.scale
        values = trace.value[[self.others[i][k] for k in kept]]
        return (scaled.softmax(0)[..., None] * values).sum(0), scaled.logsumexp(0)


class TRDNet(nn.Module):
    """x ``[n, B, O]``, action ``[n, B, A]``, log δ ``[n]``, C ``[n, n, B]`` -> KL_i ``[n, B]``."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int):
        super().__init__()
        self.obs_sizes = obs_sizes
        self.encode = nn.ModuleList(nn.Linear(size + num_actions, hidden) for size in obs_sizes)
        self.node = nn.Linear(hidden, hidden)
        bound = (2 * hidden) ** -0.5  # the fan-in of encoding and δ's embedding together
        nn.init.uniform_(self.node.weight, -bound, bound)
        nn.init.uniform_(self.node.bias, -bound, bound)
        self.delta = nn.Parameter(torch.zeros(hidden))
        self.convolution = nn.Linear(hidden, hidden)
        self.kl = nn.Linear(2 * hidden, hidden)
        self.kl_out = nn.Linear(hidden, 1)
        self.register_buffer("loops", torch.eye(len(obs_sizes))[:, :, None], persistent=False)

    def forward(self, x: Tensor, action: Tensor, log_delta: Tensor, weights: Tensor) -> Tensor:
        rows = zip(self.encode, own(x, self.obs_sizes), action, strict=True)
        encoded = [net(torch.cat((obs, chosen), -1)) for net, obs, chosen in rows]
        by_delta = log_delta[:, None, None] * self.delta
        node = leaky_relu(self.node(leaky_relu(torch.stack(encoded))) + by_delta)
        degree = (1.0 + weights.sum(1)).rsqrt()
        edges = (weights + self.loops) * degree[:, None] * degree[None]
        sent = self.convolution(node)
        hop = leaky_relu(torch.stack([(row[..., None] * sent).sum(0) for row in edges]))
        return squareplus(self.kl_out(leaky_relu(self.kl(torch.cat((node, hop), -1))))[..., 0])


def agent_norms(gradient: Sequence[Tensor], num_agents: int) -> Tensor:
    """Global norm of each agent's gradient ``[n]``; leaves are ordered agent by agent."""
    norms = torch.stack(torch._foreach_norm(gradient)).view(num_agents, -1)
    return torch.linalg.vector_norm(norms, dim=1)


def agent_scale(gradient: Sequence[Tensor], factor: Tensor) -> None:
    """Multiplies each agent's leaves by its factor ``[n]``, in place."""
    count = len(gradient) // len(factor)
    torch._foreach_mul_(gradient, factor.repeat_interleave(count).unbind())


def agent_inner(left: Sequence[Tensor], right: Sequence[Tensor], num_agents: int) -> Tensor:
    """Inner products within each agent ``[n]``."""
    products = torch._foreach_mul(left, right)
    return torch.stack([leaf.sum() for leaf in products]).view(num_agents, -1).sum(1)
