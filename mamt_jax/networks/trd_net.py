"""Trust-region decomposition network (Fig. 1; Fig. 11, bottom), on jraph."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import jraph
import numpy as np

from mamt_jax.networks.layers import AgentDense, SharedDense, leaky_relu


def agent_graph(nodes: jax.Array, coordination: jax.Array) -> jraph.GraphsTuple:
    """Fully connected graph of agents with self-loops, edges weighted by normalised C_ij.

    Self-loops weigh 1. The edge from j to i carries C_ij/√(d_i d_j) with d_i = 1 + Σ_j C_ij, so an
    edge that the threshold set to zero neither sends nor counts.

    Args:
      nodes: ``[n, B, H]``.
      coordination: ``[n, n, B]`` with a zero diagonal.

    Returns:
      One graph whose nodes and edges carry the batch behind their first axis. Edges are ordered by
      receiver, n for each.
    """
    num_agents = nodes.shape[0]
    degree = 1.0 + jnp.sum(coordination, axis=1)
    weight = coordination + np.eye(num_agents, dtype=np.float32)[:, :, None]
    weight = weight * jax.lax.rsqrt(degree[:, None] * degree[None, :])
    return jraph.GraphsTuple(
        nodes=nodes,
        edges=weight.reshape(num_agents**2, -1),
        senders=np.tile(np.arange(num_agents), num_agents),
        receivers=np.repeat(np.arange(num_agents), num_agents),
        globals=None,
        n_node=np.array([num_agents]),
        n_edge=np.array([num_agents**2]),
    )


class TRDNet(nn.Module):
    """Predicts each agent's share KL_i of the joint policy divergence from (o, a, C, δ).

    Input encoders belong to agents, because observations differ between agents. All else is the
    graph's and shared: one agent's region weighs more than another's only through the
    observations and through C, by which it reaches the others. δ is embedded linearly, without a
    bias and from zero: what drifts with time cannot be put down to a δ that stands still, and the
    prediction depends on δ only as far as data have shown it.

    Attributes:
      obs_sizes: observation size of each agent.
      num_actions: A.
      hidden_size: H.
      monotone: whether KL_i may only grow with every δ_j: all weights between an embedding and the
        output enter by absolute value.
    """

    obs_sizes: tuple[int, ...]
    num_actions: int
    hidden_size: int
    monotone: bool = False

    @nn.compact
    def __call__(
        self, x: jax.Array, action: jax.Array, log_delta: jax.Array, coordination: jax.Array
    ) -> jax.Array:
        """Predicts KL_i ``[n, B]``.

        Inputs are normalised ``[n, B, O]`` and ``[n, B, A]``, log δ ``[n]`` and C ``[n, n, B]``.
        Before it has seen data the prediction does not depend on δ, unless it is monotone.
        """
        hidden, sign = self.hidden_size, self.monotone
        pair = tuple(size + self.num_actions for size in self.obs_sizes)
        encoded = AgentDense(hidden, pair, name="encode_obs")(x)
        encoded += AgentDense(hidden, pair, use_bias=False, name="encode_action")(action)
        node = SharedDense(hidden, 2 * hidden, name="node")(leaky_relu(encoded))
        by_delta = SharedDense(hidden, 2 * hidden, False, sign, zero_init=not sign, name="delta")
        node = leaky_relu(node + by_delta(log_delta[:, None, None]))
        hop = leaky_relu(self._convolve(node, coordination))
        joint = SharedDense(hidden, 2 * hidden, monotone=sign, name="kl_node")(node)
        joint += SharedDense(hidden, 2 * hidden, False, sign, name="kl_graph")(hop)
        out = SharedDense(1, monotone=sign, name="kl_out")(leaky_relu(joint))
        return jax.nn.squareplus(out[..., 0], b=1.0)

    def _convolve(self, nodes: jax.Array, coordination: jax.Array) -> jax.Array:
        """One weighted graph convolution: ``[n, B, H] -> [n, B, H]``."""
        num_agents = nodes.shape[0]
        dense = SharedDense(self.hidden_size, monotone=self.monotone, name="convolution")

        def by_receiver(edges: jax.Array, *_: object) -> jax.Array:
            return jnp.sum(edges.reshape(num_agents, num_agents, *edges.shape[1:]), axis=1)

        network = jraph.GraphNetwork(
            update_edge_fn=lambda edges, sent, received, _: edges[..., None] * sent,
            update_node_fn=lambda node, sent, received, _: received,
            aggregate_edges_for_nodes_fn=by_receiver,
        )
        return network(agent_graph(dense(nodes), coordination)).nodes
