"""The attention critic as a part, and what is done with any critic."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from mamt_jax.algorithms.optimisers import global_norm
from mamt_jax.algorithms.parts import VIEW_AXES, Critic, View
from mamt_jax.networks.critic import SHARED_OVER_AGENTS, AttentionCritic
from mamt_jax.ops import losses
from mamt_jax.ops.chunking import in_chunks
from mamt_jax.ops.masking import alive_pairs, masked, masked_mean, off_diagonal
from mamt_jax.settings import AttentionNetworks, Settings
from mamt_jax.types import Game, Metrics, Params


def attention_critic(game: Game, settings: Settings, own_actions: bool = True) -> Critic:
    """MAAC's critic (Iqbal & Sha 2019).

    Args:
      game: sizes of the environment.
      settings: of the algorithm.
      own_actions: whether it has a value for every own action, or one with the own action left out.
    """
    outputs = game.num_actions if own_actions else 1
    sizes = settings[AttentionNetworks]
    net = AttentionCritic(
        game.obs_sizes, game.num_actions, sizes.hidden_size, sizes.attention_heads, outputs
    )

    def init(key: jax.Array) -> Params:
        lead = game.num_agents, 1
        return net.init(
            key, jnp.zeros((*lead, game.obs_size)), jnp.zeros((*lead, game.num_actions))
        )

    def effect(view: View) -> jax.Array:
        method = AttentionCritic.counterfactual_effect
        policy = jnp.exp(view.log_policy)
        arguments = view.trace, view.action, policy, view.action_encoding, view.alive
        return net.apply(view.critic_params, *arguments, method=method)

    return Critic(
        init=init,
        apply=net.apply,
        width=game.num_agents * sizes.hidden_size,
        effect=effect,
        attention=lambda trace: trace.weights,
        penalty=lambda trace, alive: losses.attention_penalty(trace.logits, alive),
        balance=lambda gradient: scale_shared(gradient, game.num_agents),
        rescale=_rescale_head,
    )


def scale_shared(gradient: Params, num_agents: int) -> Params:
    """Divides by n the gradient of what all agents' losses reach (as the released code does)."""
    scaled = {
        module: jax.tree.map(lambda leaf: leaf / num_agents, leaves)
        if module in SHARED_OVER_AGENTS
        else leaves
        for module, leaves in gradient["params"].items()
    }
    return {"params": scaled}


def _rescale_head(
    params: Params, old: tuple[jax.Array, jax.Array], new: tuple[jax.Array, jax.Array]
) -> Params:
    """The last layer takes up the change (van Hasselt et al. 2016, Eq. 9)."""
    (old_mean, old_std), (mean, std) = old, new
    modules = dict(params["params"])
    out = modules["head_out"]
    modules["head_out"] = {
        "kernel": out["kernel"] * (old_std / std)[:, None, None],
        "bias": (out["bias"] * old_std[:, None] + (old_mean - mean)[:, None]) / std[:, None],
    }
    return {"params": modules}


def values(
    critic: Critic, params: Params, x: jax.Array, encoded: jax.Array, alive: jax.Array | None
) -> jax.Array:
    """The critic's output ``[n, B, ·]`` at normalised observations and actions."""

    def apply(x: jax.Array, encoded: jax.Array) -> jax.Array:
        return critic.apply(params, x, encoded, alive).q

    return in_chunks(apply, (-2, -2), -2, critic.width, alive)(x, encoded)


def regression(
    critic: Critic,
    view: View,
    target: jax.Array,
    error: losses.ErrorFunction,
    penalty: float | None = None,
) -> tuple[Params, View, Metrics]:
    """Gradient of the critic's regression and, from the same pass, the view with its trace.

    Args:
      critic: any.
      view: of the batch, with the critic's parameters.
      target: ``[n, B]``, a constant.
      error: of predictions and targets.
      penalty: factor on the critic's own penalty; None goes without it.
    """

    def loss(params: Params, view: View, target: jax.Array) -> tuple[jax.Array, Any]:
        trace = critic.apply(params, view.x, view.encoded, view.alive)
        q = losses.select_output(trace.q, view.action)
        deviation = masked_mean(error(q, target), view.alive, axis=-1)
        metrics = {"critic_loss": deviation, "q_mean": masked_mean(q, view.alive, axis=-1)}
        if critic.attention is not None:
            weights = critic.attention(trace)
            metrics["attention_entropy"] = attention_entropy(weights, view.alive)
        if critic.penalty is not None and penalty is not None:
            deviation += penalty * critic.penalty(trace, view.alive)
        return jnp.sum(deviation), (trace, metrics)

    def learn(view: View, target: jax.Array) -> tuple[Params, Any, Metrics]:
        gradient, (trace, metrics) = jax.grad(loss, has_aux=True)(view.critic_params, view, target)
        return gradient, trace, metrics

    chunked = in_chunks(learn, (VIEW_AXES, -1), (None, -2, None), critic.width, view.alive)
    gradient, trace, metrics = chunked(view, target)
    gradient = critic.balance(gradient)
    metrics |= {"critic_grad_norm": global_norm(gradient)}
    return gradient, view._replace(trace=trace), metrics


def counterfactual_effect(critic: Critic, view: View) -> jax.Array:
    """|Q_i(a\\j) − Q_i(a)| ``[n, n, B]``, exact, at the batch's actions (Eq. 5).

    A critic that knows no faster way is evaluated at every action of every agent.
    """

    def effect(view: View) -> jax.Array:
        return critic.effect(view) if critic.effect else _by_enumeration(critic, view)

    num_actions = view.log_policy.shape[-1]
    return in_chunks(effect, (VIEW_AXES,), -1, critic.width * num_actions, view.alive)(view)


def _by_enumeration(critic: Critic, view: View) -> jax.Array:
    """The same by n·A evaluations."""
    num_agents, _, num_actions = view.log_policy.shape
    assert view.trace is not None
    actual, policy = losses.select_output(view.trace.q, view.action), jnp.exp(view.log_policy)
    encoding = view.action_encoding

    def value(other: jax.Array, action: jax.Array) -> jax.Array:
        """Q_i ``[n, B]`` had agent ``other`` done this instead."""
        row = jnp.broadcast_to(encoding[other, action], view.encoded[0].shape)
        changed = view.encoded.at[other].set(row)
        q = critic.apply(view.critic_params, view.x, masked(changed, view.alive), view.alive).q
        return losses.select_output(q, view.action)

    def effect(other: jax.Array) -> jax.Array:
        each = jax.lax.map(lambda action: value(other, action), jnp.arange(num_actions))
        mean = jnp.sum(policy[other].T[:, None] * each, axis=0)
        return jnp.abs(mean - actual)

    effects = jax.lax.map(effect, jnp.arange(num_agents))  # by the agent that is marginalised out
    square = masked(jnp.swapaxes(effects, 0, 1), off_diagonal(num_agents))
    return masked(square, alive_pairs(view.alive))


def attention_entropy(weights: jax.Array, alive: jax.Array | None) -> jax.Array:
    """Mean entropy of each agent's attention, per head: ``[n, n, B, K] -> [n, K]``, nats."""
    return masked_mean(jnp.sum(jax.scipy.special.entr(weights), axis=1), alive, axis=1)
