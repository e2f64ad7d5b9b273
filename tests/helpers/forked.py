"""Work in a forked child."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

LONG = 60  # seconds that nothing here takes, but what hangs


def in_child(work: Callable[[], object]) -> int:
    """How a forked child ends that does `work`: 0, or 1 for an exception; a negative number for a signal."""
    child = os.fork()
    if child == 0:
        signal.alarm(LONG)
        try:
            work()
        except BaseException as error:
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
