"""What this package raises when a request cannot be met: one clear sentence each."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class MamtError(Exception):
    """Base of every error a caller can mend; the command line prints its text and exits."""

    exit_code = 1


class ConfigError(MamtError, ValueError):
    """A setting is out of range; the message says what is wrong and what is accepted."""


class RunError(MamtError):
    """A run directory cannot be used: taken, missing, corrupt, or the disk is full."""


class OutputError(MamtError):
    """A file that was asked for cannot be written."""


class DivergedError(MamtError):
    """Numbers became NaN or infinite in every seed of a run, or in the policies that are asked."""


class EnvironmentFailed(MamtError):  # noqa: N818 - as DivergedError: what happened to the run
    """A process that steps a host environment crashed or hangs; the text ends with where."""


class InterruptedRun(MamtError):  # noqa: N818 - an outcome, not a fault
    """Ctrl-C or another signal stopped the run after a logging point; the text says what now."""

    exit_code = 130


def not_finite(seed: int) -> DivergedError:
    """What is raised where an action is asked of policies that are not finite."""
    return DivergedError(
        f"The policies of seed {seed} are NaN or infinite at these observations; if it "
        f"diverged in training (metrics.diverged_at_update), ask those of another seed."
    )


def close_to(name: str, accepted: Iterable[str]) -> str:
    """ " (did you mean 'mamt'?)" where one of the accepted names is close, else nothing."""
    known = {each.lower(): each for each in accepted}
    found = difflib.get_close_matches(str(name).lower(), known, n=1)
    return f" (did you mean {known[found[0]]!r}?)" if found else ""
