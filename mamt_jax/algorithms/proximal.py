"""On-policy actor-critic: PPO's clipped objective (Yu et al. 2021), regions that set the clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp

from mamt_jax.algorithms.learner import (
    Learner,
    Networks,
    agent_major,
    critic_regression,
    policy_metrics,
    reward_moments,
)
from mamt_jax.algorithms.optimisers import Optimised, step
from mamt_jax.algorithms.trust_region import PolicyGradients, TrustRegion, View, drift
from mamt_jax.config import AlgorithmConfig
from mamt_jax.networks import layers
from mamt_jax.ops import losses, proximal
from mamt_jax.ops.masking import masked, masked_mean, seen
from mamt_jax.ops.returns import generalised_advantages
from mamt_jax.types import Algorithm, Batch, Metrics, Params, Transition


class LearnerState(NamedTuple):
    """Everything that learns, for one seed."""

    actor: Optimised
    critic: Optimised
    norm: layers.NormState
    returns: proximal.ReturnMoments
    region: Any


class Rollout(NamedTuple):
    """What the minibatches of one rollout are drawn from. Agent-major, ``[n, B, ...]``."""

    x: jax.Array
    """Normalised observations."""
    action: jax.Array
    encoded: jax.Array
    """Normalised one-hot actions."""
    log_old: jax.Array
    """[n, B, A]: the policies that made the rollout."""
    advantage: jax.Array
    """Standardised."""
    target: jax.Array
    """λ-returns, normalised."""
    alive: jax.Array | None


def proximal_actor_critic(
    name: str, networks: Networks, hyper: AlgorithmConfig, region: TrustRegion
) -> Algorithm:
    """PPO with an attention critic of one output, as pure functions.

    The critic's value of (o, a_{-i}) has the agent's own action left out: a baseline that takes
    the others' actions into account, as MADDPG's critics do.
    """
    parts = ProximalActorCritic(networks, hyper, region)
    return Algorithm(name, parts.init, parts.act, parts.greedy, parts.update, on_policy=True)


@dataclass(frozen=True)
class ProximalActorCritic(Learner):
    """The update: advantages of the rollout, then epochs of minibatches."""

    region: TrustRegion

    def init(self, key: jax.Array) -> LearnerState:
        """State before any update."""
        networks, game = self.networks, self.networks.game
        actor_key, critic_key, region_key = jax.random.split(key, 3)
        x = networks.no_obs()
        action = jnp.zeros((*x.shape[:2], game.num_actions))
        return LearnerState(
            actor=networks.init_actor(actor_key),
            critic=networks.init_critic(critic_key, x, action),
            norm=layers.init_norm(len(x), x.shape[-1]),
            returns=proximal.init_return_moments(len(x)),
            region=self.region.init(region_key),
        )

    def update(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """All epochs on one rollout; metrics are means over the minibatches."""
        hyper = self.hyper
        prepare_key, learn_key = jax.random.split(key)
        state, rollout, table, metrics = self._prepare(state, prepare_key, batch, count)
        total = rollout.action.shape[1]
        size = total // hyper.ppo_minibatches
        before = count * hyper.ppo_epochs * hyper.ppo_minibatches

        def epoch(state: LearnerState, inputs: tuple[Any, Any]) -> tuple[LearnerState, Metrics]:
            key, number = inputs
            shuffle_key, key = jax.random.split(key)
            order = jax.random.permutation(shuffle_key, total)
            rows = order[: size * hyper.ppo_minibatches].reshape(-1, size)
            keys = jax.random.split(key, hyper.ppo_minibatches)
            counts = before + number * len(rows) + jnp.arange(len(rows))

            def minibatch(
                state: LearnerState, inputs: tuple[Any, ...]
            ) -> tuple[LearnerState, Metrics]:
                key, rows, count = inputs
                part = jax.tree.map(lambda leaf: jnp.take(leaf, rows, axis=1), rollout)
                return self._minibatch(state, key, part, table, count)

            return jax.lax.scan(minibatch, state, (keys, rows, counts))

        keys = jax.random.split(learn_key, hyper.ppo_epochs)
        state, each = jax.lax.scan(epoch, state, (keys, jnp.arange(hyper.ppo_epochs)))
        return state, metrics | jax.tree.map(lambda leaf: jnp.mean(leaf, axis=(0, 1)), each)

    def _prepare(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Rollout, jax.Array, Metrics]:
        """State with new running moments, the rollout, one-hot actions encoded, and metrics.

        The policies that made the rollout are held against it under the moments that the updates
        use, so that all ratios start at 1.
        """
        networks, game = self.networks, self.networks.game
        steps, envs = batch.sample.action.shape[:2]
        finished = batch.sample.finished
        assert finished is not None
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch.sample)
        sample = agent_major(batch._replace(sample=flat._replace(finished=None))).sample
        alive = sample.alive
        _, stats = layers.batch_norm(sample.obs, alive)
        norm = _cumulative(state.norm, stats, count, alive)
        x = masked(layers.apply_norm(norm, sample.obs), alive)
        encoded, action_stats = networks.encode(sample.action, alive)
        one_hot = jnp.eye(game.num_actions)
        table = layers.apply_norm(action_stats, jnp.broadcast_to(one_hot, (len(x), *one_hot.shape)))
        value, bootstrap = self._values(state, key, norm, x, encoded, action_stats, sample)

        def in_time(leaf: jax.Array) -> jax.Array:
            return jnp.swapaxes(leaf.reshape(len(x), steps, envs), 0, 1)

        advantage = generalised_advantages(
            in_time(sample.reward),
            in_time(value),
            in_time(bootstrap),
            in_time(sample.terminated),
            _last_steps(finished, None if alive is None else in_time(alive), len(x)),
            self.hyper.discount,
            self.hyper.gae_lambda,
        )
        advantage = jnp.swapaxes(advantage, 0, 1).reshape(len(x), -1)
        returns = advantage + value
        moments = proximal.add_returns(state.returns, returns, alive)
        critic = _rescaled(state.critic, state.returns, moments)
        mean, std = moments.mean_and_std()
        rollout = Rollout(
            x=x,
            action=sample.action,
            encoded=encoded,
            log_old=networks.log_policy(state.actor.params, x),
            advantage=proximal.standardise(advantage, alive),
            target=(returns - mean[:, None]) / std[:, None],
            alive=alive,
        )
        explained = proximal.explained_variance(value, returns, alive)
        metrics = reward_moments(batch) | {"explained_variance": explained}
        state = state._replace(critic=critic, norm=norm, returns=moments)
        return state, rollout, table, metrics

    def _values(
        self,
        state: LearnerState,
        key: jax.Array,
        norm: layers.NormState,
        x: jax.Array,
        encoded: jax.Array,
        action_stats: layers.NormState,
        sample: Transition,
    ) -> tuple[jax.Array, jax.Array]:
        """Values ``[n, B]`` in units of reward: at the rollout's steps, and at their successors.

        The latter are for where a trajectory was cut: the others' actions there were never taken
        and are drawn from their policies. Elsewhere the successor's value is the next step's own.
        """
        networks, alive = self.networks, sample.alive
        mean, std = state.returns.mean_and_std()
        next_x = masked(layers.apply_norm(norm, sample.next_obs), alive)
        drawn = distrax.Categorical(logits=networks.logits(state.actor.params, next_x)[0])
        next_action = jax.nn.one_hot(drawn.sample(seed=key), networks.game.num_actions)
        staying = None if alive is None else alive & ~sample.terminated
        next_encoded = masked(layers.apply_norm(action_stats, next_action), staying)

        def value(x: jax.Array, encoded: jax.Array, alive: jax.Array | None) -> jax.Array:
            normalised = networks.values(state.critic.params, x, encoded, alive)[..., 0]
            return mean[:, None] + std[:, None] * normalised

        return value(x, encoded, alive), value(next_x, next_encoded, staying)

    def _minibatch(
        self,
        state: LearnerState,
        key: jax.Array,
        rows: Rollout,
        table: jax.Array,
        count: jax.Array,
    ) -> tuple[LearnerState, Metrics]:
        """One step of everything that learns; ``count`` is that of minibatches before."""
        networks, hyper = self.networks, self.hyper
        gradient, trace, metrics = critic_regression(
            networks,
            state.critic.params,
            rows.x,
            rows.encoded,
            rows.action,
            rows.target,
            rows.alive,
            lambda value, target: proximal.huber(value, target, hyper.huber_delta),
            hyper.critic_regularisation,
        )
        view = View(
            key=key,
            x=rows.x,
            action=rows.action,
            encoded_action=rows.encoded,
            action_encoding=table,
            log_policy=networks.log_policy(state.actor.params, rows.x),
            log_old_policy=rows.log_old,
            critic_params=state.critic.params,
            trace=trace,
            recent_x=rows.x,
            recent_action=rows.action,
            alive=rows.alive,
            recent_alive=rows.alive,
        )
        region, memo, more = self.region.observe(state.region, view)
        metrics |= more
        actor, gradients, more = self._policy_step(state.actor, region, view, rows.advantage)
        metrics |= more
        region, more = self.region.adapt(region, memo, gradients, count)
        critic = step(networks.critic_optimiser, state.critic, gradient)
        return state._replace(actor=actor, critic=critic, region=region), metrics | more

    def _policy_step(
        self, actor: Optimised, region: Any, view: View, advantage: jax.Array
    ) -> tuple[Optimised, PolicyGradients, Metrics]:
        """One step on the clipped objective and the entropy bonus.

        A region δ_i is as wide, in KL, as the clip range ε_i allows: ε²/2 to second order. δ_i = 1
        stands for PPO's own range, so ε_i = ε √δ_i.
        """
        networks, hyper, alive = self.networks, self.hyper, view.alive
        delta = jnp.broadcast_to(self.region.delta(region), len(advantage))
        clip = (hyper.ppo_clip * jnp.sqrt(delta))[:, None]
        log_old = losses.select(view.log_old_policy, view.action)

        def loss(params: Params) -> tuple[jax.Array, jax.Array]:
            masked_logits, raw = networks.logits(params, view.x)
            policy = distrax.Categorical(logits=masked_logits)
            log_prob = losses.select(jax.nn.log_softmax(masked_logits), view.action)
            gain = proximal.clipped_objective(log_prob, log_old, advantage, clip)
            objective = -masked_mean(gain, alive, axis=-1)
            bonus = hyper.ppo_entropy * masked_mean(policy.entropy(), alive, axis=-1)
            square = losses.mean_square_logit(raw, networks.game.action_counts, alive)
            return jnp.sum(objective - bonus + hyper.logit_regularisation * square), objective

        gradient, objective = jax.grad(loss, has_aux=True)(actor.params)
        log_prob = losses.select(view.log_policy, view.action)
        binds = proximal.clip_binds(log_prob, log_old, advantage, clip)
        # ∂V/∂ε = E[|A| where the clip binds], dε/dδ = ε/(2δ)
        gained = masked_mean(jnp.where(binds, jnp.abs(advantage), 0.0), alive, axis=-1)
        by_region = 0.5 * gained * clip[:, 0] * delta
        metrics = policy_metrics(objective, gradient, view.log_policy, alive) | drift(view)
        metrics |= {"clip_fraction": masked_mean(binds.astype(jnp.float32), alive, axis=-1)}
        gradients = PolicyGradients(lambda: by_region, by_region)
        return step(networks.actor_optimiser, actor, gradient), gradients, metrics


def _last_steps(finished: jax.Array, alive: jax.Array | None, num_agents: int) -> jax.Array:
    """Where an agent takes no other step in the episode: ``[T, E], [T, n, E] -> [T, n, E]``.

    Also of an agent that is cut off, not terminated, in an episode that goes on without it.
    """
    steps, envs = finished.shape
    last = jnp.broadcast_to(finished[:, None], (steps, num_agents, envs))
    return last if alive is None else last.at[:-1].set(last[:-1] | ~alive[1:])


def _cumulative(
    running: layers.NormState, new: layers.NormState, count: jax.Array, alive: jax.Array | None
) -> layers.NormState:
    """Statistics of all rollouts alike, of which ``count`` were before this one.

    An agent that was not alive in this one keeps what it has.
    """
    share = 1.0 / (count.astype(jnp.float32) + 1.0)
    mean = running.mean + share * (new.mean - running.mean)
    var = (1.0 - share) * running.var + share * new.var
    var += share * (1.0 - share) * (new.mean - running.mean) ** 2
    known = seen(alive, axis=1)
    return layers.NormState(masked(mean, known, running.mean), masked(var, known, running.var))


def _rescaled(
    critic: Optimised, old: proximal.ReturnMoments, new: proximal.ReturnMoments
) -> Optimised:
    """The critic with the same values in units of reward under other moments (PopArt).

    Its last layer takes up the change (van Hasselt et al. 2016, Eq. 9).
    """
    (old_mean, old_std), (mean, std) = old.mean_and_std(), new.mean_and_std()
    modules = dict(critic.params["params"])
    out = modules["head_out"]
    modules["head_out"] = {
        "kernel": out["kernel"] * (old_std / std)[:, None, None],
        "bias": (out["bias"] * old_std[:, None] + (old_mean - mean)[:, None]) / std[:, None],
    }
    return critic._replace(params={"params": modules})
