"""``python -m mamt_jax`` is ``mamt``."""

from experiments.cli import entry

entry()
