"""On-policy actor-critic: PPO's clipped objective (Yu et al. 2021), regions that set the clip."""

from __future__ import annotations

from typing import Any, NamedTuple

import distrax
import jax
import jax.numpy as jnp

from mamt_jax.algorithms.critic_learner import CriticLearner
from mamt_jax.algorithms.critics import regression, values
from mamt_jax.algorithms.learner import (
    Actors,
    agent_major,
    batch_major,
    policy_metrics,
    reward_moments,
)
from mamt_jax.algorithms.optimisers import Optimised, step
from mamt_jax.algorithms.parts import VIEW_AXES, Critic, PolicyGradients, TrustRegion, View
from mamt_jax.algorithms.trust_region import policy_change
from mamt_jax.errors import ConfigError
from mamt_jax.networks import layers
from mamt_jax.ops import losses, proximal
from mamt_jax.ops.chunking import take
from mamt_jax.ops.masking import masked, masked_mean, seen
from mamt_jax.ops.returns import generalised_advantages
from mamt_jax.settings import PPO, Learning, Settings
from mamt_jax.types import Algorithm, Batch, Metrics, Params, Transition


class LearnerState(NamedTuple):
    """Everything that learns, for one seed."""

    actor: Optimised
    critic: Optimised
    norm: layers.NormState
    action_norm: layers.NormState
    returns: proximal.ReturnMoments
    region: Any


class Rollout(NamedTuple):
    """What the minibatches of one rollout are drawn from."""

    view: View
    """Under the policies and the critic that made it."""
    advantage: jax.Array
    """[n, B], standardised."""
    target: jax.Array
    """[n, B]: λ-returns, normalised."""


_ROLLOUT_AXES: Any = (VIEW_AXES, -1, -1)


def proximal_actor_critic(
    name: str, actors: Actors, critic: Critic, region: TrustRegion, settings: Settings
) -> Algorithm:
    """PPO, as pure functions.

    The critic's value of (o, a_{-i}) has the agent's own action left out: a baseline that takes
    the others' actions into account, as MADDPG's critics do.

    Args:
      name: of the algorithm.
      actors: policies.
      critic: with one output for all own actions, and with ``rescale``.
      region: trust region; agents without one have PPO's own clip range.
      settings: of the algorithm.

    Raises:
      ConfigError: if the critic cannot be rescaled.
    """
    if critic.rescale is None:
        raise ConfigError(
            f"{name} needs a critic with a rescale function, because it learns normalised returns."
        )
    parts = ProximalActorCritic(actors, settings, critic, region)
    return Algorithm(name, parts.init, parts.act, parts.greedy, parts.update, inspect=parts.inspect)


class ProximalActorCritic(CriticLearner):
    """The update: advantages of the rollout, then epochs of minibatches."""

    @property
    def own(self) -> PPO:
        """Settings of PPO."""
        return self.settings[PPO]

    def init(self, key: jax.Array) -> LearnerState:
        """State before any update."""
        game = self.game
        actor_key, critic_key, region_key = jax.random.split(key, 3)
        return LearnerState(
            actor=self.actors.init(actor_key),
            critic=self.new_critic(self.critic.init(critic_key)),
            norm=layers.init_norm(game.num_agents, game.obs_size),
            action_norm=layers.init_norm(game.num_agents, game.num_actions),
            returns=proximal.init_return_moments(game.num_agents),
            region=self.region.init(region_key),
        )

    def update(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """All epochs on one rollout; metrics are means over the minibatches."""
        own = self.own
        prepare_key, learn_key = jax.random.split(key)
        state, rollout, metrics = self._prepare(state, prepare_key, batch, count)
        total = rollout.advantage.shape[1]
        size = total // own.ppo_minibatches
        before = count * own.ppo_epochs * own.ppo_minibatches

        def epoch(state: LearnerState, inputs: tuple[Any, Any]) -> tuple[LearnerState, Metrics]:
            key, number = inputs
            shuffle_key, key = jax.random.split(key)
            order = jax.random.permutation(shuffle_key, total)
            rows = order[: size * own.ppo_minibatches].reshape(-1, size)
            keys = jax.random.split(key, own.ppo_minibatches)
            counts = before + number * len(rows) + jnp.arange(len(rows))

            def minibatch(
                state: LearnerState, inputs: tuple[Any, ...]
            ) -> tuple[LearnerState, Metrics]:
                key, rows, count = inputs
                part = Rollout(*take(tuple(rollout), _ROLLOUT_AXES, rows))
                return self._minibatch(state, key, part, count)

            return jax.lax.scan(minibatch, state, (keys, rows, counts))

        keys = jax.random.split(learn_key, own.ppo_epochs)
        state, each = jax.lax.scan(epoch, state, (keys, jnp.arange(own.ppo_epochs)))
        return state, metrics | jax.tree.map(lambda leaf: jnp.mean(leaf, axis=(0, 1)), each)

    def inspect(
        self, state: LearnerState, obs: jax.Array, action: jax.Array, alive: jax.Array | None
    ) -> dict[str, jax.Array]:
        """See ``Algorithm.inspect``; values, of (o, a_{-i}), in units of the reward.

        Old policies are not kept, and the advantages that training uses are of whole episodes:
        neither local KL nor advantages of one step.
        """
        view = self.seen(state, obs, action, alive)
        assert view.trace is not None
        mean, std = state.returns.mean_and_std()
        value = mean[:, None] + std[:, None] * view.trace.q[..., 0]
        found = {"probability": jnp.exp(view.log_policy), "value": value}
        return batch_major(found | self.described(state, view), view.alive)

    def _prepare(
        self, state: LearnerState, key: jax.Array, batch: Batch, count: jax.Array
    ) -> tuple[LearnerState, Rollout, Metrics]:
        """State with new running moments, the rollout, and metrics.

        The policies that made the rollout are held against it under the moments that the updates
        use, so that all ratios start at 1.
        """
        steps, envs = batch.sample.action.shape[:2]
        finished = batch.sample.finished
        assert finished is not None
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch.sample)
        sample = agent_major(batch._replace(sample=flat._replace(finished=None))).sample
        state, view = self._view_of_rollout(state, key, sample, count)
        alive, num_agents = sample.alive, self.game.num_agents
        value, bootstrap = self._values(state, key, view, sample)

        def in_time(leaf: jax.Array) -> jax.Array:
            return jnp.swapaxes(leaf.reshape(num_agents, steps, envs), 0, 1)

        advantage = generalised_advantages(
            in_time(sample.reward),
            in_time(value),
            in_time(bootstrap),
            in_time(sample.terminated),
            _last_steps(finished, None if alive is None else in_time(alive), num_agents),
            self.settings[Learning].discount,
            self.own.gae_lambda,
        )
        advantage = jnp.swapaxes(advantage, 0, 1).reshape(num_agents, -1)
        returns = advantage + value
        state, target = self._normalised(state, returns, alive)
        explained = proximal.explained_variance(value, returns, alive)
        metrics = reward_moments(batch) | {"explained_variance": explained}
        return state, Rollout(view, proximal.standardise(advantage, alive), target), metrics

    def _view_of_rollout(
        self, state: LearnerState, key: jax.Array, sample: Transition, count: jax.Array
    ) -> tuple[LearnerState, View]:
        """State with new statistics of observations and actions, and the rollout under them.

        Observations under the running statistics, actions under the rollout's own.
        """
        obs, action, alive = sample.obs, sample.action, sample.alive
        one_hot = jax.nn.one_hot(action, self.game.num_actions)
        norm = _cumulative(state.norm, layers.statistics(obs, alive), count, alive)
        own = layers.statistics(one_hot, alive)
        running = _cumulative(state.action_norm, own, count, alive)
        view = self.view(state, key, obs, action, alive, norm, own)
        return state._replace(norm=norm, action_norm=running), view

    def _values(
        self, state: LearnerState, key: jax.Array, view: View, sample: Transition
    ) -> tuple[jax.Array, jax.Array]:
        """Values ``[n, B]`` in units of reward: at the rollout's steps, and at their successors.

        The latter are for where a trajectory was cut: the others' actions there were never taken
        and are drawn from their policies. Elsewhere the successor's value is the next step's own.
        """
        alive = view.alive
        mean, std = state.returns.mean_and_std()
        next_x = layers.normalise(view.obs_norm, sample.next_obs, alive)
        drawn = distrax.Categorical(logits=self.actors.logits(state.actor.params, next_x)[0])
        next_action = jax.nn.one_hot(drawn.sample(seed=key), self.game.num_actions)
        staying = None if alive is None else alive & ~sample.terminated
        next_encoded = layers.normalise(view.action_norm, next_action, staying)

        def value(x: jax.Array, encoded: jax.Array, alive: jax.Array | None) -> jax.Array:
            normalised = values(self.critic, view.critic_params, x, encoded, alive)[..., 0]
            return mean[:, None] + std[:, None] * normalised

        return value(view.x, view.encoded, alive), value(next_x, next_encoded, staying)

    def _normalised(
        self, state: LearnerState, returns: jax.Array, alive: jax.Array | None
    ) -> tuple[LearnerState, jax.Array]:
        """State with these returns ``[n, B]`` in its moments, and the returns in units of them.

        The critic's values, in units of reward, stay as they are (PopArt).
        """
        assert self.critic.rescale is not None
        moments = proximal.add_returns(state.returns, returns, alive)
        mean, std = moments.mean_and_std()
        old = state.returns.mean_and_std()
        critic = state.critic._replace(
            params=self.critic.rescale(state.critic.params, old, (mean, std))
        )
        state = state._replace(critic=critic, returns=moments)
        return state, (returns - mean[:, None]) / std[:, None]

    def _minibatch(
        self, state: LearnerState, key: jax.Array, rows: Rollout, count: jax.Array
    ) -> tuple[LearnerState, Metrics]:
        """One step of everything that learns; ``count`` is that of minibatches before."""
        own = self.own
        view = rows.view._replace(
            key=key,
            log_policy=self.actors.log_policy(state.actor.params, rows.view.x),
            critic_params=state.critic.params,
        )
        gradient, view, metrics = regression(
            self.critic,
            view,
            rows.target,
            lambda value, target: proximal.huber(value, target, own.huber_delta),
        )
        region, view, more = self.region.observe(state.region, view)
        metrics |= more
        actor, gradients, more = self._policy_step(state.actor, region, view, rows.advantage)
        metrics |= more
        region, more = self.region.adapt(region, view, gradients, count)
        critic = step(self.critic_optimiser, state.critic, gradient)
        return state._replace(actor=actor, critic=critic, region=region), metrics | more

    def _policy_step(
        self, actor: Optimised, region: Any, view: View, advantage: jax.Array
    ) -> tuple[Optimised, PolicyGradients, Metrics]:
        """One step on the clipped objective and the entropy bonus.

        A region δ_i is as wide, in KL, as the clip range ε_i allows: ε²/2 to second order. δ_i = 1
        stands for PPO's own range, so ε_i = ε √δ_i.
        """
        actors, own, alive = self.actors, self.own, view.alive
        regularisation = self.settings[Learning].logit_regularisation
        delta = self.region.delta(region)
        clip = (own.ppo_clip * jnp.sqrt(delta))[:, None]
        log_old = losses.select(view.log_old_policy, view.action)

        def loss(params: Params) -> tuple[jax.Array, jax.Array]:
            masked_logits, raw = actors.logits(params, view.x)
            policy = distrax.Categorical(logits=masked_logits)
            log_prob = losses.select(jax.nn.log_softmax(masked_logits), view.action)
            gain = proximal.clipped_objective(log_prob, log_old, advantage, clip)
            objective = -masked_mean(gain, alive, axis=-1)
            bonus = own.ppo_entropy * masked_mean(policy.entropy(), alive, axis=-1)
            square = losses.mean_square_logit(raw, self.game.action_counts, alive)
            return jnp.sum(objective - bonus + regularisation * square), objective

        gradient, objective = jax.grad(loss, has_aux=True)(actor.params)
        log_prob = losses.select(view.log_policy, view.action)
        binds = proximal.clip_binds(log_prob, log_old, advantage, clip)
        # ∂V/∂ε = E[|A| where the clip binds], dε/dδ = ε/(2δ)
        gained = masked_mean(jnp.where(binds, jnp.abs(advantage), 0.0), alive, axis=-1)
        by_region = 0.5 * gained * clip[:, 0] * delta
        metrics = policy_metrics(objective, gradient, view.log_policy, alive) | policy_change(view)
        metrics |= {"clip_fraction": masked_mean(binds.astype(jnp.float32), alive, axis=-1)}
        gradients = PolicyGradients(lambda: by_region, by_region)
        return step(actors.optimiser, actor, gradient), gradients, metrics


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
