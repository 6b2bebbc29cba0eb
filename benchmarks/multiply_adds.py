"""How many multiply-adds an update of MAAC needs, and how fast the machine could make them.

Counted are matrix products and attention. What is linear in the batch (batch normalisation,
activations, losses) and what does not depend on it (Adam) is not: it is overhead, as everything
else that a program does besides.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Passes(NamedTuple):
    """Multiply-adds per sample, of all agents."""

    forward: int
    backward: int
    """Gradients of the parameters, and of the activations on the way to them."""


def actor(obs_sizes: Sequence[int], actions: int, hidden: int) -> Passes:
    """Observation -> hidden -> hidden -> logits, for every agent."""
    inputs = sum(obs_sizes) * hidden
    rest = len(obs_sizes) * (hidden * hidden + hidden * actions)
    return Passes(inputs + rest, inputs + 2 * rest)


def critic(obs_sizes: Sequence[int], actions: int, hidden: int, scores: bool = True) -> Passes:
    """The attention critic of all agents.

    Without ``scores`` the query and key maps and their products are left out: with two agents a
    softmax over the only opponent is 1, and only the penalty on the scores needs them.
    """
    n = len(obs_sizes)
    inputs = sum(2 * size + actions for size in obs_sizes) * hidden
    maps = n * hidden * hidden * (5 if scores else 3)  # value, two of the head; query, key
    out = n * hidden * actions
    attention = n * (n - 1) * hidden * (2 if scores else 1)
    rest = maps + out + attention
    return Passes(inputs + rest, inputs + 2 * rest)


def maac_update(
    obs_sizes: Sequence[int], actions: int, hidden: int = 128, batch: int = 1024
) -> int:
    """Multiply-adds of one update.

    Target policies and critics forward, critics forward and backward, policies forward and
    backward, critics forward at the policies' actions.
    """
    policy = actor(obs_sizes, actions, hidden)
    trained = critic(obs_sizes, actions, hidden)
    read = critic(obs_sizes, actions, hidden, scores=len(obs_sizes) > 2)
    return batch * (sum(trained) + 2 * read.forward + sum(policy) + policy.forward)


def matrix_peak(size: int = 2048, repetitions: int = 15) -> float:
    """Multiply-adds per second of large float32 matrix products: the faster of XLA and NumPy's.

    Uses all cores that the process may use.
    """
    import jax
    import jax.numpy as jnp

    x = np.random.default_rng(0).random((size, size), np.float32)
    on_device = jnp.asarray(x)
    product = jax.jit(jnp.matmul)

    def fastest(work: object) -> float:
        assert callable(work)
        work()
        times = []
        for _ in range(repetitions):
            begin = time.perf_counter()
            work()
            times.append(time.perf_counter() - begin)
        return min(times)

    both = (lambda: product(on_device, on_device).block_until_ready(), lambda: x @ x)
    if jax.default_backend() != "cpu":
        with jax.default_matmul_precision("float32"):
            return size**3 / fastest(both[0])
    return size**3 / min(fastest(work) for work in both)
