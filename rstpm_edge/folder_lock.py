"""One process at a time writes to a folder."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from rstpm_edge.errors import OutputError, UsageError

POLL = 0.2  # seconds between two looks at whether a folder is free


@contextlib.contextmanager
def one_writer(
    folder: Path, *, wait: float = 0.0, advice: str = "wait for its end, or give another `out`"
) -> Iterator[None]:
    """Let no other process enter this block for the same folder, which exists, until its end.

    Where another one is in it, wait up to `wait` seconds for its end. The lock ends with the process, however it dies.
    On a file system without locks nothing is waited for.

    Raises OutputError for a folder that cannot be opened; UsageError where another process is still in the block, with
    `advice` for what to do.
    """
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise OutputError(f"Cannot use the folder {folder}: {error.strerror or error}.") from error
    try:
        until = time.monotonic() + wait
        while not _lock(descriptor):
            if time.monotonic() >= until:
                raise UsageError(f"Another command is writing to {folder}: {advice}.")
            time.sleep(POLL)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        pass
    return True
