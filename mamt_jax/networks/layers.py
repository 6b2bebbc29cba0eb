"""Linear layers with PyTorch's initialisation, per agent or shared, and input normalisation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from mamt_jax.ops.masking import Mask, masked, masked_mean, masked_var, seen

LEAK = 0.01
NORM_EPS = 1e-5
NORM_MOMENTUM = 0.9


def leaky_relu(x: jax.Array) -> jax.Array:
    """LeakyReLU with slope 0.01, as max(x, 0.01 x)."""
    return jnp.maximum(x, LEAK * x)


def torch_uniform(fan_in: Sequence[int]) -> Callable[..., jax.Array]:
    """PyTorch's Linear initialisation, U(−1/√fan_in, 1/√fan_in), one fan-in per leading index.

    With a single fan-in it serves every leading index.
    """

    def init(key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:
        bound = 1.0 / jnp.sqrt(jnp.asarray(fan_in, dtype))
        bound = bound.reshape((-1,) + (1,) * (len(shape) - 1)) if len(fan_in) > 1 else bound[0]
        return jax.random.uniform(key, shape, dtype, -1.0, 1.0) * bound

    return init


def parameter(
    module: nn.Module, name: str, init: Callable[..., jax.Array], shape: tuple[int, ...]
) -> jax.Array:
    """``module.param(name, init, shape)``, without tracing what is not computed.

    Where the parameter is there already, flax traces its initialiser, only to compare shapes: a
    quarter of the time that tracing an update takes.
    """
    kept = module.get_variable("params", name)
    if kept is not None and kept.shape == shape:
        return kept
    return module.param(name, init, shape)  # which says what is wrong with a shape


def positive(kernel: jax.Array) -> jax.Array:
    """A kernel with non-negative entries: 2|w|/√fan_in.

    Positive weights add up instead of cancelling; the factor keeps a layer's output as large as
    its input at initialisation.
    """
    return jnp.abs(kernel) * (2.0 * kernel.shape[-2] ** -0.5)


class AgentDense(nn.Module):
    """A linear layer with parameters of its own for each agent.

    A layer on concatenated inputs is written as a sum of layers, one per input, all with the
    fan-in of the whole and only one with a bias: nothing is concatenated, and a part that does not
    change is computed once.

    Attributes:
      features: output width.
      fan_in: what sets the initialisation scale, per agent or one for all; the input width if None.
        Padded observations must pass their true sizes.
      use_bias: whether to add a bias.
    """

    features: int
    fan_in: tuple[int, ...] | None = None
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, ..., I] -> [n, ..., features]``."""
        num_agents, width = x.shape[0], x.shape[-1]
        init = torch_uniform(self.fan_in or (width,))
        kernel = parameter(self, "kernel", init, (num_agents, width, self.features))
        flat = x.reshape(num_agents, -1, width)
        y = jnp.einsum("nbi,nio->nbo", flat, kernel)
        if self.use_bias:
            y = y + parameter(self, "bias", init, (num_agents, self.features))[:, None, :]
        return y.reshape(*x.shape[:-1], self.features)


class AgentOutput(nn.Module):
    """A last, narrow linear layer with parameters of its own for each agent.

    The kernel is kept transposed, ``[n, features, I]``: so its gradient comes out of the matrix
    product as it is stored, 8 times as fast on CPU where ``features`` is 5.

    Attributes:
      features: output width.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, ..., I] -> [n, ..., features]``."""
        num_agents, width = x.shape[0], x.shape[-1]
        init = torch_uniform((width,))
        kernel = parameter(self, "kernel", init, (num_agents, self.features, width))
        bias = parameter(self, "bias", init, (num_agents, self.features))
        y = jnp.einsum("nbi,noi->nbo", x.reshape(num_agents, -1, width), kernel)
        return (y + bias[:, None]).reshape(*x.shape[:-1], self.features)


class TokenDense(nn.Module):
    """A linear layer with parameters of its own for each agent and each token.

    Attributes:
      features: output width.
    """

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[n, tokens, B, I] -> [n, tokens, B, features]``."""
        num_agents, tokens, _, width = x.shape
        init = torch_uniform((width,))
        kernel = parameter(self, "kernel", init, (num_agents, tokens, width, self.features))
        bias = parameter(self, "bias", init, (num_agents, tokens, self.features))
        return jnp.einsum("ntbi,ntio->ntbo", x, kernel) + bias[:, :, None]


class SharedDense(nn.Module):
    """A linear layer whose parameters all agents share.

    Attributes:
      features: output width.
      fan_in: what sets the initialisation scale; the input width if None.
      use_bias: whether to add a bias.
      monotone: whether the kernel enters by its scaled absolute value (:func:`positive`).
      zero_init: whether the kernel starts at zero.
    """

    features: int
    fan_in: int | None = None
    use_bias: bool = True
    monotone: bool = False
    zero_init: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., I] -> [..., features]``."""
        init = torch_uniform((self.fan_in or x.shape[-1],))
        kernel_init = nn.initializers.zeros if self.zero_init else init
        kernel = parameter(self, "kernel", kernel_init, (x.shape[-1], self.features))
        kernel = positive(kernel) if self.monotone else kernel
        y = (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], self.features)
        if self.use_bias:
            y = y + parameter(self, "bias", init, (self.features,))
        return y


class NormState(NamedTuple):
    """Statistics of each agent's observations, or encoded actions: of a batch, or running ones."""

    mean: jax.Array
    """float32 [n, I]."""
    var: jax.Array
    """float32 [n, I]."""


def init_norm(num_agents: int, size: int) -> NormState:
    """Statistics before any batch: mean 0, variance 1."""
    shape = (num_agents, size)
    return NormState(jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32))


def batch_norm(x: jax.Array, alive: Mask = None) -> tuple[jax.Array, NormState]:
    """Normalises ``[n, B, I]`` with the batch's own statistics, without scale and shift.

    Returns:
      The normalised array, zero where an agent is not ``alive`` ``[n, B]``, and its statistics
      ``[n, I]``. Inputs are data, never network outputs, so one normalised copy serves every
      network that reads them.
    """
    stats = statistics(x, alive)
    return normalise(stats, x, alive), stats


def statistics(x: jax.Array, alive: Mask = None) -> NormState:
    """Of ``[n, B, I]`` where an agent is ``alive`` ``[n, B]`` (biased variance, as flax)."""
    return NormState(masked_mean(x, alive, axis=1), masked_var(x, alive, axis=1))


def normalise(stats: NormState, x: jax.Array, alive: Mask = None) -> jax.Array:
    """:func:`apply_norm`, with zeros where an agent is not ``alive`` ``[n, B]``."""
    return masked(apply_norm(stats, x), alive)


def apply_norm(stats: NormState, x: jax.Array) -> jax.Array:
    """(x − mean)/√(var + 1e-5) for ``[n, B, I]``."""
    return (x - stats.mean[:, None]) * jax.lax.rsqrt(stats.var[:, None] + NORM_EPS)


def update_norm(running: NormState, batch: NormState, alive: Mask = None) -> NormState:
    """Running statistics after one batch: 0.9 old + 0.1 new (momentum 0.9 in flax's sense).

    An agent that was not ``alive`` ``[n, B]`` anywhere keeps what it has.
    """
    known = seen(alive, axis=1)
    return jax.tree.map(
        lambda old, new: masked(NORM_MOMENTUM * old + (1.0 - NORM_MOMENTUM) * new, known, old),
        running,
        batch,
    )
