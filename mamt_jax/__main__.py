"""``python -m mamt_jax`` is ``mamt``."""

from mamt_jax.cli.main import entry

entry()
