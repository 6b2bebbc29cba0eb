"""Everything that an algorithm may report of its updates: dimensions, unit and meaning of each."""

from __future__ import annotations

from typing import NamedTuple


class Quantity(NamedTuple):
    """How one recorded quantity is laid out and read."""

    dims: tuple[str, ...]
    """Dimensions after ``seed`` and ``update``."""
    unit: str
    name: str
    """Short enough for an axis; becomes ``long_name``."""
    description: str


_AGENT, _PAIR = ("agent",), ("agent", "opponent")
_SCALED = "standardised reward"
QUANTITIES: dict[str, Quantity] = {
    "critic_loss": Quantity(
        _AGENT, f"{_SCALED} squared", "critic loss", "mean squared TD error of the critic"
    ),
    "critic_grad_norm": Quantity(
        (), "1", "gradient norm, critic", "global norm of the critic's gradient before clipping"
    ),
    "q_mean": Quantity(_AGENT, _SCALED, "Q(o, a)", "batch mean of Q(o, a)"),
    "attention_entropy": Quantity(
        ("agent", "head"),
        "nat",
        "attention entropy, critic",
        "entropy of the critic's attention over the other agents",
    ),
    "policy_loss": Quantity(_AGENT, "1", "policy loss", "policy objective that is descended"),
    "policy_grad_norm": Quantity(
        _AGENT,
        "1",
        "gradient norm, policy",
        "global norm of the policy's gradient before clipping",
    ),
    "entropy": Quantity(_AGENT, "nat", "policy entropy", "entropy of the policy, batch mean"),
    "clip_fraction": Quantity(
        _AGENT,
        "1",
        "share of samples clipped",
        "share of samples at which PPO's clip binds, mean over all minibatches",
    ),
    "explained_variance": Quantity(
        _AGENT,
        "1",
        "explained variance of returns",
        "share of the returns' variance that the critic had foreseen (on-policy)",
    ),
    "local_kl": Quantity(
        _AGENT, "nat", "local KL to the old policy", "KL of the policy to its old one, batch mean"
    ),
    "switching_cost": Quantity(
        _AGENT,
        "nat",
        "opponent switching cost",
        "opponent switching cost since the last refresh (Definition 2), maximum over the batch",
    ),
    "switching_cost_mean": Quantity(
        (),
        "nat",
        "opponent switching cost, mean",
        "switching cost averaged over agents (δ-stationarity, Definition 3)",
    ),
    "reward_mean": Quantity(
        _AGENT, "reward", "mean reward", "mean reward of the replay's contents, or of the rollout"
    ),
    "reward_std": Quantity(
        _AGENT,
        "reward",
        "standard deviation of the reward",
        "standard deviation of the reward over the replay's contents, or over the rollout",
    ),
    "delta": Quantity(
        _AGENT, "nat", "local trust region δ_i", "local trust region before the random offset"
    ),
    "delta_within_budget": Quantity(
        (), "1", "share of updates with Σδᵢ ≤ δ", "share of updates whose Σ δ_i is at most δ"
    ),
    "coordination_score": Quantity(
        _PAIR, _SCALED, "coordination score", "score in the softmax of Eq. 5, before scaling"
    ),
    "coordination_mean": Quantity(
        _PAIR, "1", "coordination C_ij", "coordination coefficient C_ij (Eq. 5), batch mean"
    ),
    "coordination_var": Quantity(
        _PAIR,
        "1",
        "variance of coordination C_ij",
        "coordination coefficient C_ij (Eq. 5), batch variance",
    ),
    "nonstationarity": Quantity(
        _AGENT, "nat", "non-stationarity D_i,ns", "non-stationarity D_i,ns (Eq. 6), batch mean"
    ),
    "modelling_loss": Quantity(
        _AGENT,
        "nat",
        "modelling loss",
        "cross-entropy of the modelling policies on the replay",
    ),
    "modelling_grad_norm": Quantity(
        _AGENT,
        "1",
        "gradient norm, modelling policy",
        "global norm of the modelling policy's gradient before clipping",
    ),
    "trd_loss": Quantity((), "nat squared", "TRD-Net loss", "loss of TRD-Net (Eq. 7)"),
    "trd_grad_norm": Quantity(
        (), "1", "gradient norm, TRD-Net", "global norm of TRD-Net's gradient before clipping"
    ),
    "trd_kl": Quantity(
        _AGENT, "nat", "local KL, predicted", "local KL predicted by TRD-Net, batch mean"
    ),
    "delta_grad_value": Quantity(
        _AGENT,
        "1",
        "∂V/∂log δ_i",
        "value term of the last slow step on δ (Eq. 8); 0 where δ does not go by it",
    ),
    "delta_grad_kl": Quantity(
        _AGENT,
        "1",
        "∂ΣKL/∂log δ_i",
        "TRD-Net's term of the last slow step on δ (Eq. 8); 0 likewise",
    ),
}
"""Everything an algorithm may report, as means over the updates of a logging point."""
