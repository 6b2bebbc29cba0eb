"""How programs are compiled: one place for training, evaluation, and policies that act.

What a policy answers must not depend on who asks, so all entry points compute with the same
precision.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp


class Program:
    """A function as one compiled program.

    Matrix products are computed in full float32 on every device: coordination coefficients are
    small differences of Q values, which an accelerator's TensorFloat-32 would drown.

    Args:
      function: pure, of arrays.
      donate: arguments that a call gives away.
    """

    def __init__(self, function: Callable[..., Any], donate: tuple[int, ...] = ()) -> None:
        def exact(*arguments: Any) -> Any:
            with jax.default_matmul_precision("float32"):
                return function(*arguments)

        self.__wrapped__ = function
        self._jitted = jax.jit(exact, donate_argnums=donate, compiler_options=_options())
        self._ahead: Any = None

    def __call__(self, *arguments: Any) -> Any:
        return (self._ahead or self._jitted)(*arguments)

    def lower(self, *arguments: Any) -> Any:
        """The program for arguments of these shapes, to look at."""
        return self._jitted.lower(*arguments)

    def compile_ahead(self, *arguments: Any) -> Any:
        """Compiles for arguments of these shapes, which are those of all calls from here on.

        Returns:
          The compiled program, which knows its memory.
        """
        if self._ahead is None:
            self._ahead = self.lower(*arguments).compile()
        return self._ahead


@cache
def _options() -> dict[str, str]:
    """What the backend needs to be fast.

    On CPU, XLA's dot fusions are off: they evaluate what surrounds a matrix product with
    unvectorised broadcasts, and the update then takes 2.3 times as long (jaxlib 0.10.2, one core).
    A jaxlib that does not know the option goes without.
    """
    options = {"xla_cpu_experimental_ynn_fusion_type": ""}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda: jnp.zeros(()), compiler_options=options).lower().compile()
    except Exception:  # an unknown option surfaces as whatever the runtime raises
        return {}
    return options
