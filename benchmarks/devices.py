"""Where PyTorch works."""

from __future__ import annotations

import importlib.util
import re
import warnings

import jax

from mamt_jax.errors import ConfigError
from mamt_jax.settings.fields import check


def have_torch() -> bool:
    """Whether there is something to compare with."""
    return importlib.util.find_spec("torch") is not None


def torch_device(name: str | None, used: bool) -> str:
    """The device of PyTorch that a name stands for: where JAX works, if it is None.

    Args:
      name: as ``torch.device`` takes it.
      used: whether PyTorch will work at all; only then the device must be there.

    Raises:
      ConfigError: the name is unknown, or this PyTorch does not have the device.
    """
    if name is None:
        name = "cuda" if jax.default_backend() == "gpu" else "cpu"
    known = re.fullmatch(r"cpu|cuda(?::(\d+))?", name)
    check(known is not None, "device", name, "cpu, cuda or cuda:N")
    if used and known is not None and name != "cpu":
        _check_cuda(name, int(known[1] or 0))
    return name


def _check_cuda(name: str, index: int) -> None:
    import torch

    instead = "choose --device cpu."
    if not torch.backends.cuda.is_built():
        raise ConfigError(
            f"--device {name} needs a PyTorch with CUDA, and torch {torch.__version__} has none; "
            + instead
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that does not answer
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if not count:
        raise ConfigError(f"--device {name} needs a GPU, and PyTorch sees none; {instead}")
    if index >= count:
        raise ConfigError(
            f"--device {name} is not there: the last that PyTorch sees is cuda:{count - 1}."
        )
