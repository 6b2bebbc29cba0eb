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
# # 3 · Looking inside
#
# Spread-3-Mix has three agents and a dependence that is known: agents 0 and 2 share two landmarks and may collide, agent 1
# has a landmark of its own, and nothing that the others do changes its reward. MAMT is to find that out: its coordination
# coefficients C_ij say how much agent i's value depends on what agent j does, its trust regions δ_i how far agent i may
# move. This notebook trains it, and holds what it says to what is known.
#
# | symbol | what it is | from |
# |---|---|---|
# | C_ij | softmax over j of \|Q_i(a\\j) − Q_i(a)\|: what i's critic loses when j's action is averaged out | Eq. 5 |
# | D_i | Σ_j C_ij KL[h_i(·\|o_i, j) ‖ π_j(·\|o_j)]: how far others are from what i, from the replay, expects | Eq. 6 |
# | KL_i | TRD-Net's output; it learns that Σ_i KL_i = Σ_i D_i, given δ | Eq. 7 |
# | δ_i | width of agent i's trust region: value gained against KL_i predicted | Eq. 8 |

# %% tags=["parameters"]
seeds = 3
episodes = 1200
watched = 50
small = {"hidden_size": 64, "batch_size": 256, "learning_rate": 3e-3, "buffer_size": 15_000}

# %%
import matplotlib.pyplot as plt
import numpy as np

import mamt_jax

env = mamt_jax.envs.make("spread3_mix")
print("teams, whose rewards do not depend on one another:", env.spec.teams)

# %%
run = mamt_jax.train("mamt", env, seeds=seeds, episodes=episodes, **small)
metrics = run.metrics.assign_coords(agent=range(3), opponent=range(3))
run

# %% [markdown]
# ## C while it learns
#
# Every row of C is a softmax over two opponents, so that C_ij + C_ik = 1: 0.5 means no preference. What can be told from
# a row is a preference, not whether i depends on anybody at all. Agent 1 depends on nobody, and its row still adds up
# to 1. The score before the softmax, the effect itself, has no such constraint.

# %%
PAIRS = {(0, 2): "C0", (2, 0): "C0", (0, 1): "C1", (2, 1): "C1", (1, 0): "C2", (1, 2): "C2"}
LABELS = {"C0": "partner (0↔2)", "C1": "0 or 2 on 1", "C2": "1 on 0 or 2"}


def pairs(axes, values):
    """One thin line for each pair and seed, colours by what is known of the pair."""
    for (i, j), color in PAIRS.items():
        pair = values.sel(agent=i, opponent=j)
        axes.plot(values.episode, pair.T, color=color, alpha=0.35, linewidth=0.8)
    for color, label in LABELS.items():
        kind = [values.sel(agent=i, opponent=j) for (i, j), c in PAIRS.items() if c == color]
        axes.plot(
            values.episode, sum(kind).mean("seed") / len(kind), color=color, lw=2.5, label=label
        )
    axes.set_xlabel("episodes")


figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
pairs(left, metrics.coordination_mean)
left.axhline(0.5, color="0.6", linestyle=":")
left.set(ylabel="C_ij, batch mean", title="Coordination coefficients")
pairs(right, metrics.coordination_score)
right.set(ylabel="|Q_i(a\\j) − Q_i(a)| (standardised reward)", title="Scores before the softmax")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# FIGURE 1
#
# ## C in what the agents do
#
# The figure above is of batches from the replay. `run.episodes` plays greedy episodes and keeps what the algorithm says
# of each step, C among it. `run.coordination(obs, actions)` answers the same question for any situation of yours.

# %%
recordings = [run.episodes(watched, seed=seed) for seed in run.policies.seeds]

figure, panels = plt.subplots(
    1, seeds, figsize=(2.7 * seeds, 2.9), layout="constrained", squeeze=False
)
for axes, recording in zip(panels[0], recordings, strict=True):
    mean = recording.coordination.mean(["episode", "step"]).values
    axes.imshow(mean, vmin=0, vmax=1, cmap="Blues")
    for (i, j), value in np.ndenumerate(mean):
        if i != j:
            axes.text(
                j, i, f"{value:.2f}", ha="center", va="center", color="w" if value > 0.6 else "k"
            )
    axes.set(xticks=range(3), yticks=range(3), xlabel="on agent j", title=f"seed {recording.seed}")
panels[0, 0].set_ylabel("agent i depends")

for recording in recordings:
    c = recording.coordination.values
    prefers = [(c[..., i, j] > c[..., i, 1]).mean() for i, j in ((0, 2), (2, 0))]
    print(f"seed {recording.seed}: the partner is preferred in {np.mean(prefers):.0%} of the steps")
plt.show()

# %% [markdown]
# FIGURE 2

# %%
one = recordings[0].sel(episode=0)
start, actions = one.obs.isel(moment=0), one.action_taken.isel(step=0)
run.coordination(start, actions, seed=0).to_pandas().round(2)

# %%
run.probabilities(start, seed=0).to_pandas().round(2)

# %% [markdown]
# ## Who attends to whom
#
# The critic of each agent attends to the others with four heads, and the weights of a head add up to 1, too. Attention
# says where a critic takes its information from, which is not the same as what its value depends on.

# %%
heads = np.stack([r.attention.mean(["episode", "step"]).values for r in recordings])  # [S, n, n, K]
partner = (heads[:, 0, 2] + heads[:, 2, 0]) / 2

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for recording, values in zip(recordings, partner, strict=True):
    axes.plot(range(values.size), values, "o", label=f"seed {recording.seed}")
axes.axhline(0.5, color="0.6", linestyle=":", label="no preference")
axes.set(xlabel="attention head", ylabel="attention of 0 and 2 to each other", ylim=(0, 1))
axes.set_xticks(range(partner.shape[1]))
axes.legend(frameon=False)
print(f"mean over heads and seeds: {partner.mean():.2f}")
plt.show()

# %% [markdown]
# FIGURE 3
#
# ## D and δ while it learns

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4), layout="constrained")
for agent, color in zip(range(3), ("C0", "C1", "C4"), strict=True):
    for axes, name in ((left, "nonstationarity"), (right, "delta")):
        values = metrics[name].sel(agent=agent)
        axes.plot(values.episode, values.T, color=color, alpha=0.3, linewidth=0.8)
        axes.plot(values.episode, values.mean("seed"), color=color, lw=2.5, label=f"agent {agent}")
left.set(xlabel="episodes", ylabel="D_i (nat)", title="Modelled non-stationarity")
right.set(xlabel="episodes", ylabel="δ_i (nat)", title="Local trust regions", yscale="log")
right.legend(frameon=False)
plt.show()

# %% [markdown]
# FIGURE 4
#
# ## What TRD-Net predicts, and what happens
#
# TRD-Net has one output for each agent, called a local KL, but what it is trained on is a sum: Σ_i KL_i is to be Σ_i D_i
# (Eq. 7). So there is something to check besides the sum: whether KL_i is D_i for each agent, which nothing demands, and
# whether it is what it is called, the KL of policy i to its old one, which `local_kl` measures and TRD-Net never sees.

# %%
predicted, last = metrics.trd_kl, metrics.isel(update=-1)

figure, panels = plt.subplots(1, 3, figsize=(10, 3.6), layout="constrained")
sums = metrics.nonstationarity.sum("agent"), predicted.sum("agent")
panels[0].plot(sums[0].values.ravel(), sums[1].values.ravel(), ".", color="0.3")
panels[0].set(
    xlabel="measured Σ_i D_i (nat)", ylabel="predicted (nat)", title="Σ_i KL_i, trained on"
)
for axes, name in ((panels[1], "nonstationarity"), (panels[2], "local_kl")):
    for agent, color in zip(range(3), ("C0", "C1", "C4"), strict=True):
        points = metrics[name].sel(agent=agent), predicted.sel(agent=agent)
        axes.plot(
            *(each.values.ravel() for each in points), ".", color=color, label=f"agent {agent}"
        )
panels[1].set(xlabel="measured D_i (nat)", title="KL_i against D_i")
panels[2].set(xlabel="measured KL(π_i ‖ π_i,old) (nat)", title="KL_i against the local KL")
panels[1].legend(frameon=False)
for axes in panels:
    axes.axline((0, 0), slope=1, color="0.6", linestyle=":")

late = metrics.isel(update=slice(metrics.sizes["update"] // 4, None))
ratio = late.trd_kl.sum("agent") / late.nonstationarity.sum("agent")
print(f"predicted ΣKL_i / measured ΣD_i, after the first quarter: {float(ratio.mean()):.2f}")
for name in ("nonstationarity", "trd_kl", "local_kl"):
    print(f"{name} at the end, by agent:", last[name].mean("seed").values.round(3), "nat")
plt.show()

# %% [markdown]
# FIGURE 5
#
# The same in single steps of greedy episodes of seed 0: every point is one step.

# %%
one = recordings[0]
names = ("nonstationarity", "local_kl_predicted")
measured, expected = (one[name].sum("agent").values.ravel() for name in names)

figure, axes = plt.subplots(figsize=(4.2, 3.6), layout="constrained")
axes.plot(measured, expected, ".", markersize=2, alpha=0.4)
axes.axline((0, 0), slope=1, color="0.6", linestyle=":")
axes.set(xlabel="measured Σ_i D_i of a step (nat)", ylabel="predicted Σ_i KL_i of a step (nat)")
print(f"correlation over steps: {np.corrcoef(measured, expected)[0, 1]:.2f}")
print(f"means: measured {measured.mean():.3f} nat, predicted {expected.mean():.3f} nat")
plt.show()

# %% [markdown]
# FIGURE 6
#
# ## What follows
#
# CONCLUSION
