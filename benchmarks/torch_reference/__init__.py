"""MAAC, MAMD and MAMT in PyTorch: what mamt_jax is checked and timed against."""
