"""Flax modules. Every array is agent-major, ``[n, B, ...]``."""
