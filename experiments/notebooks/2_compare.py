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
# # 2 · Comparing two algorithms
#
# Two learning curves of one seed each say next to nothing: the same algorithm with another seed may differ more. This
# notebook trains MAAC and MAMD on Spread with the same budget: the same actor-critic, without and with a fixed trust
# region. Does the region cost anything while the agents learn? A comparison has to say how large a difference is, how
# sure, and of what it is true.

# %% tags=["parameters"]
seeds = 5
episodes = 720
small = {"hidden_size": 64, "learning_rate": 3e-3, "batch_size": 256}

# %%
from itertools import combinations

import matplotlib.pyplot as plt
import numpy as np

import mamt_jax

# %%
runs = {
    name: mamt_jax.train(name, "spread", seeds=seeds, episodes=episodes, **small)
    for name in ("maac", "mamd")
}

# %% [markdown]
# ## Every seed
#
# Before any statistic, the seeds themselves.

# %%
figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for (name, run), color in zip(runs.items(), ("C0", "C1"), strict=True):
    returns = run.metrics.return_mean.rolling(update=3, center=True, min_periods=1).mean()
    for seed in returns.seed.values:
        axes.plot(returns.episode, returns.sel(seed=seed), color=color, alpha=0.35, linewidth=1)
    axes.plot(returns.episode, returns.mean("seed"), color=color, linewidth=2.5, label=name)
axes.set(xlabel="episodes", ylabel="return per episode (mean over agents)", title="Spread")
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# Thin lines are seeds, thick ones their means. MAAC's seeds lie up to nine points apart on the way, and several are below the
# random policy's −67 at first; MAMD's stay within about three points of one another. In the first 150 episodes MAMD is
# ahead, later MAAC: which one looks better depends on where the curves are cut.
#
# ## How large, and how sure
#
# `compare` takes the return of the last tenth of the episodes (of the last 1,000 in a run of 2,000 or more), one number
# per seed. It gives the interquartile mean (IQM: the mean of the middle half, which one lucky seed cannot move), the
# difference of the IQMs with a 95% bootstrap interval, and the probability that a seed of one algorithm beats a seed of
# the other. With fewer than three seeds it refuses.

# %%
comparison = mamt_jax.compare(list(runs.values()))
comparison

# %% [markdown]
# At 720 episodes MAMD is 2.3 points behind, and the interval, −4.9 to −0.8, does not hold 0: at this budget the region costs
# something. No seed of MAMD beats one of MAAC, so the probability of improvement is estimated as 0, with an interval of no
# width. That is what a bootstrap does where the samples do not overlap; five seeds each cannot tell 0 from a few per cent.
#
# ## How many seeds does that take?
#
# Had we trained three seeds of each, we would have seen one of the differences below: all choices of three seeds for either
# algorithm.

# %%
means = {
    name: [np.mean(some) for some in combinations(returns, 3)]
    for name, returns in comparison.returns.items()
}
three = np.subtract.outer(means["mamd"], means["maac"]).ravel()
found = comparison.data.difference.sel(run="mamd")

figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
axes.hist(three, bins=25, color="0.7")
axes.axvspan(
    found.sel(estimate="low"), found.sel(estimate="high"), alpha=0.15, label="95% interval"
)
axes.axvline(found.sel(estimate="value"), color="C0", label=f"{seeds} seeds each")
axes.axvline(0, color="C3", linestyle="--", label="no difference")
axes.set(xlabel="difference in return, mamd − maac", ylabel="choices of 3 seeds")
axes.legend(frameon=False)
plt.show()
print(f"3 seeds: {three.min():.1f} to {three.max():.1f}; {(three > 0).mean():.0%} above 0")

# %% [markdown]
# Grey are all choices of three seeds of either (differences of means). With three seeds we would have seen something from −4.3 to
# −0.8: always the right sign here, where the difference is large, and a size that is wrong by up to a factor of three. The
# interval of five seeds is as wide as that. If the difference were a third of this, three seeds could show either sign.
#
# ## Of what is it true?
#
# Of this budget, these settings and this game. With 10,000 episodes and the paper's networks MAAC ends at −35.6 ± 0.2 and
# MAMD at −35.8 ± 0.2 (eight seeds each, `results/README.md`): whatever the region costs on the
# way, it does not change the end. So say for which budget a comparison was made, give both algorithms the same search
# for settings, and show the curve, not its last point alone.
