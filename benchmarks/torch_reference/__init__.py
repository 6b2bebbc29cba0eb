"""MAAC, MAMD, MAMT and MAPPO in PyTorch: what mamt_jax is checked and timed against."""
