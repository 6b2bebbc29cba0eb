"""``mamt list``: what there is to train, and where."""

from __future__ import annotations

from dataclasses import dataclass

from mamt_jax.cli.flags import print_section


@dataclass(frozen=True)
class List:
    """List algorithms, environments and trained policies."""

    def run(self) -> None:
        """Prints one line each."""
        from mamt_jax import envs
        from mamt_jax.algorithms.registry import ALGORITHMS
        from mamt_jax.policies import names

        print_section("Algorithms", {name: entry.summary for name, entry in ALGORITHMS.items()})
        print_section("Environments", envs.summaries())
        print_section("Policies, for mamt_jax.pretrained", dict.fromkeys(names(), ""))
