"""What every command does with its streams and with errors: one sentence and an exit status."""

from __future__ import annotations

import codecs
import errno
import os
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, NoReturn

from mamt_jax.errors import MamtError

_OUTPUT_ERRORS = (errno.EPIPE, errno.ENOSPC, errno.EIO, errno.EBADF)
_LEAVING = 10.0  # seconds that Python is given to end after a command
_PLAIN = str.maketrans({"±": "+-", "−": "-", "…": "...", "·": "*", "’": "'", "—": "-", "–": "-"})


def guarded(work: Callable[[], None], trains: bool = False) -> int:
    """Runs a command; what a person can mend becomes one sentence and an exit status.

    A reader that has gone, as in ``mamt list | head -1``, ends it quietly.
    """
    with _shell():
        try:
            work()
            return _flushed()
        except SystemExit:  # --help and usage errors
            if status := _flushed():
                return status
            raise
        except MamtError as error:
            say(f"mamt: {error}")
            return error.exit_code
        except KeyboardInterrupt:
            kept = "; what was saved is kept" if trains else ""
            say(f"mamt: stopped at once{kept}.")
            if hosted := sys.modules.get("mamt_jax.envs.hosted"):
                hosted.end_started()
            os._exit(130)  # an orderly exit would wait for the computation that is still running
        except OSError as error:
            if error.filename is not None or error.errno not in _OUTPUT_ERRORS:
                raise
            return _unwritten(error)
        except Exception as error:
            if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
                say("mamt: out of memory; lower seeds, batch_size or the counts.")
            elif _without_jax(error):
                say(f"mamt: JAX cannot be loaded: {error}.")
            elif sys.flags.optimize > 1 and isinstance(error, TypeError | AttributeError):
                say(
                    "mamt: packages that it needs do not work without docstrings; run Python "
                    "without -OO (PYTHONOPTIMIZE=2)."
                )
            else:
                raise
            return 1


def _without_jax(error: Exception) -> bool:
    """Whether JAX refused to be imported, as with a nonsensical ``JAX_ENABLE_X64``."""
    frames = traceback.walk_tb(error.__traceback__)
    names = (frame.f_globals.get("__name__", "") for frame, _ in frames)
    return "jax" not in sys.modules and any(name.partition(".")[0] == "jax" for name in names)


def end_process(status: int) -> NoReturn:
    """Ends this process, waiting no longer than a while for what environments have left in it.

    Python itself would wait for their threads and forked processes for ever.
    """

    def end() -> None:
        if hosted := sys.modules.get("mamt_jax.envs.hosted"):
            hosted.end_started()
        os._exit(status)

    waited = threading.Timer(_LEAVING, end)
    waited.daemon = True
    waited.start()
    raise SystemExit(status)


def say(text: str) -> None:
    """Prints to standard error, if anybody listens there."""
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


@contextmanager
def _shell() -> Iterator[None]:
    """Streams that take any text, for as long as a command runs, and warnings of one line.

    Warnings stay warnings, also where ``PYTHONWARNINGS`` makes errors of them: those of libraries
    would end a command, and ours what is done already.

    Where a stream was closed (``>&-``) there is a file that is read by nobody: the next one that is
    opened would otherwise take its place, and be written to by whoever prints.
    """
    codecs.register_error("plain", _plainly)
    format_before, streams_before = warnings.formatwarning, (sys.stdout, sys.stderr)
    warnings.formatwarning = lambda message, *_: f"{message}\n"
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    with ExitStack() as opened:
        sys.stdout, sys.stderr = (
            stream or opened.enter_context(open(os.devnull, "w")) for stream in streams_before
        )
        opened.enter_context(warnings.catch_warnings())
        if any(action == "error" for action, *_ in warnings.filters):
            warnings.resetwarnings()
            warnings.filterwarnings("ignore", category=DeprecationWarning)
        errors_before = [_set_errors(stream, "plain") for stream in (sys.stdout, sys.stderr)]
        try:
            yield
        finally:
            for stream, errors in zip((sys.stdout, sys.stderr), errors_before, strict=True):
                _set_errors(stream, errors)
            warnings.formatwarning = format_before
            sys.stdout, sys.stderr = streams_before


def _plainly(error: UnicodeError) -> tuple[str | bytes, int]:
    """Stands in for characters that a stream's encoding lacks: "+-" for "±", else an escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    replaced = error.object[error.start : error.end].translate(_PLAIN)
    return replaced.encode("ascii", "backslashreplace").decode("ascii"), error.end


def _set_errors(stream: Any, errors: str | None) -> str | None:
    """Sets what a text stream does with characters that it lacks; returns what it did before."""
    before = getattr(stream, "errors", None)
    if errors and hasattr(stream, "reconfigure"):
        with suppress(OSError, ValueError):
            stream.reconfigure(errors=errors)
    return before


def _flushed() -> int:
    """Whether all output has been taken: 0, or the exit status where it has not."""
    try:
        sys.stdout.flush()
        return 0
    except OSError as error:
        return _unwritten(error)


def _unwritten(error: OSError) -> int:
    """The exit status where the output was not taken; a reader that has gone wants no sentence."""
    gone = isinstance(error, BrokenPipeError)
    if not gone:
        say(f"mamt: the output could not be written: {error.strerror}.")
    with suppress(OSError, ValueError):  # or Python would try again as it ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 141 if gone else 1
