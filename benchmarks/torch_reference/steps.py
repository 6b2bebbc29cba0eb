"""What every learner does with a loss: gradient, clip, Adam."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.torch_reference import maths


def adam(parameters: Iterable[Tensor], hyper: Any, decay: float = 0.0) -> torch.optim.Adam:
    """Adam with these settings, all of a step in one kernel per type."""
    return torch.optim.Adam(
        parameters,
        lr=hyper.learning_rate,
        betas=(hyper.adam_b1, maths.ADAM_B2),
        eps=hyper.adam_eps,
        weight_decay=decay,
        fused=True,
    )


def gradient(loss: Tensor, net: nn.Module) -> list[Tensor]:
    """Sets the gradient of every parameter that the loss reaches, and returns them.

    The others' is None, and Adam leaves them as they are.
    """
    parameters = list(net.parameters())
    found = torch.autograd.grad(loss, parameters, allow_unused=True)
    for parameter, leaf in zip(parameters, found, strict=True):
        parameter.grad = leaf
    return [leaf for leaf in found if leaf is not None]


def share(parameters: Iterable[Tensor], count: int) -> None:
    """Divides the gradients that parameters have by a count, in place."""
    torch._foreach_div_([leaf.grad for leaf in parameters if leaf.grad is not None], count)


def clip(gradient: list[Tensor], limit: float) -> Tensor:
    """Clips by global norm, in place; the norm before.

    ``clip_grad_norm_`` would add 1e-6 to the norm that it divides by.
    """
    norm = torch.nn.utils.get_total_norm(gradient)
    torch._foreach_mul_(gradient, maths.clip_factor(norm, limit))
    return norm
