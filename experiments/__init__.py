"""The paper: its numbers, reference points, and what is run to reproduce it."""

if __name__ == "experiments":
    raise ImportError(
        "This folder is imported as mamt_jax.experiments: `from mamt_jax import experiments`."
    )
