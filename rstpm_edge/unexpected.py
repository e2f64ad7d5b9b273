"""What nobody foresaw: an exit code of its own, one sentence, and a traceback for those who ask for it.

Nothing here needs more than Python itself, since a broken installation is among the things that happen.
"""

import contextlib
import errno
import os
import sys
import threading
import traceback
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from rstpm_edge.printable import one_line, own_lines, without_passwords

UNEXPECTED = 70  # EX_SOFTWARE of sysexits.h
VARIABLE = "RSTPM_EDGE_TRACEBACK"
EXHAUSTED = (errno.ENOMEM, errno.EMFILE, errno.ENFILE)  # nothing of what was asked for is wrong

_from_threads: list[BaseException] = []


def report(error: BaseException) -> None:
    """Say what happened in one sentence on standard error, after the traceback where RSTPM_EDGE_TRACEBACK is set."""
    asked = os.environ.get(VARIABLE, "") not in ("", "0")
    with contextlib.suppress(Exception):  # nobody reads it, or there is no memory for it: the exit code still tells
        if asked:
            print(own_lines(without_passwords("".join(traceback.format_exception(error)))), file=sys.stderr)
        print("Error: " + one_line(" ".join(without_passwords(sentence(error)).split())), file=sys.stderr, flush=True)


def sentence(error: BaseException) -> str:
    """What people read."""
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    how = f"Set {VARIABLE}=1 to see where"
    if isinstance(error, MemoryError) or getattr(error, "errno", None) in EXHAUSTED:
        return f"Memory or open files ran out ({what}): give smaller images, or stop other programs. {how}."
    if isinstance(error, ImportError) and error.name == "rstpm_edge._native":
        return f"{error}. {how}."
    if isinstance(error, ImportError):
        return f"The installation is damaged ({what}): install rstpm-edge anew into an empty environment. {how}."
    return f"Something went wrong that should not ({what}). {how}, and report that: it is a fault of rstpm-edge."


@contextlib.contextmanager
def errors_of_threads() -> Iterator[None]:
    """Inside, what a thread raises is kept for `raise_from_threads`, rather than printed and forgotten."""
    before, threading.excepthook = threading.excepthook, _keep
    try:
        yield
    finally:
        threading.excepthook = before
        _from_threads.clear()


def raise_from_threads() -> None:
    """Raises what a thread has raised first, if any has."""
    if _from_threads:
        raise _from_threads[0]


def last_resort(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """As sys.excepthook: what still gets through must not look like a verdict, which exit code 1 is."""
    report(error)
    with contextlib.suppress(Exception):
        sys.stdout.flush()
    os._exit(UNEXPECTED)


def while_cleaning_up(unraisable: Any) -> None:
    """As sys.unraisablehook: an error while an object was released, or at the very end, which changes no verdict."""
    if unraisable.exc_value is not None and os.environ.get(VARIABLE):
        report(unraisable.exc_value)


def _keep(arguments: Any) -> None:
    if arguments.exc_value is not None and not isinstance(arguments.exc_value, SystemExit):
        _from_threads.append(arguments.exc_value)
