"""Networks with the parameters of all agents stacked ``[n, ...]``: one batched product a layer.

Parameters carry the names of mamt_jax's, with "." for "/", and their shapes but for the kernels of
output layers, which are the transposed ones there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.torch_reference.maths import (
    leaky_relu,
    not_taken,
    opponents,
    others_chances,
    select,
    squareplus,
    to_square,
)


class Dense(nn.Module):
    """A linear layer for each agent, with PyTorch's Linear initialisation for ``fan_in``."""

    def __init__(self, n: int, inputs: int, outputs: int, fan_in: Sequence[int], bias: bool = True):
        super().__init__()
        bound = torch.tensor(fan_in, dtype=torch.get_default_dtype()).rsqrt().expand(n)
        kernel = torch.empty(n, inputs, outputs).uniform_(-1, 1) * bound[:, None, None]
        self.kernel = nn.Parameter(kernel)
        self.bias = nn.Parameter(torch.empty(n, outputs).uniform_(-1, 1) * bound[:, None])
        if not bias:
            self.bias = None

    def forward(self, x: Tensor, plus: Tensor | None = None) -> Tensor:
        """``[n, B, inputs] -> [n, B, outputs]``; a layer without a bias may add ``plus``."""
        added = plus if self.bias is None else self.bias[:, None]
        if added is None:
            return torch.bmm(x, self.kernel)
        return torch.baddbmm(added, x, self.kernel)


class Shared(nn.Module):
    """One linear layer for all agents, kernel ``[inputs, outputs]``."""

    def __init__(self, inputs: int, outputs: int, fan_in: int = 0, bias: bool = True):
        super().__init__()
        bound = (fan_in or inputs) ** -0.5
        self.kernel = nn.Parameter(torch.empty(inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """``[..., inputs] -> [..., outputs]``."""
        flat = x.reshape(-1, x.shape[-1])
        y = flat @ self.kernel if self.bias is None else torch.addmm(self.bias, flat, self.kernel)
        return y.view(*x.shape[:-1], -1)


class Actor(nn.Module):
    """Normalised observations ``[n, B, O]`` -> logits ``[n, B, A]``."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int):
        super().__init__()
        n = len(obs_sizes)
        self.AgentDense_0 = Dense(n, max(obs_sizes), hidden, obs_sizes)
        self.AgentDense_1 = Dense(n, hidden, hidden, [hidden])
        self.out = Dense(n, hidden, num_actions, [hidden])

    def forward(self, x: Tensor) -> Tensor:
        hidden = leaky_relu(self.AgentDense_1(leaky_relu(self.AgentDense_0(x))))
        return self.out(hidden)


class Tokens(nn.Module):
    """A linear layer for each agent and token, as :class:`Dense`."""

    def __init__(self, n: int, tokens: int, inputs: int, outputs: int):
        super().__init__()
        bound = inputs**-0.5
        self.kernel = nn.Parameter(torch.empty(n, tokens, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(n, tokens, outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor) -> Tensor:
        """``[n, tokens, B, inputs] -> [n, tokens, B, outputs]``."""
        bias = self.bias.flatten(0, 1)[:, None]
        y = torch.baddbmm(bias, x.flatten(0, 1), self.kernel.flatten(0, 1))
        return y.unflatten(0, x.shape[:2])


class AttentionActor(nn.Module):
    """As :class:`Actor`, with attention to the tokens that an observation is cut into."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int, heads: int):
        super().__init__()
        n, size = len(obs_sizes), max(obs_sizes)
        self.width = max(2, -(-size // 16))
        self.count = -(-size // self.width)
        self.heads, self.scale = heads, (hidden // heads) ** -0.5
        self.encode = Dense(n, size, hidden, obs_sizes)
        self.query = Dense(n, hidden, hidden, [hidden], bias=False)
        self.key = Tokens(n, self.count, self.width, hidden)
        self.value = Tokens(n, self.count, self.width, hidden)
        self.head_state = Dense(n, hidden, hidden, [2 * hidden])
        self.head_attended = Dense(n, hidden, hidden, [2 * hidden], bias=False)
        self.out = Dense(n, hidden, num_actions, [hidden])
        starts = torch.arange(self.count) * self.width
        padding = starts >= torch.tensor(obs_sizes)[:, None]
        self.has_padding = bool(padding.any())
        self.register_buffer("padding", padding[:, :, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        state, tokens = leaky_relu(self.encode(x)), self._tokens(x)
        query = self._split(self.query(state))
        # One token after another, whose keys and values stay in a cache; on a CPU, all at once
        # take 10% longer in "sum of products" form, and 50% or more as matrix products.
        scores = [(self._split(key) * query).sum(-1) for key in self.key(tokens).unbind(1)]
        score = torch.stack(scores, 1) * self.scale
        if self.has_padding:
            score = score.masked_fill(self.padding, -torch.inf)
        weights = score.softmax(1)[..., None].unbind(1)
        pairs = zip(weights, self.value(tokens).unbind(1), strict=True)
        attended = sum(weight * self._split(leaky_relu(value)) for weight, value in pairs)
        return self.out(
            leaky_relu(self.head_attended(attended.flatten(-2), self.head_state(state)))
        )

    def _tokens(self, x: Tensor) -> Tensor:
        """``[n, B, O] -> [n, tokens, B, width]``, the last one padded."""
        x = nn.functional.pad(x, (0, self.count * self.width - x.shape[-1]))
        return x.unflatten(-1, (self.count, self.width)).transpose(1, 2).contiguous()

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))


class ModellingPolicy(nn.Module):
    """``[n, B, O]`` -> logits ``[n, n − 1, B, A]`` of every opponent's action."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int):
        super().__init__()
        n = len(obs_sizes)
        fan_in = [size + n for size in obs_sizes]
        self.obs = Dense(n, max(obs_sizes), hidden, fan_in)
        self.agent = Dense(n, n, hidden, fan_in, bias=False)
        self.AgentDense_0 = Dense(n, hidden, hidden, [hidden])
        self.out = Dense(n, hidden, num_actions, [hidden])
        self.register_buffer("others", torch.tensor(opponents(n)), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        (n, batch, _), others = x.shape, self.others
        index = others[:, :, None].expand(-1, -1, self.agent.kernel.shape[-1])
        first = self.obs(x)[:, None] + self.agent.kernel.gather(1, index)[:, :, None]
        second = self.AgentDense_0(leaky_relu(first).flatten(1, 2))
        return self.out(leaky_relu(second)).view(n, n - 1, batch, -1)


class Trace(NamedTuple):
    """The critic's values and what a counterfactual needs of the way to them."""

    q: Tensor  # [n, B, A or 1]
    logits: Tensor  # [n, n, B, K] unscaled, zero diagonal
    weights: Tensor  # [n, n, B, K] zero diagonal
    state_part: Tensor  # [n, B, H] the head's first layer before the attended values
    query: Tensor  # [n, B, K, H/K]
    value: Tensor  # [n, B, K, H/K]
    obs_part: Tensor  # [n, B, H] the encoder before the action


class Critic(nn.Module):
    """The attention critic, ``[n, B, O], [n, B, A] -> Trace``.

    With ``outputs`` = 1 its q is the value of (o, a_{-i}), ``[n, B, 1]``.
    """

    def __init__(
        self,
        obs_sizes: Sequence[int],
        num_actions: int,
        hidden: int,
        heads: int,
        outputs: int = 0,
    ):
        super().__init__()
        n, widest = len(obs_sizes), max(obs_sizes)
        pair = [size + num_actions for size in obs_sizes]
        self.heads, self.scale = heads, (hidden // heads) ** -0.5
        self.encode_obs = Dense(n, widest, hidden, pair)
        self.encode_action = Dense(n, num_actions, hidden, pair, bias=False)
        self.encode_state = Dense(n, widest, hidden, obs_sizes)
        self.query = Shared(hidden, hidden, bias=False)
        self.key = Shared(hidden, hidden, bias=False)
        self.value = Shared(hidden, hidden)
        self.head_state = Dense(n, hidden, hidden, [2 * hidden])
        self.head_attended = Dense(n, hidden, hidden, [2 * hidden], bias=False)
        self.head_out = Dense(n, hidden, outputs or num_actions, [hidden])
        diagonal = torch.eye(n, dtype=torch.bool)
        self.register_buffer("diagonal", diagonal, persistent=False)
        others = torch.tensor(opponents(n)).T.contiguous()
        remaining = ~(diagonal[None] | diagonal[others])
        self.register_buffer("others", others, persistent=False)  # [n − 1, n]
        self.register_buffer("remaining", remaining, persistent=False)  # [n − 1, n, n]

    def shared(self) -> list[nn.Parameter]:
        """Parameters that all agents' losses reach."""
        modules = self.query, self.key, self.value, self.encode_obs, self.encode_action
        return [parameter for module in modules for parameter in module.parameters()]

    def forward(self, x: Tensor, action: Tensor) -> Trace:
        obs_part = self.encode_obs(x)
        encoded = leaky_relu(self.encode_action(action, obs_part))
        state = leaky_relu(self.encode_state(x))
        query, key = self._split(self.query(state)), self._split(self.key(encoded))
        value = self._split(leaky_relu(self.value(encoded)))
        logits, weights, attended = self._attend(query, key, value)
        state_part = self.head_state(state)
        q = self.head_out(leaky_relu(self.head_attended(attended, state_part)))
        return Trace(q, logits, weights, state_part, query, value, obs_part)

    def read(self, x: Tensor, action: Tensor) -> Tensor:
        """Q ``[n, B, A]`` alone. With two agents the only opponent has all the attention."""
        if len(x) != 2:
            return self(x, action).q
        encoded = leaky_relu(self.encode_action(action, self.encode_obs(x)))
        state_part = self.head_state(leaky_relu(self.encode_state(x)))
        attended = leaky_relu(self.value(encoded)).flip(0)
        return self.head_out(leaky_relu(self.head_attended(attended, state_part)))

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Logits and weights ``[n, n, B, K]``, attended values ``[n, B, H]``."""
        n, batch, heads, width = query.shape
        by_sample = [x.permute(1, 2, 0, 3).reshape(-1, n, width) for x in (query, key, value)]
        logits = torch.bmm(by_sample[0], by_sample[1].transpose(1, 2))
        weights = (logits * self.scale).masked_fill(self.diagonal, -torch.inf).softmax(-1)
        attended = torch.bmm(weights, by_sample[2]).view(batch, heads, n, width)
        both = logits.masked_fill(self.diagonal, 0.0), weights
        square = [x.view(batch, heads, n, n).permute(2, 3, 0, 1) for x in both]
        return square[0], square[1], attended.permute(2, 0, 1, 3).reshape(n, batch, -1)

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1))

    def alternatives(self, trace: Trace, action: Tensor, encoding: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of every agent for every other action, ``[n, A − 1, B, K, H/K]`` each.

        ``encoding`` [n, A, A] holds in row u how one-hot(u) is fed to the critic.
        """
        table = self.encode_action(encoding)
        encoded = leaky_relu(trace.obs_part[:, None] + not_taken(table[:, :, None], action))
        return self._split(self.key(encoded)), self._split(leaky_relu(self.value(encoded)))

    def effect_of(
        self,
        trace: Trace,
        actual: Tensor,
        action: Tensor,
        policy: Tensor,
        others: Tensor,
        remaining: Tensor,
        keys: Tensor,
        values: Tensor,
    ) -> Tensor:
        """|Q_i(a\\j) − Q_i(a)| ``[n, B]`` with j = ``others[i]``.

        The average over the agents that remain is taken once, and each new key and value enters it
        with the sigmoid of its logit against theirs. The head's last layer is linear, so that the
        mean over actions is taken before it. The action taken has no part in the difference.
        """
        scaled = (trace.logits * self.scale).masked_fill(~remaining[:, :, None, None], -torch.inf)
        total = scaled.logsumexp(1)
        kept = ((scaled - total[:, None]).exp()[..., None] * trace.value[None]).sum(1)[:, None]
        gap = (trace.query[:, None] * keys[others]).sum(-1) * self.scale - total[:, None]
        attended = kept + gap.sigmoid()[..., None] * (values[others] - kept)
        n, actions, batch = gap.shape[:3]
        hidden = self.head_attended(attended.view(n, actions * batch, -1)).view(
            n, actions, batch, -1
        )
        hidden = leaky_relu(hidden + trace.state_part[:, None])
        chance, total = others_chances(policy[others], action[others])
        mean = (hidden * chance[..., None]).sum(1)
        return total * (select(self.head_out(mean), action) - actual).abs()

    def effects(self, trace: Trace, action: Tensor, policy: Tensor, encoding: Tensor) -> Tensor:
        """Every pair's effect ``[n, n, B]``, zero diagonal; for three or more agents.

        One opponent of every agent at a time: all pairs at once would not stay in a cache.
        """
        keys, values = self.alternatives(trace, action, encoding)
        actual = select(trace.q, action)
        pairs = [
            self.effect_of(
                trace, actual, action, policy, self.others[k], self.remaining[k], keys, values
            )
            for k in range(len(self.others))
        ]
        return to_square(torch.stack(pairs, dim=1))


class TRDNet(nn.Module):
    """x ``[n, B, O]``, action ``[n, B, A]``, log δ ``[n]``, C ``[n, n, B]`` -> KL_i ``[n, B]``."""

    def __init__(self, obs_sizes: Sequence[int], num_actions: int, hidden: int):
        super().__init__()
        n = len(obs_sizes)
        pair = [size + num_actions for size in obs_sizes]
        self.encode_obs = Dense(n, max(obs_sizes), hidden, pair)
        self.encode_action = Dense(n, num_actions, hidden, pair, bias=False)
        self.node = Shared(hidden, hidden, 2 * hidden)
        self.delta = Shared(1, hidden, 2 * hidden, bias=False)
        self.convolution = Shared(hidden, hidden)
        self.kl_node = Shared(hidden, hidden, 2 * hidden)
        self.kl_graph = Shared(hidden, hidden, 2 * hidden, bias=False)
        self.kl_out = Shared(hidden, 1)
        nn.init.zeros_(self.delta.kernel)
        self.register_buffer("loops", torch.eye(n)[:, :, None], persistent=False)

    def forward(self, x: Tensor, action: Tensor, log_delta: Tensor, weights: Tensor) -> Tensor:
        encoded = leaky_relu(self.encode_action(action, self.encode_obs(x)))
        by_delta = log_delta[:, None, None] * self.delta.kernel
        node = leaky_relu(self.node(encoded) + by_delta)
        degree = (1.0 + weights.sum(1)).rsqrt()
        edges = (weights + self.loops) * degree[:, None] * degree[None]
        hop = leaky_relu((edges[..., None] * self.convolution(node)[None]).sum(1))
        joint = leaky_relu(self.kl_node(node) + self.kl_graph(hop))
        return squareplus(self.kl_out(joint)[..., 0])


def agent_norms(gradient: Sequence[Tensor], num_agents: int) -> Tensor:
    """Global norm of each agent's share: ``[n]``."""
    norms = [torch.linalg.vector_norm(leaf.flatten(1), dim=1) for leaf in gradient]
    return torch.linalg.vector_norm(torch.stack(norms), dim=0)


def agent_scale(gradient: Sequence[Tensor], factor: Tensor) -> None:
    """Multiplies each agent's share by its factor ``[n]``, in place."""
    for leaf in gradient:
        leaf.mul_(factor.view(-1, *(1,) * (leaf.ndim - 1)))


def agent_inner(left: Sequence[Tensor], right: Sequence[Tensor], num_agents: int) -> Tensor:
    """Inner products within each agent ``[n]``."""
    products = torch._foreach_mul(left, right)
    return torch.stack([leaf.flatten(1).sum(1) for leaf in products]).sum(0)
