"""What is computed differently on different devices: the only place that asks for the device.

Choices are made once for a program, by the device that it is for, and hold while it is traced
(:func:`tracing`); operations deep inside ask :func:`chosen`. So a program that is compiled for a
device which is not there is the one that runs on a machine that has it.

Nothing here needs JAX before it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

Precision = Literal["float32", "float32x3", "tensorfloat32", "bfloat16"]
"""Of matrix products; what goes in and comes out is float32 all the same."""

_GPU = {
    "float32": "float32",
    "float32x3": "TF32_TF32_F32_X3",
    "tensorfloat32": "tensorfloat32",
    "bfloat16": "BF16_BF16_F32",
}
_TPU = {**_GPU, "float32x3": "BF16_BF16_F32_X3", "bfloat16": "bfloat16"}


@dataclass(frozen=True)
class Choices:
    """How programs for a kind of device are made."""

    platform: str
    """As JAX calls it: cpu, gpu, tpu."""
    seeds_side_by_side: int | None
    """Seeds that are computed at once where the run does not say; None: all."""
    chunk_values: int | None
    """Values of one layer's activations that a batch is cut to; None: batches stay whole."""
    agents_in_turn: bool
    """Whether the gradient of attention scores is computed in a loop over agents, for a CPU.
    Counterfactuals go through opponents in turn on every device: each is large work by itself."""
    products: Mapping[str, str] = field(hash=False)
    """:data:`Precision` -> what ``jax.default_matmul_precision`` is told."""
    compiler_options: Mapping[str, str] = field(hash=False)
    """For XLA."""

    def lines(self, precision: Precision, seed_batch: int) -> dict[str, str]:
        """What ``mamt train --dry-run`` says of a run with these settings, by name."""
        side_by_side = seed_batch or self.seeds_side_by_side
        return {
            "device": self.platform,
            "seeds at once": "all" if side_by_side is None else str(side_by_side),
            "batches": "in chunks" if self.chunk_values else "whole",
            "matrix products": self.products[precision],
        }


@cache
def choices_for(platform: str) -> Choices:
    """The choices for a kind of device.

    On CPU activations have to stay in the cache: one seed at a time, batches in chunks. There
    XLA's dot fusions are off, too: they evaluate what surrounds a matrix product with unvectorised
    broadcasts, and the update then takes 2.3 times as long (jaxlib 0.10.2, one core). All matrix
    products are float32.

    On an accelerator seeds and batches are computed whole: launches are what small work costs.
    """
    if platform == "cpu":
        plain = dict.fromkeys(_GPU, "float32")
        options = {"xla_cpu_experimental_ynn_fusion_type": ""}
        return Choices("cpu", 1, 2**19, True, plain, options if _accepts(options) else {})
    return Choices(platform, None, None, False, _TPU if platform == "tpu" else _GPU, {})


def _accepts(options: dict[str, str]) -> bool:
    """Whether this jaxlib knows the options; an unknown one surfaces as whatever it raises."""
    import jax

    try:
        jax.jit(lambda: 0.0, compiler_options=options).lower().compile()
    except Exception:
        return False
    return True


_TRACED_FOR: ContextVar[Choices | None] = ContextVar("choices", default=None)


def chosen() -> Choices:
    """The choices of the program that is being traced; outside of any those of JAX's device."""
    import jax

    return _TRACED_FOR.get() or choices_for(jax.default_backend())


@contextmanager
def tracing(choices: Choices) -> Iterator[None]:
    """What is traced within is for a device with these choices."""
    token = _TRACED_FOR.set(choices)
    try:
        yield
    finally:
        _TRACED_FOR.reset(token)


def with_precision(precision: Precision, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)``, whose matrix products are computed with this precision."""
    import jax

    with jax.default_matmul_precision(chosen().products[precision]):
        return function(*arguments)
