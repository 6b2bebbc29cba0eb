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
# # 5 · Your own algorithm in a few lines
#
# An algorithm is a function from a `Game` (the sizes of an environment) and `Settings` to an `Algorithm`: pure functions
# `init`, `act`, `greedy` and `update`. Most are compositions of parts. Here are three: parts that are there, combined
# otherwise; a part of your own; and one written from scratch.

# %% tags=["parameters"]
seeds = 4
episodes = 900
small = {"hidden_size": 64, "batch_size": 256, "learning_rate": 1e-3}
quick_episodes = 1200

# %%
from dataclasses import dataclass
from typing import ClassVar

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import mamt_jax
from mamt_jax.algorithms import registry
from mamt_jax.algorithms.actor_critic import actor_critic
from mamt_jax.algorithms.critics import attention_critic
from mamt_jax.algorithms.learner import build_actors
from mamt_jax.algorithms.parts import TrustRegion
from mamt_jax.settings import Part, Rollout
from mamt_jax.settings.tree import compose
from mamt_jax.types import Algorithm

# %% [markdown]
# ## Other parts
#
# MAMD is the attention actor-critic with a fixed trust region. This is the whole of it:


# %%
def my_mamd(game, settings):
    """MAMD, as mamt_jax composes it."""
    from mamt_jax.algorithms.trust_region import fixed_trust_region

    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    return actor_critic("my_mamd", actors, critic, fixed_trust_region(game, settings), settings)


# %% [markdown]
# Put `no_trust_region(game)` there, and it is MAAC; `learned_trust_region(…)`, and it is MAMT. README.md lists the parts.
#
# ## A part of your own
#
# A trust region says which agents have one, how wide it is now, and what it wants recorded. This one begins at `delta_start`
# and doubles every `doubling` updates: tight while the critic knows nothing, loose later. The two numbers are settings of
# our own: a small dataclass, whose fields become keywords of `train` and flags of the command line.


# %%
@dataclass(frozen=True)
class Opening(Part):
    """A trust region that opens."""

    group: ClassVar[str] = "opening region"

    delta_start: float = 0.1
    """δ_i at the start."""
    doubling: float = 150.0
    """Updates in which δ_i doubles."""


def opening_region(game, settings):
    """Its state is the number of updates so far."""
    own = settings[Opening]

    def delta(updates):
        return jnp.full(game.num_agents, own.delta_start * 2.0 ** (updates / own.doubling))

    return TrustRegion(
        constrained=(True,) * game.num_agents,
        init=lambda key: jnp.float32(0),
        delta=delta,
        observe=lambda updates, view: (updates + 1, view, {"delta": delta(updates)}),
    )


def opening(game, settings):
    """Mirror descent in a trust region that opens."""
    actors, critic = build_actors(game, settings), attention_critic(game, settings)
    return actor_critic("opening", actors, critic, opening_region(game, settings), settings)


parts = [part for part in registry.get("mamd").settings.parts if part.group != "fixed trust region"]
recipe = mamt_jax.Recipe(opening, compose(*parts, Opening()), "Mirror descent, δ opens")

# %% [markdown]
# Numbers are inputs of the compiled program. A list of them trains all settings side by side in one program, each a
# run of its own: here a region that opens, and one that stays at 0.1.

# %%
opens, stays = mamt_jax.train(
    recipe, "spread", seeds=seeds, episodes=episodes, doubling=[150.0, 1e9], **small
)
opens

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for name, run, color in (("opens", opens, "C0"), ("stays at 0.1", stays, "C1")):
    returns = run.metrics.return_mean.rolling(update=3, center=True, min_periods=1).mean()
    left.plot(returns.episode, returns.T, color=color, alpha=0.35, linewidth=1)
    left.plot(returns.episode, returns.mean("seed"), color=color, linewidth=2.5, label=name)
    right.plot(run.metrics.episode, run.metrics.delta.mean(["seed", "agent"]), color=color)
left.set(xlabel="episodes", ylabel="return per episode (mean over agents)", title="Spread")
left.legend(frameon=False)
right.set(xlabel="episodes", ylabel="δ_i (nat)", yscale="log", title="Trust region")
plt.show()

# %%
mamt_jax.compare([stays, opens])

# %% [markdown]
# Both begin alike. From about 200 episodes on, when δ has doubled, the opening region pulls away, and it ends seven to eight
# points higher: a region of 0.1 for good holds the policies back long after the critic knows something. `compare` agrees, and
# says how sure that is with four seeds (notebook 2). What this does not show is that opening is better than a wide region from the
# start: try `delta_start=[0.1, 1.0], doubling=1e9`.
#
# ## From scratch
#
# No part at all: REINFORCE on a table. In the test game `toy_matching` both agents see a context of three and are paid 1
# if agent 0 answers c and agent 1 answers c + 1; five contexts make an episode, so 5 is the best return. An algorithm with
# `Rollout` among its settings learns on-policy: a batch is a rollout, with leaves of shape `[T, E, …]` (T steps of E
# parallel environments).


# %%
@dataclass(frozen=True)
class Climb(Part):
    """Settings of REINFORCE."""

    group: ClassVar[str] = "climb"

    climb: float = 3.0
    """Step size."""


def reinforce(game, settings):
    """REINFORCE on a table of logits [n, contexts, A]."""

    def logits(table, obs):  # obs [..., n, contexts] is one-hot
        return jnp.einsum("...nc,nca->...na", obs, table)

    def act(table, key, obs):
        return jax.random.categorical(key, logits(table, obs)).astype(jnp.int32)

    def greedy(table, obs):
        return logits(table, obs).argmax(-1).astype(jnp.int32)

    def update(table, key, batch, count):
        sample = batch.sample

        def objective(table):
            chosen = jax.nn.one_hot(sample.action, game.num_actions)
            log_policy = jax.nn.log_softmax(logits(table, sample.obs))
            advantage = sample.reward - batch.reward_mean
            return (advantage * (chosen * log_policy).sum(-1)).sum(-1).mean()

        policy = jax.nn.softmax(logits(table, sample.obs))
        entropy = -(policy * jnp.log(policy)).sum(-1).mean((0, 1))
        return table + settings[Climb].climb * jax.grad(objective)(table), {"entropy": entropy}

    shape = (game.num_agents, game.obs_size, game.num_actions)
    return Algorithm("reinforce", lambda key: jnp.zeros(shape), act, greedy, update)


# %%
scratch = mamt_jax.Recipe(reinforce, compose(Rollout(rollout_size=120), Climb()))
run = mamt_jax.train(scratch, "toy_matching", seeds=seeds, episodes=quick_episodes, log_interval=24)

figure, axes = plt.subplots(figsize=(6, 3.2), layout="constrained")
returns = run.metrics.return_mean
axes.plot(returns.episode, returns.T, color="C0", alpha=0.5)
axes.axhline(5.0, color="0.4", linestyle="--", label="best")
axes.axhline(5 / 9, color="0.6", linestyle=":", label="random")
axes.set(xlabel="episodes", ylabel="return per episode", title="REINFORCE on toy_matching")
axes.legend(frameon=False)
print("greedy returns by seed:", np.round(run.evaluate(episodes=50).mean(axis=1), 2))
plt.show()

# %% [markdown]
# From chance to nearly the best return in 600 episodes. The curve stays a little below 5 because it is of sampled actions; the
# greedy policies make no mistake.
#
# ## From the command line
#
# In a file `mine.py`, these are algorithms for the command line as well, with their settings as flags:
#
#     mamt train --algorithm mine:recipe --env spread --doubling 300 --out runs/opening
#
# README.md has the table of parts; `mamt_jax/types.py` says what an `Algorithm` is.
