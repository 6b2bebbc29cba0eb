"""MAPPO: an update is all epochs on one rollout. In the idiom "batched" alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.torch_reference import batched, maths, numbers, steps
from benchmarks.torch_reference.maths import Rollout
from mamt_jax.settings import Settings

RETURNS_DECAY = 0.99
Metrics = dict[str, Tensor]


class ProximalLearner:
    """Networks, optimisers and the update of MAPPO.

    Args:
      obs_sizes: of each agent.
      num_actions: A, the same for all.
      settings: mamt_jax's; the defaults where none are given.
      device: where everything lives.
      dtype: of parameters and data.
    """

    def __init__(
        self,
        obs_sizes: Sequence[int],
        num_actions: int,
        settings: Settings | None = None,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ):
        self.num_agents, self.num_actions = len(obs_sizes), num_actions
        self.hyper = hyper = numbers.flat(settings, "mappo")
        self.device = torch.device(device)
        self.updates = 0
        sizes = tuple(obs_sizes), num_actions, hyper.hidden_size, hyper.attention_heads
        self.actor = batched.AttentionActor(*sizes).to(self.device, dtype)
        self.critic = batched.Critic(*sizes, outputs=1).to(self.device, dtype)
        self.actor_optimiser = steps.adam(self.actor.parameters(), hyper)
        self.critic_optimiser = steps.adam(self.critic.parameters(), hyper)
        self.norm_mean = torch.zeros(
            self.num_agents, max(obs_sizes), device=self.device, dtype=dtype
        )
        self.norm_var = torch.ones_like(self.norm_mean)
        # Moving averages of returns and of their squares, and what their weights add up to.
        self.returns_first = torch.zeros_like(self.norm_mean[:, 0])
        self.returns_second = torch.zeros_like(self.returns_first)
        self.returns_weight = torch.zeros_like(self.returns_first)

    @torch.inference_mode()
    def act(self, obs: Tensor) -> Tensor:
        """Sampled actions int64 ``[E, n]`` at observations ``[E, n, O]``."""
        return self._draw(self._normalise(obs.transpose(0, 1))).T

    def update(
        self,
        rollout: Rollout,
        noise: Tensor | None = None,
        orders: Sequence[Tensor] | None = None,
    ) -> Metrics:
        """All epochs on one rollout; metrics are means over the minibatches.

        Args:
          rollout: T steps of all environments.
          noise: Gumbel ``[n, T·E, A]``, by which actions at the successors are drawn: they are
            used where a trajectory is cut. Drawn if None.
          orders: of each epoch, int64 ``[T·E]``; drawn if None.
        """
        hyper, total = self.hyper, rollout.reward[..., 0].numel()
        data, metrics = self._prepare(rollout, noise)
        found: list[Metrics] = []
        for order in orders or self._orders(total):
            size = total // hyper.ppo_minibatches
            for rows in order[: size * hyper.ppo_minibatches].split(size):
                x, encoded, action, log_old, advantage, target = (
                    leaf.index_select(1, rows) for leaf in data
                )
                learned = self._critic_step(x, encoded, target)
                found.append(learned | self._policy_step(x, action, log_old, advantage))
        self.updates += 1
        return metrics | {k: torch.stack([row[k] for row in found]).mean(0) for k in found[0]}

    def _orders(self, total: int) -> Iterator[Tensor]:
        for _ in range(self.hyper.ppo_epochs):
            yield torch.randperm(total, device=self.device)

    @torch.no_grad()
    def _prepare(
        self, rollout: Rollout, noise: Tensor | None
    ) -> tuple[tuple[Tensor, ...], Metrics]:
        """What minibatches are taken from, ``[n, B, ...]`` each; the running moments step.

        Old log-probabilities are those under the moments that the updates use: ratios start at 1.
        """

        def flat(values: Tensor) -> Tensor:
            """``[T, E, n, ...] -> [n, T·E, ...]``."""
            return values.flatten(0, 1).transpose(0, 1).contiguous()

        obs, action, reward = flat(rollout.obs), flat(rollout.action), flat(rollout.reward)
        self._observe(obs)
        x, next_x = self._normalise(obs), self._normalise(flat(rollout.next_obs))
        one_hot = maths.one_hot(action, self.num_actions, x.dtype)
        encoded, action_mean, action_var = maths.batch_norm(one_hot)
        next_one_hot = maths.one_hot(self._draw(next_x, noise), self.num_actions, x.dtype)
        next_encoded = maths.apply_norm(action_mean, action_var, next_one_hot)
        mean, std = self._scale()
        value, bootstrap = (
            mean + std * self.critic.read(*inputs)[..., 0]
            for inputs in ((x, encoded), (next_x, next_encoded))
        )
        shape = len(reward), *rollout.finished.shape
        advantage = maths.generalised_advantages(
            reward.view(shape),
            value.view(shape),
            bootstrap.view(shape),
            flat(rollout.terminated).view(shape),
            rollout.finished,
            self.hyper,
        ).flatten(1)
        returns = advantage + value
        new_mean, new_std = self._rescale(returns)
        log_old = maths.select(self.actor(x).log_softmax(-1), action)
        target = (returns - new_mean) / new_std
        metrics = {
            "reward_mean": reward.mean(1),
            "reward_std": reward.std(1, correction=0),
            "explained_variance": maths.explained_variance(value, returns),
        }
        return (x, encoded, action, log_old, maths.standardise(advantage), target), metrics

    def _draw(self, x: Tensor, noise: Tensor | None = None) -> Tensor:
        """Actions ``[n, B]`` of the policies at normalised observations."""
        logits = self.actor(x)
        return (logits + (maths.gumbel(logits) if noise is None else noise)).argmax(-1)

    def _normalise(self, obs: Tensor) -> Tensor:
        return maths.apply_norm(self.norm_mean, self.norm_var, obs)

    def _observe(self, obs: Tensor) -> None:
        """Running statistics, of all rollouts alike."""
        share = 1.0 / (self.updates + 1)
        var, mean = torch.var_mean(obs, dim=1, correction=0)
        shift = mean - self.norm_mean
        self.norm_mean += share * shift
        self.norm_var.lerp_(var, share).add_(share * (1.0 - share) * shift.square())

    def _scale(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation of returns, ``[n, 1]`` each; 0 and 1 before any."""
        weight = self.returns_weight.clamp_min(1e-6)
        mean = self.returns_first / weight
        std = (self.returns_second / weight - mean.square()).clamp_min(1e-4).sqrt()
        return mean[:, None], torch.where(self.returns_weight > 0, std, 1.0)[:, None]

    def _rescale(self, returns: Tensor) -> tuple[Tensor, Tensor]:
        """Counts returns ``[n, B]``: the new mean and deviation.

        The critic's last layer takes up the change, so that its values stay (PopArt).
        """
        old_mean, old_std = self._scale()
        share = 1.0 - RETURNS_DECAY
        self.returns_first.lerp_(returns.mean(1), share)
        self.returns_second.lerp_(returns.square().mean(1), share)
        self.returns_weight.lerp_(torch.ones_like(self.returns_weight), share)
        mean, std = self._scale()
        out = self.critic.head_out
        out.kernel.mul_((old_std / std)[..., None])
        out.bias.mul_(old_std).add_(old_mean - mean).div_(std)
        return mean, std

    def _critic_step(self, x: Tensor, encoded: Tensor, target: Tensor) -> Metrics:
        """One step on the values' Huber loss."""
        value = self.critic.read(x, encoded)[..., 0]
        each = F.huber_loss(value, target, reduction="none", delta=self.hyper.huber_delta).mean(-1)
        gradient = steps.gradient(each.sum(), self.critic)
        steps.share(self.critic.shared(), self.num_agents)
        norm = steps.clip(gradient, self.hyper.critic_clip_per_agent * self.num_agents)
        self.critic_optimiser.step()
        return {
            "critic_loss": each.detach(),
            "q_mean": value.detach().mean(-1),
            "critic_grad_norm": norm,
        }

    def _policy_step(
        self, x: Tensor, action: Tensor, log_old: Tensor, advantage: Tensor
    ) -> Metrics:
        """One step on the clipped objective and the entropy bonus."""
        hyper = self.hyper
        log_policy = self.actor(x).log_softmax(-1)
        ratio = (maths.select(log_policy, action) - log_old).exp()
        clipped = ratio.clamp(1.0 - hyper.ppo_clip, 1.0 + hyper.ppo_clip)
        objective = -torch.minimum(ratio * advantage, clipped * advantage).mean(-1)
        entropy = maths.entropy(log_policy).mean(-1)
        gradient = steps.gradient((objective - hyper.ppo_entropy * entropy).sum(), self.actor)
        norms = batched.agent_norms(gradient, self.num_agents)
        batched.agent_scale(gradient, maths.clip_factor(norms, hyper.policy_clip))
        self.actor_optimiser.step()
        with torch.no_grad():
            binds = (ratio - clipped) * advantage > 0
        return {
            "policy_loss": objective.detach(),
            "policy_grad_norm": norms,
            "entropy": entropy.detach(),
            "clip_fraction": binds.to(ratio.dtype).mean(-1),
        }
