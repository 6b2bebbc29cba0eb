# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 4 · Your own environment
#
# Once as pure functions in JAX, and once as a PettingZoo environment: the same game both ways, trained by the same
# algorithm. The PettingZoo half needs `pip install "mamt-jax[pettingzoo]"`.
#
# The game: three agents on a ring of nine cells want to meet. Each sees how far the two others are, and in which
# direction, and is paid minus its mean distance to them.

# %% tags=["parameters"]
seeds = 2
episodes = 480
small = {
    "hidden_size": 32,
    "attention_heads": 2,
    "batch_size": 128,
    "learning_rate": 3e-3,
    "steps_per_update": 24,
    "log_interval": 24,
}

# %%
import sys
import tempfile
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import mamt_jax
from mamt_jax.envs import EnvSpec, TimeStep
from mamt_jax.envs.base import Field

# %% [markdown]
# ## In JAX
#
# A frozen dataclass whose fields are the options, with `spec`, `reset(key)` and `step(key, state, actions)`. The state
# is anything that JAX maps over. `step` never resets, and says whether the episode was `terminated` (nothing follows) or
# `truncated` (cut off, so that the value of what follows counts). `view` is optional: what recordings should keep.


# %%
class State(NamedTuple):
    """Where the agents are, and how many steps were made."""

    cell: jax.Array  # [3] int32
    time: jax.Array  # [] int32


@dataclass(frozen=True)
class Rendezvous:
    """Three agents on a ring want to meet."""

    cells: int = 9
    episode_length: int = 10

    @property
    def spec(self):
        return EnvSpec(
            "rendezvous",
            num_agents=3,
            obs_sizes=(2, 2, 2),
            action_counts=(3, 3, 3),
            episode_length=self.episode_length,
            action_names=(("stay", "left", "right"),) * 3,
        )

    def reset(self, key):
        state = State(jax.random.randint(key, (3,), 0, self.cells), jnp.int32(0))
        return state, self._offsets(state) / self.cells

    def step(self, key, state, actions):
        moved = (state.cell + jnp.array([0, -1, 1])[actions]) % self.cells
        state = State(moved, state.time + 1)
        offsets = self._offsets(state)
        return TimeStep(
            state,
            obs=offsets / self.cells,
            reward=-jnp.abs(offsets).mean(axis=1),
            terminated=jnp.bool_(False),
            truncated=state.time >= self.episode_length,
        )

    def _offsets(self, state):
        """To the two others, the shorter way round: [3, 2]."""
        others = state.cell[jnp.array([[1, 2], [0, 2], [0, 1]])]
        half = self.cells // 2
        return ((others - state.cell[:, None] + half) % self.cells - half).astype(jnp.float32)

    view_fields = {"cell": Field(("agent",), "cell", "where each agent is")}

    def view(self, state):
        return {"cell": state.cell}


# %% [markdown]
# The environment itself is what `train` is given; `mamt_jax.register("rendezvous", Rendezvous)` would make it a name.

# %%
run = mamt_jax.train("maac", Rendezvous(), seeds=seeds, episodes=episodes, **small)
run

# %%
recording = run.episodes(3, seed=0)

figure, panels = plt.subplots(1, 3, figsize=(7.5, 2.8), layout="constrained", sharey=True)
for axes, episode in zip(panels, recording.episode.values, strict=True):
    for number, agent in enumerate(recording.agent.values):
        cell = recording.cell.sel(episode=episode, agent=agent)
        axes.plot(cell.moment, cell + 0.12 * (number - 1), marker=".", label=agent)
    axes.set(xlabel="moment", title=f"episode {episode}")
panels[0].set(ylabel="cell of the ring", ylim=(-0.5, 8.5))
panels[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Each line is an agent (drawn a little apart where they share a cell). They meet within one to four steps. Then they walk
# on together, one way round the ring (from cell 0 to cell 8 is one step): to stay would pay the same, and nothing but learning
# made this their convention.
#
# ## In PettingZoo
#
# Any module with a function `parallel_env` will do: yours, or a package's. Worker processes open copies of it and step
# them, one worker per core; acting and updating stay compiled. The same game in NumPy, in a file of its own:

# %%
folder = tempfile.mkdtemp()
sys.path.append(folder)

# %%
# %%writefile {folder}/rendezvous_zoo.py
import numpy as np
from gymnasium.spaces import Box, Discrete
from pettingzoo import ParallelEnv


class Rendezvous(ParallelEnv):
    metadata = {"name": "rendezvous"}
    possible_agents = ["a", "b", "c"]

    def __init__(self, cells=9, max_cycles=10):
        self.cells, self.max_cycles = cells, max_cycles
        self._observed = {agent: Box(-0.5, 0.5, (2,), np.float32) for agent in "abc"}
        self._actions = {agent: Discrete(3) for agent in "abc"}

    def observation_space(self, agent):
        return self._observed[agent]

    def action_space(self, agent):
        return self._actions[agent]

    def _offsets(self):
        half = self.cells // 2
        others = self.cell[[[1, 2], [0, 2], [0, 1]]]
        return (others - self.cell[:, None] + half) % self.cells - half

    def _each(self, rows):
        return dict(zip(self.possible_agents, rows, strict=True))

    def reset(self, seed=None, options=None):
        self.agents = list(self.possible_agents)
        self.cell, self.time = np.random.default_rng(seed).integers(self.cells, size=3), 0
        return self._each((self._offsets() / self.cells).astype(np.float32)), self._each([{}] * 3)

    def step(self, actions):
        moves = [(0, -1, 1)[actions[agent]] for agent in self.agents]
        self.cell, self.time = (self.cell + moves) % self.cells, self.time + 1
        offsets, over = self._offsets(), self.time >= self.max_cycles
        obs = self._each((offsets / self.cells).astype(np.float32))
        reward = self._each(-np.abs(offsets).mean(axis=1))
        if over:
            self.agents = []
        ends = self._each([False] * 3), self._each([over] * 3)
        return obs, reward, *ends, self._each([{}] * 3)


def parallel_env(**options):
    return Rendezvous(**options)


# %%
options = {"module": "rendezvous_zoo", "agents_may_leave": False}
zoo = mamt_jax.train(
    "maac", "pettingzoo", env_options=options, seeds=seeds, episodes=episodes, **small
)
zoo

# %%
figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
for name, one, color in (("JAX", run, "C0"), ("PettingZoo", zoo, "C1")):
    returns = one.metrics.return_mean
    axes.plot(returns.episode, returns.T, color=color, alpha=0.35, linewidth=1)
    axes.plot(returns.episode, returns.mean("seed"), color=color, linewidth=2.5, label=name)
axes.set(
    xlabel="episodes", ylabel="return per episode (mean over agents)", title="The same game twice"
)
axes.legend(frameon=False)

for name, one in (("JAX", run), ("PettingZoo", zoo)):
    greedy = one.evaluate(episodes=100)
    print(f"{name}: greedy return {greedy.mean():.2f}, by seed {np.round(greedy.mean(axis=1), 2)}")
plt.show()

# %% [markdown]
# Random agents get about −22. Both versions learn at the same pace, within the spread of two seeds, and end near −2: most
# of that is the way to the meeting. The randomness differs (NumPy draws the starts of one, JAX those of the other), so the
# curves cannot be the same.
#
# ## The other way round
#
# What was learned in one acts in the other: the policies of the JAX run, seed 0, in the PettingZoo environment, where they are
# worth what they were worth in JAX. And `to_pettingzoo` makes a ParallelEnv of any JAX environment, for other libraries.

# %%
from rendezvous_zoo import parallel_env

env, total = parallel_env(), []
for episode in range(100):
    obs, _ = env.reset(seed=episode)
    while env.agents:
        actions = run.policies.act(np.stack(list(obs.values())), seed=0)
        obs, reward, *_ = env.step(dict(zip(env.agents, actions, strict=True)))
        total.append(np.mean(list(reward.values())))
print(f"the JAX run's policies in PettingZoo: {np.sum(total) / 100:.2f} per episode")

# %%
parallel = mamt_jax.envs.to_pettingzoo(Rendezvous())
obs, _ = parallel.reset(seed=0)
print({agent: seen.round(2) for agent, seen in obs.items()})
