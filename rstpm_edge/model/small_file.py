"""Reading a file that somebody names, and that should be small."""

import os
import stat
from pathlib import Path


def read_small(path: Path, most: int) -> bytes:
    """The content of a regular file of up to `most` bytes. Raises OSError, whose `strerror` says what is wrong."""
    if "\0" in str(path):
        raise FileNotFoundError(2, os.strerror(2))
    # Of a pipe that nobody writes to, opening alone would wait for ever.
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(None, "it is no file")
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(None, f"it is larger than {most:,} bytes")
    return content
