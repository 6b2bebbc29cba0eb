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
# # 1 · A first run
#
# Two agents of the game Spread share two landmarks: each landmark is paid by the distance to the nearest agent, so the
# agents have to divide the landmarks among them. MAMT trains three seeds of it here, in one compiled program, on a small
# network so that it takes a minute on two cores.

# %% tags=["parameters"]
seeds = 3
episodes = 1200
small = {"hidden_size": 64, "batch_size": 256, "learning_rate": 3e-3}

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt

import mamt_jax

folder = Path(tempfile.mkdtemp()) / "first_run"

# %% [markdown]
# ## Training
#
# Every setting is a keyword with the paper's default. `small` makes the network and the batch smaller and the steps
# larger. With `out` the run is a directory: its config, everything recorded, and checkpoints. A run that
# was interrupted goes on with `resume=True`, and ends up with the same numbers.

# %%
run = mamt_jax.train("mamt", "spread", seeds=seeds, episodes=episodes, out=folder, **small)
run

# %% [markdown]
# Most of the first minute is compilation. What was compiled is kept in `~/.cache/mamt_jax`, so the same run again
# starts within seconds.
#
# ## Learning curve
#
# `run.metrics` is an xarray.Dataset with one row per logging point and a dimension `seed`; every quantity knows its unit
# and what it means.

# %%
run.metrics

# %% [markdown]
# Returns below are undiscounted sums of an episode's rewards, averaged over agents. A uniformly random policy gets −67, a
# scripted controller that assigns the landmarks and sends the agents there −35.8.

# %%
returns = run.metrics.return_mean.rolling(update=3, center=True, min_periods=1).mean()

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for seed in returns.seed.values:
    axes.plot(returns.episode, returns.sel(seed=seed), label=f"seed {seed}")
axes.axhline(-67.0, color="0.6", linestyle=":", label="random")
axes.axhline(-35.8, color="0.3", linestyle="--", label="scripted controller")
axes.set(xlabel="episodes", ylabel="return per episode (mean over agents)", title="MAMT on Spread")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# All seeds rise from the random policy's level to about −57, a third of the way to the controller, and rest there. This
# is a small part of the usual budget: after 10,000 episodes with the full network MAMT is at the controller's level, −35.9 ± 0.3
# (`results/README.md`).
#
# ## What the policies are worth
#
# While it trains, an agent samples its actions. `evaluate` plays the most probable actions instead, on new starts: one row
# per seed. Here that is two to three points better than the end of the curve.

# %%
greedy = run.evaluate(episodes=100)
for seed, row in zip(run.policies.seeds, greedy, strict=True):
    print(f"seed {seed}: {row.mean():.1f} ± {row.std(ddof=1):.1f} over {len(row)} episodes")

# %% [markdown]
# ## What they do
#
# `episodes` plays the greedy policies of one seed and gives an xarray.Dataset of all that happened. In a notebook it shows
# itself; saved with `.to_netcdf`, it opens wherever xarray is, without JAX and without the game.

# %%
recording = run.episodes(2, seed=0)
recording

# %%
figure, panels = plt.subplots(
    1, 2, figsize=(7, 3.6), layout="constrained", sharex=True, sharey=True
)
for axes, episode in zip(panels, recording.episode.values, strict=True):
    one = recording.sel(episode=episode)
    for agent in one.agent.values:
        path = one.position.sel(agent=agent)
        (line,) = axes.plot(*path.T, marker=".", label=agent)
        axes.plot(*path.isel(moment=0), marker="o", markersize=9, color=line.get_color())
    axes.plot(*one.landmark.isel(moment=0).T, "kx", markersize=9, label="landmark")
    axes.set(
        title=f"episode {episode}: {float(one.return_so_far[-1]):.1f}", xlabel="x", aspect="equal"
    )
panels[0].set_ylabel("y")
panels[0].legend(frameon=False)
plt.show()

# %% [markdown]
# Large dots are starts, small ones steps. In episode 0 each agent comes near a landmark of its own and stops short of it. In
# episode 1 agent 1 does, and agent 0 goes to the middle, away from the landmark at the lower right. So they have begun
# to divide the landmarks, and are not good at it yet, as the curve says.
#
# ## The same run tomorrow
#
# A run directory is all that is needed. `load` reads metrics and policies without the game's code.

# %%
again = mamt_jax.load(folder)
print((again.evaluate(episodes=100) == greedy).all())
