"""What every command does with errors: one sentence and an exit status."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from contextlib import suppress

from mamt_jax.errors import MamtError


def guarded(work: Callable[[], None], trains: bool = False) -> int:
    """Runs a command; what a person can mend becomes one sentence and an exit status."""
    before = warnings.formatwarning
    warnings.formatwarning = lambda message, *_: f"{message}\n"
    try:
        work()
        return 0
    except MamtError as error:
        with suppress(OSError):  # the terminal may be gone: SIGHUP ends a run
            print(f"mamt: {error}", file=sys.stderr)
        return error.exit_code
    except Exception as error:
        if not (isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)):
            raise
        print("mamt: out of memory; lower seeds, batch_size or the counts.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        kept = "; the last checkpoint is kept" if trains else ""
        print(f"mamt: stopped at once{kept}.", file=sys.stderr)
        sys.stderr.flush()
        os._exit(130)  # an orderly exit would wait for the computation that is still running
    finally:
        warnings.formatwarning = before
