"""Our environments as PettingZoo environments.

Example::

    env = envs.to_pettingzoo(envs.make("pursuit"), render_mode="rgb_array")
    observations, infos = env.reset(seed=0)
    while env.agents:
        actions = {agent: env.action_space(agent).sample() for agent in env.agents}
        observations, rewards, terminations, truncations, infos = env.step(actions)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mamt_jax.envs.base import Environment
from mamt_jax.envs.hosted import HostEnvironment

if TYPE_CHECKING:
    from mamt_jax.envs.outbound_env import OutboundEnv


def to_pettingzoo(env: Environment, render_mode: str | None = None) -> OutboundEnv:
    """Wraps an environment as a `pettingzoo.ParallelEnv` with agents agent_0, agent_1, ...

    Equal environments share their compiled reset and step.

    Args:
      env: any of ours.
      render_mode: "rgb_array" if `render` is to return pictures, None if it is not to be called.

    Raises:
      ImportError: PettingZoo is not installed.
      ValueError: another `render_mode`, an environment that cannot be drawn, or one that is of
        PettingZoo already.
    """
    if isinstance(env, HostEnvironment):
        raise ValueError(
            f"{env.spec.name} is a PettingZoo environment already: parallel_env() opens it."
        )
    try:
        import pettingzoo  # noqa: F401 - optional: only a sentence if it is missing
    except ImportError as error:
        raise ImportError(
            'to_pettingzoo needs PettingZoo; install it with pip install "mamt-jax[pettingzoo]".'
        ) from error
    from mamt_jax.envs.outbound_env import OutboundEnv

    return OutboundEnv(env, render_mode)
