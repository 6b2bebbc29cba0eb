"""What both Multi-Walkers share, the one in JAX and the one on the host: options and actions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mamt_jax.envs.base import check_at_least, check_flag, check_number

NUM_JOINTS = 4
TORQUE_STEP = 0.2


def torques(actions: Any, previous: Any) -> Any:
    """Next torques [..., 4] after discrete `actions` [...] in 0..15; of NumPy or of JAX.

    Bit b of an action moves the torque of joint b up or down by 0.2 from the previous torque; the
    result is clipped to [-1, 1].
    """
    bits = (actions[..., None] >> np.arange(NUM_JOINTS, dtype=np.int32)) & 1
    moved = previous + TORQUE_STEP * (2 * bits - 1)
    return moved.clip(-1.0, 1.0).astype(np.float32)


@dataclass(frozen=True)
class Walkers:
    """Options of `multiwalker_v9`, with its defaults.

    Attributes:
      max_cycles: steps until truncation.
      n_walkers: number of walkers n, the agents.
      position_noise: standard deviation of the noise on observed places of others, in lengths of
        the package.
      angle_noise: of the noise on its angle, in rad.
      forward_reward: for each 30/130 units that the package moves forward.
      terminate_reward: to all when the package falls, or with `terminate_on_fall` a walker; without
        it to each that has fallen, in every step.
      fall_reward: to each walker that has fallen, in every step.
      shared_reward: everyone gets the mean reward.
      terminate_on_fall: the first fall ends the episode; otherwise who falls is out of it.
      remove_on_fall: a walker that is out vanishes; otherwise its body stays.
      terrain_length: number of points of the ground, 14/30 apart.
    """

    name: ClassVar[str]

    max_cycles: int = 500
    n_walkers: int = 3
    position_noise: float = 1e-3
    angle_noise: float = 1e-3
    forward_reward: float = 1.0
    terminate_reward: float = -100.0
    fall_reward: float = -10.0
    shared_reward: bool = True
    terminate_on_fall: bool = True
    remove_on_fall: bool = True
    terrain_length: int = 200

    def __post_init__(self) -> None:
        check_at_least(self.name, "max_cycles", self.max_cycles, 1)
        check_at_least(self.name, "n_walkers", self.n_walkers, 2)
        check_at_least(self.name, "terrain_length", self.terrain_length, 1)
        for option in ("position_noise", "angle_noise"):
            check_number(self.name, option, getattr(self, option))
            if getattr(self, option) < 0:
                raise ValueError(f"{self.name}: {option} must be 0 or greater.")
        for option in ("forward_reward", "terminate_reward", "fall_reward"):
            check_number(self.name, option, getattr(self, option))
        for option in ("shared_reward", "terminate_on_fall", "remove_on_fall"):
            check_flag(self.name, option, getattr(self, option))
