"""The files that `atomic_files` writes to before it renames them, and those that dead processes have left.

One in use is told from a leftover by the lock that its writer holds.
"""

import contextlib
import fcntl
import functools
import hashlib
import os
import re
import secrets
import stat
import time
from pathlib import Path
from typing import BinaryIO

OF_ANOTHER_HOST = 3600.0  # seconds without a change after which a temporary file of another host is a leftover

_SHOWN = 40  # bytes of a file's own name in that of its temporary file: for people, not to tell them apart
_TEMPORARY = re.compile(r"\..*\.(?P<host>[0-9a-f]{8})-[0-9a-f]{16}\.tmp", re.DOTALL)
_cleaned: set[tuple[int, int]] = set()  # folders whose leftovers this process has removed: device and inode


def new_temporary(folder: int, name: str) -> tuple[BinaryIO, str]:
    """A new file in `folder` that this process has locked, and its name."""
    # Not tempfile.mkstemp: its files are for their owner only, and reading the umask to widen them would
    # change it for a moment under the feet of other threads.
    while True:
        temporary = f".{beginning(name, _SHOWN)}.{_host()}-{secrets.token_hex(8)}.tmp"
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_NOFOLLOW
        file = os.fdopen(os.open(temporary, flags, 0o666, dir_fd=folder), "w+b")
        # Between the two, another process may have taken it for a leftover.
        if _lock(file.fileno()) is not False and _is_still(file.fileno(), folder, temporary):
            return file, temporary
        file.close()


def _is_still(descriptor: int, folder: int, name: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(name, dir_fd=folder, follow_symlinks=False))
    except FileNotFoundError:
        return False


def remove_leftovers(folder: int) -> None:
    """Remove the temporary files of processes that are dead: once for each folder, since listing it takes time."""
    status = os.fstat(folder)
    if (status.st_dev, status.st_ino) in _cleaned:
        return
    _cleaned.add((status.st_dev, status.st_ino))
    with contextlib.suppress(OSError):  # a folder that may be written to, but not listed
        listed = os.open(os.curdir, os.O_RDONLY | os.O_DIRECTORY, dir_fd=folder)
        try:
            for name in os.listdir(listed):
                if found := _TEMPORARY.fullmatch(name):
                    with contextlib.suppress(OSError):
                        _remove_if_dead(listed, name, of_this_host=found["host"] == _host())
        finally:
            os.close(listed)


def _remove_if_dead(folder: int, name: str, *, of_this_host: bool) -> None:
    # For writing, as a lock over the network needs it; without blocking, since whatever it is, it may be a FIFO.
    descriptor = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    try:
        status = os.fstat(descriptor)
        # Some file systems keep locks on their own host only.
        recent = not of_this_host and time.time() - status.st_mtime < OF_ANOTHER_HOST
        if stat.S_ISREG(status.st_mode) and not recent and _lock(descriptor):
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool | None:
    """Lock the file. False when somebody else has, None where its file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@functools.cache
def _host() -> str:
    """Eight digits by which hosts that share a folder know their own files."""
    try:
        machine = Path("/etc/machine-id").read_text()
    except (OSError, ValueError):
        machine = ""
    return hashlib.sha256(f"{os.uname().nodename}\n{machine}".encode(errors="replace")).hexdigest()[:8]


def beginning(name: str, most: int) -> str:
    """The beginning of `name` in at most so many bytes, and no half of a character."""
    return os.fsencode(name)[:most].decode(errors="ignore")
