"""The command ``mamt``: finds the command that is meant, parses its arguments and runs it.

Every command is a dataclass in a file of its own: its docstrings are the help, its ``run`` does the
work. JAX, the environments and matplotlib are imported in ``run``, by those that need them, so that
``--help`` answers at once.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from mamt_jax import __version__
from mamt_jax.cli import flags, sweep, train
from mamt_jax.cli.evaluate import Evaluate
from mamt_jax.cli.guard import end_process, guarded, say
from mamt_jax.cli.list import List
from mamt_jax.cli.plot import Plot
from mamt_jax.cli.record import Record
from mamt_jax.cli.report import Report
from mamt_jax.cli.reproduce import Reproduce
from mamt_jax.cli.sweep import Sweep
from mamt_jax.cli.train import Train
from mamt_jax.cli.view import View
from mamt_jax.errors import close_to

COMMANDS: dict[str, Any] = {
    "train": Train,
    "evaluate": Evaluate,
    "view": View,
    "record": Record,
    "plot": Plot,
    "report": Report,
    "sweep": Sweep,
    "reproduce": Reproduce,
    "list": List,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command line; returns the exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given:
        return guarded(_print_help) or 2
    return guarded(lambda: parse(given).run(), trains=given[0] in ("train", "reproduce", "sweep"))


def parse(arguments: Sequence[str]) -> Any:
    """Command line to command.

    Raises:
        SystemExit: A usage error, ``--help`` or ``--version``.
        ConfigError: A setting is out of range.
        RunError: The run to resume cannot be read.
    """
    name, *rest = arguments
    if name in ("-h", "--help"):
        _print_help()
        raise SystemExit(0)
    if name == "--version":
        print(f"mamt_jax {__version__}")
        raise SystemExit(0)
    if name not in COMMANDS:
        say(
            f"mamt: There is no command {name!r}{close_to(name, COMMANDS)}; there are "
            f"{', '.join(COMMANDS)}. See mamt --help."
        )
        raise SystemExit(2)
    if name == "train":
        return train.parse(rest)
    if name == "sweep":
        return sweep.parse(rest)
    return flags.parse(COMMANDS[name], f"mamt {name}", rest)


def _print_help() -> None:
    print("usage: mamt COMMAND [OPTIONS]\n")
    print("Cooperative multi-agent RL with mirror descent and trust regions.\n")
    texts = {name: (command.__doc__ or "").partition("\n")[0] for name, command in COMMANDS.items()}
    flags.print_section("Commands", texts)
    print(
        "\nmamt COMMAND --help lists the options of a command; mamt --version says which this is."
    )


def entry() -> NoReturn:
    """What ``mamt`` runs: a command, and then the end of the process."""
    end_process(main())


if __name__ == "__main__":
    entry()
