"""Settings of every part (Li et al., ICLR 2022, Table 3 unless said otherwise)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

from mamt_jax.settings.fields import (
    Accepts,
    BelowOne,
    Count,
    CountOrNone,
    NotNegative,
    Period,
    Positive,
    Rate,
    UpToOne,
    check,
)
from mamt_jax.settings.tree import Part

CoordinationKind = Literal["counterfactual", "released"]
CoordinationUnits = Literal["relative", "raw"]
BatchSize = Annotated[int, Accepts(lambda size: size >= 2, "2 or greater")]
EntropicIndex = Annotated[float, Accepts(lambda q: 0 <= q < 2, "in [0, 2)")]
DeltaObjective = Literal["lookahead", "surrogate", "kl_only"]
DeltaRule = Literal["budget", "penalty"]
DeltaShares = Literal["trd_net", "coordination", "equal"]
Opponents = Literal["all", "one"]


@dataclass(frozen=True)
class Networks(Part):
    """Sizes of networks."""

    group: ClassVar[str] = "networks"

    hidden_size: Count = 128
    """Width of every hidden layer."""


@dataclass(frozen=True)
class AttentionNetworks(Networks):
    """Sizes of networks with attention."""

    attention_heads: Count = 4
    """Attention heads of the critic; they split the hidden width among them."""

    def check(self) -> None:
        """As in :class:`Part`."""
        check(
            self.hidden_size % self.attention_heads == 0,
            "hidden_size",
            self.hidden_size,
            f"a multiple of attention_heads ({self.attention_heads})",
        )


@dataclass(frozen=True)
class Learning(Part):
    """What every algorithm learns with."""

    group: ClassVar[str] = "learning"

    discount: BelowOne = 0.99
    """Discount factor γ, in [0, 1)."""
    learning_rate: Positive = 1e-3
    """Adam's step size, of everything that learns."""
    adam_b1: BelowOne = 0.9
    """Adam's first-moment decay."""
    adam_eps: Positive = 1e-7
    """Adam's denominator constant."""
    critic_weight_decay: NotNegative = 1e-3
    """L2 coefficient added to the critic's gradient after clipping (PyTorch's Adam, not AdamW).
    On-policy 0."""
    critic_clip_per_agent: Positive = 10.0
    """Global-norm clip of the critic's and TRD-Net's gradient, times the number of agents: one
    gradient holds those of all agents' critics."""
    policy_clip: Positive = 0.5
    """Global-norm clip of each agent's policy gradient. On-policy 10 (Table 6)."""
    logit_regularisation: NotNegative = 1e-3
    """Coefficient of mean(logits²) in the policy loss. On-policy 0."""


@dataclass(frozen=True)
class Replay(Part):
    """Learning from a replay."""

    group: ClassVar[str] = "replay"

    steps_per_update: Count = 100
    """Transitions, counted over all parallel environments, between update events."""
    updates_per_event: Count = 4
    """Updates in every update event."""
    batch_size: BatchSize = 1024
    """Transitions per update."""  # batch normalisation needs a variance
    buffer_size: Count = 1_000_000
    """Replay capacity in transitions per seed (less is allocated where a run is shorter)."""

    def check(self) -> None:
        """As in :class:`Part`."""
        accepted = f"at most buffer_size ({self.buffer_size})"
        check(self.batch_size <= self.buffer_size, "batch_size", self.batch_size, accepted)


@dataclass(frozen=True)
class Rollout(Part):
    """Learning from rollouts, on-policy."""

    group: ClassVar[str] = "on-policy"

    rollout_size: Count = 4096
    """Transitions per rollout (Table 6), counted over all parallel environments and rounded up to
    whole steps."""


@dataclass(frozen=True)
class PPO(Rollout):
    """PPO's clipped objective on rollouts (Yu et al. 2021)."""

    gae_lambda: UpToOne = 0.95
    """Decay λ of generalised advantage estimation (Table 6)."""
    ppo_clip: Positive = 0.2
    """Clip range ε of probability ratios, where δ_i = 1 if regions are learned."""
    ppo_epochs: Count = 10
    """Passes through every rollout."""
    ppo_minibatches: Count = 8
    """Minibatches that every pass divides the rollout into."""
    ppo_entropy: NotNegative = 0.01
    """Coefficient of the entropy bonus."""
    huber_delta: Positive = 10.0
    """Where the value loss turns from quadratic to linear, in normalised returns (Table 6)."""

    def check(self) -> None:
        """As in :class:`Part`."""
        accepted = f"at least 2 for each of {self.ppo_minibatches} ppo_minibatches"
        enough = self.rollout_size >= 2 * self.ppo_minibatches
        check(enough, "rollout_size", self.rollout_size, accepted)


@dataclass(frozen=True)
class TargetNetworks(Part):
    """Slow averages of networks."""

    group: ClassVar[str] = "target networks"

    target_tau: Rate = 1e-3
    """Soft-update rate of target critic and target policies."""


@dataclass(frozen=True)
class SoftActorCritic(Part):
    """The attention actor-critic of MAAC, which MAMD and MAMT share."""

    group: ClassVar[str] = "actor-critic"

    soft_reward_scale: Positive = 100.0
    """1/α, the inverse temperature of the entropy bonus."""
    critic_regularisation: NotNegative = 1.0
    """Factor on the attention-logit penalty 1e-3 · Σ_heads mean(logit²)."""
    old_policy_period: Period = 100
    """m: updates between refreshes of the old policies of mirror descent."""


@dataclass(frozen=True)
class MirrorDescent(Part):
    """The divergence of mirror descent (Eq. 10)."""

    group: ClassVar[str] = "mirror descent"

    tsallis_q: EntropicIndex = 0.2
    """Entropic index q of the Tsallis logarithm in the mirror-descent divergence."""


@dataclass(frozen=True)
class FixedRegion(Part):
    """MAMD's trust region."""

    group: ClassVar[str] = "fixed trust region"

    delta_fixed: Positive = 1.0
    """δ_i = δ/n, the same for every agent (Eq. 4)."""


@dataclass(frozen=True)
class Coordination(Part):
    """Coordination coefficients from a critic."""

    group: ClassVar[str] = "coordination"

    coordination: CoordinationKind = "counterfactual"
    """Where C_ij comes from: Eq. 5, or as in the authors' released code, a softmax over i of
    |Q_i(a) − V_j(o, a)| at actions drawn from the current policies."""
    coordination_threshold: BelowOne | None = None
    """σ of Eq. 5: smaller coordination coefficients are set to zero; by default 0.2, and 0.05 with
    the released code's coordination."""
    coordination_units: CoordinationUnits | None = None
    """Scale of the scores in Eq. 5's softmax: in units of their batch mean ("relative", the default
    for counterfactual coordination), or as they are ("raw", as in the paper and, always, in the
    released code)."""

    def check(self) -> None:
        """As in :class:`Part`."""
        units = self.settled_units
        fits = self.coordination != "released" or units == "raw"
        check(fits, "coordination_units", units, "'raw' where coordination is 'released'")

    @property
    def settled_units(self) -> CoordinationUnits:
        """The scores' units, also where they are left open."""
        return self.coordination_units or ("raw" if self.coordination == "released" else "relative")

    def settled(self) -> Coordination:
        """As in :class:`Part`: what is left open goes by the kind of coordination."""
        threshold, units = self.coordination_threshold, self.coordination_units
        if threshold is not None and units is not None:
            return self
        if threshold is None:
            threshold = 0.05 if self.coordination == "released" else 0.2
        return dataclasses.replace(
            self, coordination_threshold=threshold, coordination_units=self.settled_units
        )


@dataclass(frozen=True)
class Modelling(Part):
    """Modelling policies: what each agent expects of the others."""

    group: ClassVar[str] = "modelling policies"

    modelling_clip: Positive = 0.5
    """Global-norm clip of each agent's modelling-policy gradient."""
    modelling_regularisation: NotNegative = 1e-3
    """Coefficient of mean(logits²) in the modelling-policy loss."""
    modelling_opponents: Opponents = "all"
    """Which opponents each sample of a batch trains an agent's modelling policy on: all, or one, an
    unbiased estimate of the same gradient for a fraction of the work."""


@dataclass(frozen=True)
class ReplayModelling(Modelling):
    """Modelling policies that learn from a replay."""

    modelling_recent: CountOrNone = 0
    """Train modelling policies on the newest this many transitions; 0 means the whole replay."""


@dataclass(frozen=True)
class RegionWidth(Part):
    """Trust regions as wide as a budget of local KL allows."""

    group: ClassVar[str] = "learned trust region"

    delta_init: Positive = 1.0
    """Initial local trust region δ_i."""
    delta_min: Positive = 0.01
    """Lower clip of δ_i."""
    delta_max: Positive = 100.0
    """Upper clip of δ_i."""
    delta_period: Period = 2
    """Updates per slow step on δ (Eq. 8)."""
    kl_budget: Positive = 0.1
    """Local KL to the old policy, in nats: mean over agents and over the life of an old policy."""
    width_rate: Positive = 0.01
    """By how much a slow step may change the mean of log δ, to meet the budget."""

    def check(self) -> None:
        """As in :class:`Part`."""
        inside = self.delta_min <= self.delta_init <= self.delta_max
        accepted = f"between delta_min and delta_max ([{self.delta_min}, {self.delta_max}])"
        check(inside, "delta_init", self.delta_init, accepted)


@dataclass(frozen=True)
class LearnedRegion(RegionWidth):
    """MAMT's trust regions: TRD-Net and δ on two timescales (Eq. 5-8)."""

    delta_rule: DeltaRule = "budget"
    """What moves δ: "penalty" is Eq. 8, the paper's; "budget", ours, holds kl_budget with the mean
    of log δ and divides it by delta_shares."""
    delta_shares: DeltaShares = "coordination"
    """How regions differ within the budget: by who depends on an agent (δ_j as 1/Σ_i C_ij), by what
    Eq. 8's two terms say of each agent relative to the others ("trd_net"), or not at all."""
    share_rate: Rate = 2e-3
    """Rate of the slow average of what regions should differ by, per slow step."""
    share_limit: NotNegative = 1.0
    """By how much log δ_i may be off its mean, within the budget."""
    nonstationarity_max: Positive = 100.0
    """Upper end of the projection Π_ns (Eq. 6)."""
    delta_objective: DeltaObjective = "lookahead"
    """How V depends on δ in Eq. 8: through the next policy step, a surrogate, or not at all."""
    delta_total_per_agent: Positive = 20.0
    """Soft limit δ on Σ_i δ_i, divided by the number of agents, of the rule "penalty". On-policy 1,
    which is what PPO's own clip ranges add up to."""
    delta_exploration: NotNegative = 0.5
    """Standard deviation of the random offset on log δ_i, drawn afresh in every update; ours, 0 is
    the paper's."""
    theta_steps: Count = 1
    """Fast steps on TRD-Net per update (Eq. 8)."""
    trd_tau: Rate = 1e-3
    """Soft-update rate of the TRD-Net whose slope δ follows; ours, 1 (the newest parameters) is the
    paper's."""
    region_samples: CountOrNone = 0
    """C, D and TRD-Net are computed on at most this many samples of every batch; 0 means all."""
    trd_monotone: bool = False
    """Constrain TRD-Net's prediction to be non-decreasing in every δ_i."""


@dataclass(frozen=True)
class Deterministic(Part):
    """MADDPG (Lowe et al. 2017)."""

    group: ClassVar[str] = "MADDPG"

    maddpg_tau: Rate = 0.01
    """Soft-update rate of target critics and target policies."""
    gumbel_temperature: Positive = 1.0
    """Temperature of the Gumbel-softmax through which policies learn."""


@dataclass(frozen=True)
class OpponentShaping(Part):
    """LOLA (Foerster et al. 2018a)."""

    group: ClassVar[str] = "LOLA"

    lola_step: NotNegative = 1.0
    """η: length of the opponent's gradient step that an agent looks ahead to."""
    lola_temperature: Positive = 1.0
    """Temperature of the softmax that makes a policy of a network's outputs."""
