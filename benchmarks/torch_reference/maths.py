"""Losses, divergences, coordination and the value term, on tensors ``[n, B, ...]``.

Written from the equations, apart from the JAX code that it is compared with. No parameters, no
loops over samples or agents, no copies to the host.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

LEAK = 0.01
NORM_EPS = 1e-5
NORM_MOMENTUM = 0.9
ADAM_B2 = 0.999


class Batch(NamedTuple):
    """Transitions as a replay hands them over, ``[B, n, ...]``; all agents are alive."""

    obs: Tensor
    """[B, n, O], padded with zeros to the widest agent."""
    action: Tensor
    """int64 [B, n]."""
    reward: Tensor
    """[B, n], raw."""
    next_obs: Tensor
    """[B, n, O]."""
    terminated: Tensor
    """bool [B, n]."""
    reward_mean: Tensor
    """[n]."""
    reward_std: Tensor
    """[n]."""


class Rollout(NamedTuple):
    """What an on-policy update learns from, in order; all agents are alive."""

    obs: Tensor
    """[T, E, n, O], padded with zeros to the widest agent."""
    action: Tensor
    """int64 [T, E, n]."""
    reward: Tensor
    """[T, E, n], raw."""
    next_obs: Tensor
    """[T, E, n, O]: true successors."""
    terminated: Tensor
    """bool [T, E, n]: nothing follows."""
    finished: Tensor
    """bool [T, E]: what follows is another episode."""


class Noise(NamedTuple):
    """The random numbers of one update."""

    target: Tensor
    """[n, B, A] Gumbel, for the target policies' actions."""
    action: Tensor
    """[n, B, A] Gumbel, for the policies' actions."""
    offset: Tensor
    """[n] standard normal, for log δ."""


def gumbel(like: Tensor) -> Tensor:
    """Standard Gumbel noise of the same shape, type and device."""
    return torch.empty_like(like).exponential_().log_().neg_()


def leaky_relu(x: Tensor) -> Tensor:
    """LeakyReLU with slope 0.01."""
    return F.leaky_relu(x, LEAK)


def opponents(num_agents: int) -> list[list[int]]:
    """Row i: the other agents, from i + 1 on, around the circle."""
    return [[(i + k) % num_agents for k in range(1, num_agents)] for i in range(num_agents)]


def to_square(pairs: Tensor) -> Tensor:
    """``[n, n − 1, ...]`` ordered as :func:`opponents` -> ``[n, n, ...]`` with a zero diagonal."""
    num_agents = pairs.shape[0]
    rows = torch.arange(num_agents, device=pairs.device)
    position = (rows - rows[:, None]) % num_agents
    padded = torch.cat((torch.zeros_like(pairs[:, :1]), pairs), dim=1)
    return padded[rows[:, None], position]


def batch_norm(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``[n, B, I]`` normalised with the batch's own mean and biased variance; these ``[n, I]``."""
    var, mean = torch.var_mean(x, dim=1, correction=0)
    return apply_norm(mean, var, x), mean, var


def apply_norm(mean: Tensor, var: Tensor, x: Tensor) -> Tensor:
    """(x − mean)/√(var + eps) for ``[n, B, I]``."""
    return (x - mean[:, None]) * torch.rsqrt(var[:, None] + NORM_EPS)


def one_hot(action: Tensor, num_actions: int, dtype: torch.dtype) -> Tensor:
    """``[...] -> [..., A]``."""
    return F.one_hot(action, num_actions).to(dtype)


def select(values: Tensor, action: Tensor) -> Tensor:
    """``[..., A], [...] -> [...]``."""
    return values.gather(-1, action[..., None]).squeeze(-1)


def not_taken(values: Tensor, action: Tensor) -> Tensor:
    """Those of the other actions, in order: ``[..., A, B, *], [..., B] -> [..., A − 1, B, *]``."""
    axis = action.ndim - 1
    size = values.shape[axis] - 1
    number = torch.arange(size, device=action.device)[:, None]
    below = action.unsqueeze(axis) > number
    below = below.reshape(below.shape + (1,) * (values.ndim - below.ndim))
    return torch.where(below, values.narrow(axis, 0, size), values.narrow(axis, 1, size))


def others_chances(policy: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Chances ``[..., A − 1, B]`` of the actions not taken, given that it is one; and of that."""
    chance = not_taken(policy.transpose(-1, -2), action)
    total = chance.sum(-2)
    return chance / total.clamp_min(1e-30).unsqueeze(-2), total


def td_target(
    reward: Tensor, terminated: Tensor, next_q: Tensor, next_log_prob: Tensor, h: Any
) -> Tensor:
    """y = r + γ (1 − terminated)(Q̄ − α log π̄), all ``[n, B]`` (Eq. 9)."""
    soft = next_q - next_log_prob / h.soft_reward_scale
    return reward + h.discount * torch.where(terminated, torch.zeros_like(soft), soft)


def attention_penalty(logits: Tensor) -> Tensor:
    """1e-3 Σ_heads mean(logit²), of ``[n, n − 1 or n, B, K]`` with a zero diagonal -> ``[n]``."""
    num_agents, _, batch, _ = logits.shape
    return 1e-3 * logits.square().sum((1, 2, 3)) / (batch * max(num_agents - 1, 1))


def attention_entropy(weights: Tensor) -> Tensor:
    """Mean entropy of each agent's attention in each head: ``[n, ., B, K] -> [n, K]``."""
    return torch.special.entr(weights).sum(1).mean(1)


def advantage(q: Tensor, log_policy: Tensor, action: Tensor) -> Tensor:
    """Q(a) − Σ_u π(u) Q(u): ``[n, B, A] x2, [n, B] -> [n, B]``."""
    return select(q, action) - (log_policy.exp() * q).sum(-1)


def tsallis_divergence(log_p: Tensor, log_old: Tensor, q: float) -> Tensor:
    """log_q p − log_q p_old, with log_q x = (x^{1−q} − 1)/(1 − q)."""
    if q == 1.0:
        return log_p - log_old
    return (torch.expm1((1 - q) * log_p) - torch.expm1((1 - q) * log_old)) / (1 - q)


def categorical_kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    """KL[p ‖ q] over the last axis."""
    return (log_p.exp() * (log_p - log_q)).sum(-1)


def entropy(log_p: Tensor) -> Tensor:
    """Entropy over the last axis, nats."""
    return -(log_p.exp() * log_p).sum(-1)


def switching_cost(shift: Tensor) -> Tensor:
    """max_b Σ_{j≠i} KL_j(b): ``[n, B] -> [n]`` (Definition 2)."""
    return (shift.sum(0, keepdim=True) - shift).amax(1)


def coordination(effect: Tensor, h: Any) -> Tensor:
    """C ``[n, n, B]`` of the effects |Q_i(a\\j) − Q_i(a)| ``[n, n, B]``, zero diagonal (Eq. 5)."""
    num_agents, _, batch = effect.shape
    if h.coordination_units == "relative":
        mean = effect.sum() / (batch * num_agents * (num_agents - 1))
        effect = effect / mean.clamp_min(torch.finfo(effect.dtype).tiny)
    diagonal = torch.eye(num_agents, dtype=torch.bool, device=effect.device)[:, :, None]
    soft = effect.masked_fill(diagonal, -torch.inf).softmax(1)
    return torch.where(soft >= h.coordination_threshold, soft, torch.zeros_like(soft))


def nonstationarity(divergence: Tensor, weights: Tensor, maximum: float) -> Tensor:
    """D ``[n, B]``: the weighted sum of ``[n, n, B]`` divergences, clipped (Eq. 6)."""
    return (weights * divergence).sum(1).clamp(0.0, maximum)


def modelling_losses(logits: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy and mean square ``[n]`` each: logits ``[n, n − 1, B, A]``, [n, n − 1, B]."""
    cross_entropy = -select(logits.log_softmax(-1), action).mean((1, 2))
    return cross_entropy, logits.square().mean((1, 2, 3))


def trd_loss(predicted: Tensor, drift: Tensor) -> Tensor:
    """E[(Σ_i KL_i − Σ_i D_i)²] of ``[n, B]`` and ``[n, B]`` (Eq. 7)."""
    return (predicted.sum(0) - drift.sum(0)).square().mean()


def squareplus(x: Tensor) -> Tensor:
    """(x + √(x² + 1))/2."""
    return (x + torch.sqrt(x.square() + 1.0)) / 2


def clip_factor(norm: Tensor, limit: float) -> Tensor:
    """What a gradient of this norm is multiplied by: min(1, limit/norm)."""
    return (limit / norm.clamp_min(1e-30)).clamp_max(1.0)


def delta_ascent(by_value: Tensor, slope: Tensor, log_delta: Tensor, limit: float) -> Tensor:
    """The gradient of F in log δ (Eq. 8), ``[n]``.

    Args:
      by_value: ∂V_i/∂log δ_i at the explored δ.
      slope: ∂ΣKL/∂log δ likewise.
      log_delta: log δ without its offset.
      limit: soft limit on Σδ.
    """
    delta = log_delta.exp()
    return by_value - slope - delta * (delta.sum() > limit)


def relative(values: Tensor) -> Tensor:
    """``[n]`` over the mean of their absolute values."""
    return values / values.abs().mean().clamp_min(1e-12)


def budgeted(log_delta: Tensor, share: Tensor, kl: Tensor, hyper: Any) -> Tensor:
    """log δ after a step towards the budget of KL, with agents apart by their bounded share.

    Args:
      log_delta: ``[n]``, before.
      share: ``[n]``, after its own step.
      kl: KL[π_i ‖ π_i_old] ``[n]``.
      hyper: settings.
    """
    low, high = math.log(hyper.delta_min), math.log(hyper.delta_max)
    left = (1.0 - kl.mean() / hyper.kl_budget).clamp(-1.0, 1.0)
    level = (log_delta.mean() + hyper.width_rate * left).clamp(low, high)
    apart = (share - share.mean()).clamp(-hyper.share_limit, hyper.share_limit)
    return (level + apart - apart.mean()).clamp(low, high)


def generalised_advantages(
    reward: Tensor,
    value: Tensor,
    bootstrap: Tensor,
    terminated: Tensor,
    cut: Tensor,
    h: Any,
) -> Tensor:
    """Generalised advantages ``[n, T, E]`` as differences: the λ-returns minus the values.

    G_t = r_t + γ((1 − λ) V_{t+1} + λ G_{t+1}); where a trajectory is cut (``[T, E]``, and at the
    end of the rollout) the bracket is the bootstrap, where it terminated 0.
    """
    tail = bootstrap[:, -1]
    returns = []
    for t in reversed(range(reward.shape[1])):
        tail = torch.where(cut[t], bootstrap[:, t], tail).masked_fill(terminated[:, t], 0.0)
        returns.append(reward[:, t] + h.discount * tail)
        tail = torch.lerp(value[:, t], returns[-1], h.gae_lambda)
    return torch.stack(returns[::-1], dim=1) - value


def standardise(x: Tensor) -> Tensor:
    """``[n, B]`` in standard deviations from each agent's mean."""
    var, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
    return (x - mean) * torch.rsqrt(var + 1e-8)


def explained_variance(predicted: Tensor, target: Tensor) -> Tensor:
    """1 − Var(target − predicted)/Var(target): ``[n, B] x2 -> [n]``."""
    left, total = ((target - predicted).var(1, correction=0), target.var(1, correction=0))
    return 1.0 - left / total.clamp_min(1e-8)
