"""Configuration: frozen dataclasses, validated before anything is traced."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Annotated, Any, Literal, get_args, get_type_hints

import tyro

from mamt_jax.errors import ConfigError, close_to

CoordinationKind = Literal["counterfactual", "released"]
CoordinationUnits = Literal["relative", "raw"]
DeltaObjective = Literal["lookahead", "surrogate", "kl_only"]
Kept = int | Literal["all"]


MOST_EPISODES = 100_000
"""Most episodes per seed that one greedy evaluation plays side by side."""


def check(condition: bool, name: str, value: Any, accepted: str) -> None:
    """Raises ConfigError, naming the setting and what is accepted, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{name} must be {accepted}, got {value!r}.")


@dataclass(frozen=True)
class AlgorithmConfig:
    """Settings of the learning rule (Li et al., ICLR 2022, Table 3 unless said otherwise)."""

    discount: float = 0.99
    """Discount factor γ, in [0, 1)."""
    hidden_size: int = 128
    """Width of every hidden layer."""
    attention_heads: int = 4
    """Attention heads of the critic; they split the hidden width among them."""
    learning_rate: float = 1e-3
    """Adam's step size for policies, critics, modelling policies, TRD-Net and log δ."""
    adam_b1: float = 0.9
    """Adam's first-moment decay."""
    adam_eps: float = 1e-7
    """Adam's denominator constant."""
    critic_weight_decay: float = 1e-3
    """L2 coefficient added to the critic's gradient after clipping (PyTorch's Adam, not AdamW).
    On-policy 0."""
    critic_clip_per_agent: float = 10.0
    """Global-norm clip of the critic's and TRD-Net's gradient, times the number of agents: one
    gradient holds those of all agents' critics."""
    policy_clip: float = 0.5
    """Global-norm clip of each agent's policy gradient. On-policy 10 (Table 6)."""
    logit_regularisation: float = 1e-3
    """Coefficient of mean(logits²) in the policy loss. On-policy 0."""
    critic_regularisation: float = 1.0
    """Factor on the attention-logit penalty 1e-3 · Σ_heads mean(logit²). On-policy 0."""
    soft_reward_scale: float = 100.0
    """1/α, the inverse temperature of the entropy bonus."""
    target_tau: float = 1e-3
    """Soft-update rate of target critic and target policies."""
    old_policy_period: int = 100
    """m: updates between refreshes of the old policies of mirror descent."""
    tsallis_q: float = 0.2
    """Entropic index q of the Tsallis logarithm in the mirror-descent divergence."""
    coordination: CoordinationKind = "counterfactual"
    """Where C_ij comes from: Eq. 5, or as in the authors' released code, a softmax over i of
    |Q_i(a) − V_j(o, a)| at actions drawn from the current policies."""
    coordination_threshold: float | None = None
    """σ of Eq. 5: smaller coordination coefficients are set to zero; by default 0.2, and 0.05 with
    the released code's coordination."""
    coordination_units: CoordinationUnits | None = None
    """Scale of the scores in Eq. 5's softmax: in units of their batch mean ("relative", the default
    for counterfactual coordination), or as they are ("raw", as in the paper and, always, in the
    released code)."""
    nonstationarity_max: float = 100.0
    """Upper end of the projection Π_ns (Eq. 6)."""
    modelling_clip: float = 0.5
    """Global-norm clip of each agent's modelling-policy gradient."""
    modelling_regularisation: float = 1e-3
    """Coefficient of mean(logits²) in the modelling-policy loss."""
    modelling_recent: int = 0
    """Train modelling policies on the newest this many transitions; 0 means the whole replay."""
    delta_objective: DeltaObjective = "lookahead"
    """How V depends on δ in Eq. 8: through the next policy step, a surrogate, or not at all."""
    delta_init: float = 1.0
    """Initial local trust region δ_i."""
    delta_total_per_agent: float = 20.0
    """Soft limit δ on Σ_i δ_i, divided by the number of agents. On-policy 1, which is what
    PPO's own clip ranges add up to."""
    delta_fixed: float = 1.0
    """MAMD's δ_i = δ/n, the same for every agent (Eq. 4)."""
    delta_min: float = 0.01
    """Lower clip of δ_i."""
    delta_max: float = 100.0
    """Upper clip of δ_i."""
    delta_exploration: float = 0.5
    """Standard deviation of the random offset on log δ_i, drawn afresh in every update; ours, 0 is
    the paper's."""
    delta_period: int = 2
    """Updates per slow step on δ (Eq. 8)."""
    theta_steps: int = 1
    """Fast steps on TRD-Net per update (Eq. 8)."""
    trd_tau: float = 1e-3
    """Soft-update rate of the TRD-Net whose slope δ follows; ours, 1 (the newest parameters) is the
    paper's."""
    trd_monotone: bool = False
    """Constrain TRD-Net's prediction to be non-decreasing in every δ_i."""
    maddpg_tau: float = 0.01
    """MADDPG's soft-update rate of target critics and target policies (Lowe et al. 2017)."""
    gumbel_temperature: float = 1.0
    """MADDPG's temperature of the Gumbel-softmax through which policies learn."""
    lola_step: float = 1.0
    """LOLA's η: length of the opponent's gradient step that an agent looks ahead to."""
    lola_temperature: float = 1.0
    """LOLA's temperature of the softmax that makes a policy of a network's outputs."""
    gae_lambda: float = 0.95
    """On-policy: decay λ of generalised advantage estimation (Table 6)."""
    ppo_clip: float = 0.2
    """On-policy: PPO's clip range ε of probability ratios, where δ_i = 1 if regions are learned."""
    ppo_epochs: int = 10
    """On-policy: passes through every rollout."""
    ppo_minibatches: int = 8
    """On-policy: minibatches that every pass divides the rollout into."""
    ppo_entropy: float = 0.01
    """On-policy: coefficient of the entropy bonus."""
    huber_delta: float = 10.0
    """On-policy: where the value loss turns from quadratic to linear, in normalised returns
    (Table 6)."""

    def __post_init__(self) -> None:
        _check_types(self)
        self._check_coordination()
        positive = (
            "hidden_size",
            "attention_heads",
            "learning_rate",
            "adam_eps",
            "critic_clip_per_agent",
            "policy_clip",
            "modelling_clip",
            "soft_reward_scale",
            "old_policy_period",
            "nonstationarity_max",
            "delta_total_per_agent",
            "delta_min",
            "delta_max",
            "delta_period",
            "theta_steps",
            "gumbel_temperature",
            "lola_temperature",
            "ppo_clip",
            "ppo_epochs",
            "ppo_minibatches",
            "huber_delta",
        )
        for name in positive:
            check(getattr(self, name) > 0, name, getattr(self, name), "greater than 0")
        for name in (
            "critic_weight_decay",
            "logit_regularisation",
            "critic_regularisation",
            "modelling_regularisation",
            "modelling_recent",
            "delta_exploration",
            "lola_step",
            "ppo_entropy",
        ):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or greater")
        check(0 <= self.discount < 1, "discount", self.discount, "in [0, 1)")
        check(0 <= self.adam_b1 < 1, "adam_b1", self.adam_b1, "in [0, 1)")
        check(0 <= self.tsallis_q < 2, "tsallis_q", self.tsallis_q, "in [0, 2)")
        check(0 <= self.gae_lambda <= 1, "gae_lambda", self.gae_lambda, "in [0, 1]")
        for name in ("target_tau", "trd_tau", "maddpg_tau"):
            check(0 < getattr(self, name) <= 1, name, getattr(self, name), "in (0, 1]")
        check(
            self.hidden_size % self.attention_heads == 0,
            "hidden_size",
            self.hidden_size,
            f"a multiple of attention_heads ({self.attention_heads})",
        )
        accepted = f"between delta_min and delta_max ([{self.delta_min}, {self.delta_max}])"
        for name in ("delta_init", "delta_fixed"):
            delta = getattr(self, name)
            check(self.delta_min <= delta <= self.delta_max, name, delta, accepted)

    @property
    def coordination_scale(self) -> tuple[float, CoordinationUnits]:
        """σ and the scores' units; where they are left open, those of the kind of coordination."""
        released = self.coordination == "released"
        threshold, units = self.coordination_threshold, self.coordination_units
        if threshold is None:
            threshold = 0.05 if released else 0.2
        return threshold, units or ("raw" if released else "relative")

    def settled(self) -> AlgorithmConfig:
        """The same with nothing left open, for a run to record."""
        threshold, units = self.coordination_scale
        return dataclasses.replace(self, coordination_threshold=threshold, coordination_units=units)

    def _check_coordination(self) -> None:
        threshold, units = self.coordination_scale
        check(0 <= threshold < 1, "coordination_threshold", threshold, "in [0, 1)")
        fits = self.coordination != "released" or units == "raw"
        check(fits, "coordination_units", units, "'raw' where coordination is 'released'")


_ON_POLICY = {
    "policy_clip": 10.0,
    "logit_regularisation": 0.0,
    "critic_weight_decay": 0.0,
    "critic_regularisation": 0.0,
}
OWN_DEFAULTS: dict[str, dict[str, Any]] = {
    "mappo": _ON_POLICY,
    "mamt_ppo": _ON_POLICY | {"delta_total_per_agent": 1.0},
}
"""By algorithm: the defaults in which it differs from :class:`AlgorithmConfig` (Table 6)."""


def default_settings(algorithm: str, **options: Any) -> AlgorithmConfig:
    """Settings of an algorithm: those given, and its own defaults for the rest."""
    return AlgorithmConfig(**OWN_DEFAULTS.get(algorithm, {}) | options)


@dataclass(frozen=True)
class TrainConfig:
    """Everything that defines a run. Written to ``config.json`` of the run directory."""

    algorithm: str = "mamt"
    """Registered algorithm, see ``mamt list``."""
    env: str = "spread"
    """Registered environment, see ``mamt list``."""
    env_options: dict[str, Any] = field(default_factory=dict)
    """Keyword options of the environment."""
    seeds: int = 8
    """Number of independent seeds trained together."""
    seed: int = 0
    """First seed: the run trains seeds seed, seed + 1, …, seed + seeds − 1."""
    episodes: int = 10_000
    """Training episodes of full length per seed, rounded up to whole logging points."""
    num_envs: int = 12
    """Parallel environments per seed."""
    steps_per_update: int = 100
    """Transitions, counted over all parallel environments, between update events."""
    updates_per_event: int = 4
    """Updates in every update event."""
    batch_size: int = 1024
    """Transitions per update."""
    buffer_size: int = 1_000_000
    """Replay capacity in transitions per seed (less is allocated where a run is shorter)."""
    rollout_size: int = 4096
    """Transitions per rollout of an on-policy algorithm (Table 6), counted over all parallel
    environments and rounded up to whole steps. It stands in the place of batch_size, buffer_size,
    steps_per_update and updates_per_event, which belong to algorithms with a replay."""
    log_interval: int = 0
    """Episodes per logging point, rounded up to whole collection periods; 0 means as many as make
    about 1500 transitions (60 episodes of Spread)."""
    checkpoint_interval: int = 10
    """Logging points between checkpoints."""
    keep_checkpoints: Kept = 5
    """Checkpoints that are kept, or "all": the newest two, from which a run can go on, and of
    earlier ones the policies, about evenly spaced over training, the first included."""
    evaluation_interval: int = 10
    """Logging points between evaluations of the greedy policies; 0 means none while training."""
    evaluation_episodes: int = 10
    """Episodes per evaluation and seed."""
    seed_batch: int = 0
    """Seeds computed side by side; 0 means 1 on CPU and all on an accelerator."""
    env_workers: int = 0
    """Processes that step an environment on the host; 0 means one per core. Environments in JAX
    need none."""
    env_timeout: float = 120.0
    """Seconds that one environment on the host may take for one thing (to open, reset or step)
    before it counts as hanging."""
    hyper: Annotated[AlgorithmConfig, tyro.conf.arg(name="")] = None  # type: ignore[assignment]
    """Settings of the learning rule; the algorithm's own defaults where none are given."""

    def __post_init__(self) -> None:
        _check_types(self)
        if self.hyper is None:
            object.__setattr__(self, "hyper", default_settings(self.algorithm))
        for name in (
            "seeds",
            "episodes",
            "num_envs",
            "steps_per_update",
            "updates_per_event",
            "buffer_size",
            "rollout_size",
            "checkpoint_interval",
            "evaluation_episodes",
            "env_timeout",
        ):
            check(getattr(self, name) > 0, name, getattr(self, name), "greater than 0")
        for name in ("seed", "seed_batch", "log_interval", "evaluation_interval", "env_workers"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or greater")
        check(
            self.evaluation_episodes <= MOST_EPISODES,
            "evaluation_episodes",
            self.evaluation_episodes,
            f"at most {MOST_EPISODES}",
        )
        kept = self.keep_checkpoints
        check(kept == "all" or int(kept) >= 2, "keep_checkpoints", kept, '2 or greater, or "all"')
        options = self.env_options
        named = isinstance(options, dict) and all(isinstance(name, str) for name in options)
        check(named, "env_options", options, "a dict from names to values")
        end = self.seed + self.seeds
        check(end < 2**31, "seed + seeds", end, "at most 2**31 - 1")
        # Batch normalisation needs a variance.
        check(self.batch_size >= 2, "batch_size", self.batch_size, "2 or greater")
        fewest = 2 * self.hyper.ppo_minibatches
        accepted = f"at least 2 for each of {self.hyper.ppo_minibatches} ppo_minibatches"
        check(self.rollout_size >= fewest, "rollout_size", self.rollout_size, accepted)
        check(
            self.batch_size <= self.buffer_size,
            "batch_size",
            self.batch_size,
            f"at most buffer_size ({self.buffer_size})",
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain nested dict, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Inverse of :meth:`to_dict`; unknown names raise :class:`ConfigError`."""
        return make_config(**values)


EXECUTION = ("checkpoint_interval", "keep_checkpoints", "seed_batch", "env_workers", "env_timeout")
"""Settings of how a run is carried out. They may change when it is resumed: what it computes stays
the same (to rounding, where ``seed_batch`` changes)."""


def make_config(**options: Any) -> TrainConfig:
    """Builds a config from flat keywords: run settings, or any field of the learning rule.

    What is left out has the algorithm's own default. ``hyper`` may be a dict of the latter, or an
    AlgorithmConfig, which leaves nothing out.
    """
    run_names = {f.name for f in dataclasses.fields(TrainConfig)}
    hyper_names = {f.name for f in dataclasses.fields(AlgorithmConfig)}
    given = options.pop("hyper", {})
    check(isinstance(given, AlgorithmConfig | dict), "hyper", given, "an AlgorithmConfig or a dict")
    if isinstance(given, AlgorithmConfig):
        hyper = dataclasses.asdict(given)
    else:
        hyper = OWN_DEFAULTS.get(str(options.get("algorithm")), {}) | dict(given)
    run = {}
    for name, value in options.items():
        if name in run_names:
            run[name] = value
        else:
            hyper[name] = value
    for name in hyper:
        if name not in hyper_names:
            accepted = sorted((run_names | hyper_names) - {"hyper"})
            close = close_to(name, accepted)
            raise ConfigError(
                f"Unknown option {name!r}{close}; accepted are {', '.join(accepted)}."
            )
    return TrainConfig(hyper=AlgorithmConfig(**hyper), **run)


def _check_types(config: Any) -> None:
    """Refuses values of the wrong type, so that '8' or 2.5 seeds fail here and not in XLA.

    Numbers become Python's, NumPy's included.
    """
    for name, kind in get_type_hints(type(config)).items():
        value = getattr(config, name)
        if type(None) in get_args(kind):  # None stands for a default that depends on others
            if value is None:
                continue
            kind = get_args(kind)[0]
        if kind == Kept:
            if value == "all":
                continue
            kind = int
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            check(whole, name, value, 'an integer or "all"')
        if get_args(kind) and all(isinstance(a, str) for a in get_args(kind)):
            check(value in get_args(kind), name, value, "one of " + ", ".join(get_args(kind)))
        elif kind is bool:
            check(isinstance(value, bool), name, value, "true or false")
        elif kind is int:
            whole = isinstance(value, Integral) and not isinstance(value, bool)
            check(whole, name, value, "an integer")
            object.__setattr__(config, name, int(value))
        elif kind is float:
            numeric = isinstance(value, Real) and not isinstance(value, bool)
            check(numeric and abs(value) < float("inf"), name, value, "a finite number")
            object.__setattr__(config, name, float(value))
        elif kind is str:
            check(isinstance(value, str), name, value, "a name")
