"""``python -m mamt_jax.experiments.notebooks DIR``: copies the notebooks there."""

from __future__ import annotations

import argparse

from mamt_jax.cli.guard import guarded
from mamt_jax.experiments.notebooks import copy_to
from mamt_jax.files import user_path


def main() -> int:
    """Copies, and says what."""
    parser = argparse.ArgumentParser(
        prog="python -m mamt_jax.experiments.notebooks", description="Copies the notebooks."
    )
    parser.add_argument("folder", metavar="DIR", help="where to; created if missing")
    chosen = parser.parse_args()

    def copy() -> None:
        print(*copy_to(user_path(chosen.folder)), sep="\n")

    return guarded(copy)


if __name__ == "__main__":
    raise SystemExit(main())
