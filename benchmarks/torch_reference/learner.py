"""One update of MAAC, MAMD or MAMT, the same for both idioms of writing the networks."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torch_reference import batched, maths, modules, numbers, steps
from benchmarks.torch_reference.maths import Batch, Noise
from mamt_jax.settings import Settings

IDIOMS: dict[str, Any] = {"modules": modules, "batched": batched}
ALGORITHMS = ("maac", "mamd", "mamt")
Metrics = dict[str, Tensor]


class Learner:
    """Networks, optimisers and the update of one algorithm.

    Args:
      algorithm: "maac", "mamd" or "mamt".
      obs_sizes: of each agent.
      num_actions: A, the same for all.
      settings: mamt_jax's; the defaults where none are given, whose kinds are supported.
      idiom: "modules" (a module and a loop over agents) or "batched" (stacked parameters).
      device: where everything lives.
      dtype: float32 or float64.
      compiled: whether the losses go through ``torch.compile``; on one CPU core it does not pay.
    """

    def __init__(
        self,
        algorithm: str,
        obs_sizes: Sequence[int],
        num_actions: int,
        settings: Settings | None = None,
        idiom: str = "batched",
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        compiled: bool = False,
    ):
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm must be one of {ALGORITHMS}, got {algorithm!r}.")
        self.algorithm, self.idiom = algorithm, idiom
        self.obs_sizes, self.num_actions = tuple(obs_sizes), num_actions
        self.hyper = hyper = numbers.flat(settings, algorithm)
        self.nets, self.device, self.dtype = IDIOMS[idiom], torch.device(device), dtype
        self.updates = 0
        sizes, n = (self.obs_sizes, num_actions, hyper.hidden_size), len(obs_sizes)

        def place(net: nn.Module) -> Any:
            return net.to(self.device, dtype)

        self.actor = place(self.nets.Actor(*sizes))
        self.target_actor, self.old_actor = _frozen(self.actor), _frozen(self.actor)
        self.critic = place(self.nets.Critic(*sizes, hyper.attention_heads))
        self.target_critic = _frozen(self.critic)
        self.norm_mean = torch.zeros(n, max(obs_sizes), device=self.device, dtype=dtype)
        self.norm_var = torch.ones_like(self.norm_mean)
        self.actor_optimiser = steps.adam(self.actor.parameters(), hyper)
        decay = hyper.critic_weight_decay
        self.critic_optimiser = steps.adam(self.critic.parameters(), hyper, decay)
        if algorithm == "mamt":
            self.modelling = place(self.nets.ModellingPolicy(*sizes))
            self.trd = place(self.nets.TRDNet(*sizes))
            self.target_trd = _frozen(self.trd)
            start = math.log(hyper.delta_init)
            self.log_delta = torch.full((n,), start, device=self.device, dtype=dtype)
            self.offset = torch.zeros_like(self.log_delta)
            self.share = torch.zeros_like(self.log_delta)
            self.terms = (torch.zeros_like(self.offset),) * 2
            self.modelling_optimiser = steps.adam(self.modelling.parameters(), hyper)
            self.trd_optimiser = steps.adam(self.trd.parameters(), hyper)
            self.delta_optimiser = steps.adam([self.log_delta], hyper)
        self.delta = torch.full(
            (n,), getattr(hyper, "delta_fixed", 1.0), device=self.device, dtype=dtype
        )
        self.others = torch.tensor(maths.opponents(n), device=self.device)
        if compiled:
            self._compile()

    @property
    def num_agents(self) -> int:
        """n."""
        return len(self.obs_sizes)

    def _compile(self) -> None:
        # Slow steps go backward three times through one forward pass.
        torch._functorch.config.donated_buffer = False
        # Learners of other sizes in this process count as recompilations of the same functions.
        torch._dynamo.config.recompile_limit = 64
        names = ["_targets", "_critic_loss", "_log_policy", "_policy_weight"]
        if self.algorithm == "mamt":
            names += ["_modelling_loss", "_trd_loss", "_delta_slope"]
            # One opponent's effect, not the loop over them: it compiles once.
            self.critic.effect_of = torch.compile(self.critic.effect_of, dynamic=False)
        for name in names:
            setattr(self, name, torch.compile(getattr(self, name), dynamic=False))

    def draw(self, batch_size: int) -> Noise:
        """The random numbers of one update."""
        shape = (2, self.num_agents, batch_size, self.num_actions)
        both = maths.gumbel(torch.empty(shape, device=self.device, dtype=self.dtype))
        return Noise(both[0], both[1], torch.randn_like(self.delta))

    @torch.no_grad()
    def act(self, obs: Tensor, greedy: bool = False) -> Tensor:
        """Actions int64 ``[E, n]`` at observations ``[E, n, O]``."""
        x = maths.apply_norm(self.norm_mean, self.norm_var, obs.transpose(0, 1))
        logits = self.actor(x)
        noisy = logits if greedy else logits + maths.gumbel(logits)
        return noisy.argmax(-1).T

    def update(self, batch: Batch, noise: Noise | None = None) -> Metrics:
        """One update of everything that learns, in the order of SPEC's Algorithm 2."""
        noise = noise or self.draw(len(batch.obs))
        hyper = self.hyper
        action = batch.action.T.contiguous()
        x, mean, var = maths.batch_norm(batch.obs.transpose(0, 1))
        encoded, encoded_mean, encoded_var = self._encode(action)
        metrics = {"reward_mean": batch.reward_mean, "reward_std": batch.reward_std}
        target = self._targets(batch, noise.target)
        loss, trace, more = self._critic_loss(x, encoded, action, target)
        metrics |= more
        critic_gradient = steps.gradient(loss, self.critic)
        steps.share(self.critic.shared(), self.num_agents)
        metrics["critic_grad_norm"] = steps.clip(
            critic_gradient, hyper.critic_clip_per_agent * self.num_agents
        )
        log_policy, square = self._log_policy(x)
        seen = log_policy.detach()
        with torch.no_grad():
            log_old = self.old_actor(x).log_softmax(-1)
        if self.algorithm == "mamt":
            encoding = maths.apply_norm(
                encoded_mean, encoded_var, self._all_actions().expand(self.num_agents, -1, -1)
            )
            weights, more = self._coordination(trace, action, seen, encoding)
            metrics |= more | self._observe(x, encoded, action, weights, seen, noise.offset)
        self.critic_optimiser.step()
        metrics |= self._policy_step(x, log_policy, square, log_old, noise.action)
        if self.algorithm == "mamt":
            if (self.updates + 1) % hyper.delta_period == 0:
                kl = (seen.exp() * (seen - log_old)).sum(-1).mean(-1)
                self._slow_step(x, encoded, weights, kl)
            metrics["delta"] = self.log_delta.exp()
            metrics["delta_grad_value"], metrics["delta_grad_kl"] = self.terms
        elif self.algorithm == "mamd":
            metrics["delta"] = self.delta
        self._finish(mean, var)
        return metrics

    def _all_actions(self) -> Tensor:
        return torch.eye(self.num_actions, device=self.device, dtype=self.dtype)

    def _encode(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised one-hot of ``[n, B]``, with its statistics."""
        return maths.batch_norm(maths.one_hot(action, self.num_actions, self.dtype))

    @torch.no_grad()
    def _targets(self, batch: Batch, noise: Tensor) -> Tensor:
        """``[n, B]``, Eq. 9."""
        x, _, _ = maths.batch_norm(batch.next_obs.transpose(0, 1))
        log_policy = self.target_actor(x).log_softmax(-1)
        action = (log_policy + noise).argmax(-1)
        q = maths.select(self.target_critic.read(x, self._encode(action)[0]), action)
        reward = (batch.reward - batch.reward_mean) / batch.reward_std
        log_prob = maths.select(log_policy, action)
        return maths.td_target(reward.T, batch.terminated.T, q, log_prob, self.hyper)

    def _critic_loss(
        self, x: Tensor, encoded: Tensor, action: Tensor, target: Tensor
    ) -> tuple[Tensor, Any, Metrics]:
        trace = self.critic(x, encoded)
        q = maths.select(trace.q, action)
        error = (q - target).square().mean(-1)
        penalty = maths.attention_penalty(trace.logits)
        loss = (error + self.hyper.critic_regularisation * penalty).sum()
        metrics = {
            "critic_loss": error.detach(),
            "q_mean": q.detach().mean(-1),
            "attention_entropy": maths.attention_entropy(trace.weights.detach()),
        }
        return loss, trace, metrics

    @torch.no_grad()
    def _coordination(
        self, trace: Any, action: Tensor, log_policy: Tensor, encoding: Tensor
    ) -> tuple[Tensor, Metrics]:
        """C ``[n, n, B]``, Eq. 5."""
        n, batch = action.shape
        if n == 2:  # a softmax over one opponent is 1, whatever the score
            ones = 1.0 - torch.eye(2, device=self.device, dtype=self.dtype)
            weights, metrics = ones[:, :, None].expand(-1, -1, batch), {}
        else:
            effect = self.critic.effects(trace, action, log_policy.exp(), encoding)
            weights = maths.coordination(effect, self.hyper)
            metrics = {"coordination_score": effect.mean(-1)}
        metrics["coordination_mean"] = weights.mean(-1)
        metrics["coordination_var"] = weights.var(-1, correction=0)
        return weights, metrics

    def _observe(
        self,
        x: Tensor,
        encoded: Tensor,
        action: Tensor,
        weights: Tensor,
        log_policy: Tensor,
        offset: Tensor,
    ) -> Metrics:
        """Steps of modelling policies and TRD-Net, and this update's δ (Eq. 6 and 7)."""
        hyper = self.hyper
        loss, drift, metrics = self._modelling_loss(x, action, weights, log_policy)
        gradient = steps.gradient(loss, self.modelling)
        metrics["modelling_grad_norm"] = self._clip_agents(gradient, self.hyper.modelling_clip)
        self.modelling_optimiser.step()
        explored = self._explored()
        for _ in range(hyper.theta_steps):
            loss, more = self._trd_loss(x, encoded, explored, weights, drift)
            gradient = steps.gradient(loss, self.trd)
            norm = steps.clip(gradient, hyper.critic_clip_per_agent * self.num_agents)
            self.trd_optimiser.step()
            metrics |= more | {"trd_grad_norm": norm}
        _blend(self.target_trd, self.trd, hyper.trd_tau)
        self.offset = hyper.delta_exploration * offset
        self.delta = self._explored().exp()
        return metrics

    def _modelling_loss(
        self, x: Tensor, action: Tensor, weights: Tensor, log_policy: Tensor
    ) -> tuple[Tensor, Tensor, Metrics]:
        logits = self.modelling(x)
        each, square = maths.modelling_losses(logits, action[self.others])
        expected = logits.detach().log_softmax(-1)
        divergence = maths.to_square(maths.categorical_kl(expected, log_policy[self.others]))
        drift = maths.nonstationarity(divergence, weights, self.hyper.nonstationarity_max)
        metrics = {"modelling_loss": each.detach(), "nonstationarity": drift.mean(-1)}
        return (each + self.hyper.modelling_regularisation * square).sum(), drift, metrics

    def _trd_loss(
        self, x: Tensor, encoded: Tensor, log_delta: Tensor, weights: Tensor, drift: Tensor
    ) -> tuple[Tensor, Metrics]:
        predicted = self.trd(x, encoded, log_delta, weights)
        loss = maths.trd_loss(predicted, drift)
        return loss, {"trd_loss": loss.detach(), "trd_kl": predicted.detach().mean(1)}

    def _log_policy(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """log π ``[n, B, A]`` and the logits' mean square ``[n]``."""
        logits = self.actor(x)
        return logits.log_softmax(-1), logits.square().mean((1, 2))

    @torch.no_grad()
    def _policy_weight(
        self, x: Tensor, log_policy: Tensor, log_old: Tensor, noise: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Metrics]:
        """Sampled actions; penalty − advantage, advantage and divergence, ``[n, B]`` each."""
        hyper = self.hyper
        action = (log_policy + noise).argmax(-1)
        values = self.critic.read(x, self._encode(action)[0])
        advantage = maths.advantage(values, log_policy, action)
        log_prob, log_old_prob = maths.select(log_policy, action), maths.select(log_old, action)
        q = getattr(hyper, "tsallis_q", 1.0)  # maac has no region, and KL is reported of it
        divergence = maths.tsallis_divergence(log_prob, log_old_prob, q)
        if self.algorithm == "maac":
            penalty = log_prob / hyper.soft_reward_scale
        else:
            penalty = divergence / self.delta[:, None]
        switching = maths.switching_cost(maths.categorical_kl(log_old, log_policy))
        metrics = {
            "policy_loss": (log_prob * (penalty - advantage)).mean(-1),
            "entropy": maths.entropy(log_policy).mean(-1),
            "local_kl": maths.categorical_kl(log_policy, log_old).mean(-1),
            "switching_cost": switching,
            "switching_cost_mean": switching.mean(),
        }
        return action, penalty - advantage, advantage, divergence, metrics

    def _policy_step(
        self, x: Tensor, log_policy: Tensor, square: Tensor, log_old: Tensor, noise: Tensor
    ) -> Metrics:
        """Mirror descent on the policies (Eq. 10)."""
        hyper, parameters = self.hyper, list(self.actor.parameters())
        action, weight, advantage, divergence, metrics = self._policy_weight(
            x, log_policy.detach(), log_old, noise
        )
        chosen = maths.select(log_policy, action)
        loss = ((chosen * weight).mean(-1) + hyper.logit_regularisation * square).sum()
        if self._asks_for_terms and (self.updates + 1) % hyper.delta_period == 0:
            self._pulls = [
                torch.autograd.grad((chosen * of).mean(-1).sum(), parameters, retain_graph=True)
                for of in (advantage, divergence)
            ]
        gradient = steps.gradient(loss, self.actor)
        norm = self._clip_agents(gradient, hyper.policy_clip)
        self._shrink = maths.clip_factor(norm, hyper.policy_clip)
        self.actor_optimiser.step()
        return metrics | {"policy_grad_norm": norm}

    @property
    def _asks_for_terms(self) -> bool:
        """Whether δ goes by the two terms of Eq. 8."""
        if self.algorithm != "mamt":
            return False
        return self.hyper.delta_rule == "penalty" or self.hyper.delta_shares == "trd_net"

    def _slow_step(self, x: Tensor, encoded: Tensor, weights: Tensor, kl: Tensor) -> None:
        """log δ by its rule, from this update's terms of Eq. 8 or its local KL ``[n]``."""
        hyper = self.hyper
        if self._asks_for_terms:
            slope = self._delta_slope(x, encoded, self._explored(), weights)
            self.terms = self._value_term() / self._explored().exp(), slope
        if hyper.delta_rule == "penalty":
            limit = hyper.delta_total_per_agent * self.num_agents
            self.log_delta.grad = -maths.delta_ascent(*self.terms, self.log_delta, limit)
            self.delta_optimiser.step()
            self.log_delta.clamp_(math.log(hyper.delta_min), math.log(hyper.delta_max))
            return
        if hyper.delta_shares == "coordination":
            target = -weights.mean(-1).sum(0).clamp_min(0.05).log()
        elif hyper.delta_shares == "trd_net":
            target = maths.relative(self.terms[0]) - maths.relative(self.terms[1])
        else:
            target = torch.zeros_like(kl)
        self.share = self.share + hyper.share_rate * (target - self.share)
        self.log_delta.copy_(maths.budgeted(self.log_delta, self.share, kl, hyper))

    def _delta_slope(
        self, x: Tensor, encoded: Tensor, log_delta: Tensor, weights: Tensor
    ) -> Tensor:
        """∂/∂log δ of Σ_i E[KL_i] by the slow average of TRD-Net, ``[n]``."""

        def cost(log_delta: Tensor) -> Tensor:
            return self.target_trd(x, encoded, log_delta, weights).mean(1).sum()

        return torch.func.grad(cost)(log_delta)

    @torch.no_grad()
    def _value_term(self) -> Tensor:
        """⟨g_A, P g_KL⟩ ``[n]``, P the preconditioner of the step that was just made."""
        advantage, divergence = self._pulls
        state = self.actor_optimiser.state
        second = [state[leaf]["exp_avg_sq"] for leaf in self.actor.parameters()]
        step = torch._foreach_sqrt(second)
        torch._foreach_div_(step, math.sqrt(1.0 - maths.ADAM_B2 ** (self.updates + 1)))
        torch._foreach_add_(step, self.hyper.adam_eps)
        pull = torch._foreach_div(list(divergence), step)
        inner = self.nets.agent_inner(list(advantage), pull, self.num_agents)
        return self.hyper.learning_rate * self._shrink * inner

    def _explored(self) -> Tensor:
        """log δ as the policies feel it, with its offset and within the clip."""
        low, high = math.log(self.hyper.delta_min), math.log(self.hyper.delta_max)
        return (self.log_delta + self.offset).clamp(low, high)

    def _clip_agents(self, gradient: list[Tensor], clip: float) -> Tensor:
        """Clips each agent's gradient; the norms ``[n]`` before."""
        norms = self.nets.agent_norms(gradient, self.num_agents)
        self.nets.agent_scale(gradient, maths.clip_factor(norms, clip))
        return norms

    @torch.no_grad()
    def _finish(self, mean: Tensor, var: Tensor) -> None:
        """Target networks, old policies, running statistics, count."""
        hyper = self.hyper
        _blend(self.target_actor, self.actor, hyper.target_tau)
        _blend(self.target_critic, self.critic, hyper.target_tau)
        if (self.updates + 1) % hyper.old_policy_period == 0:
            _blend(self.old_actor, self.actor, 1.0)
        self.norm_mean.lerp_(mean, 1.0 - maths.NORM_MOMENTUM)
        self.norm_var.lerp_(var, 1.0 - maths.NORM_MOMENTUM)
        self.updates += 1


def _frozen(net: nn.Module) -> Any:
    """A copy that is not trained by gradients."""
    return copy.deepcopy(net).requires_grad_(False)


@torch.no_grad()
def _blend(target: nn.Module, online: nn.Module, tau: float) -> None:
    """(1 − τ) target + τ online, in place."""
    torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), tau)
