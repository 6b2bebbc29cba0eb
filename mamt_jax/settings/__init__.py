"""What a run can be told: small dataclasses, one per part, and the tree that a run is made of.

Structure and numbers lie apart. Structure (sizes, counts of steps, kinds) shapes a program; numbers
(learning rates, limits, clips, periods, …) are its inputs, and changing one compiles nothing. See
:mod:`mamt_jax.settings.fields` for which is which.
"""

from mamt_jax.settings.parts import (
    PPO,
    AttentionNetworks,
    Coordination,
    Deterministic,
    FixedRegion,
    LearnedRegion,
    Learning,
    MirrorDescent,
    Modelling,
    Networks,
    OpponentShaping,
    RegionWidth,
    Replay,
    ReplayModelling,
    Rollout,
    SoftActorCritic,
    TargetNetworks,
)
from mamt_jax.settings.tree import Part, Settings

__all__ = [
    "PPO",
    "AttentionNetworks",
    "Coordination",
    "Deterministic",
    "FixedRegion",
    "LearnedRegion",
    "Learning",
    "OpponentShaping",
    "MirrorDescent",
    "Modelling",
    "Networks",
    "Part",
    "RegionWidth",
    "Replay",
    "ReplayModelling",
    "Rollout",
    "Settings",
    "SoftActorCritic",
    "TargetNetworks",
]
