"""Whether somebody is still writing a file, as far as the kernel tells."""

import contextlib
import errno
import fcntl
import os
import re
import signal
import time
from collections.abc import Iterator

# File systems of other hosts, whose writers this kernel does not know; a lease may be refused there for other reasons.
REMOTE = re.compile(r"nfs|cifs|smb|9p|fuse|ceph|afs|gfs|glusterfs|lustre|ocfs2|virtiofs|vboxsf|prl_fs", re.ASCII)
LASTS = 2.0  # seconds for which what was found in /proc will do
# Errors of an open while somebody has a lease of his own, as Samba does, or, on a Windows share, lets nobody else in.
HELD_BY_OTHERS = (errno.EWOULDBLOCK, errno.EBUSY, errno.ETXTBSY)
BLOCK = 4096  # bytes; what was not written yet is zero in such blocks

_MAPPED = re.compile(r"^\S+ .w.s \S+ ([0-9a-f]+):([0-9a-f]+) (\d+)", re.MULTILINE)  # shared, in /proc/N/maps

_found: tuple[float, frozenset[tuple[int, int]]] = (-1.0, frozenset())


def is_open_for_writing(path: str | os.PathLike[str], *, since: float | None = None) -> bool | None:
    """Whether any process has the file open, or mapped, for writing. None where that cannot be known.

    It can on file systems of this host, for files of this user (root: for all), by asking for a lease that the kernel
    refuses while there is a writer. Elsewhere, with `since`, writers are found that are processes of this user, and
    have opened the file before that time (time.monotonic). Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError as error:
        if error.errno in HELD_BY_OTHERS:
            return True
        raise
    try:
        status = os.fstat(descriptor)
        if not _is_remote(status.st_dev):
            known = _lease(descriptor)
            if known is not None:
                return known
        if since is not None and (status.st_dev, status.st_ino) in _open_by_us(since):
            return True
        return None
    finally:
        os.close(descriptor)


def is_unfilled(path: str | os.PathLike[str], *, look: bool) -> bool:
    """Whether a part of the file may not have been written yet: it has holes, or, with `look`, blocks of zeros.

    An image may be black there, too, and a copy may have holes where the original has zeros. Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb", buffering=0) as file:
        size = os.fstat(descriptor).st_size
        with contextlib.suppress(OSError):  # a file system that knows of none
            if size and os.lseek(descriptor, 0, os.SEEK_HOLE) < size:
                return True
        if not look:
            return False
        file.seek(0)
        zeros = bytes(BLOCK)
        while part := file.read(BLOCK << 6):
            for start in range(0, len(part), BLOCK):
                block = part[start : start + BLOCK]
                if len(block) >= 64 and block == zeros[: len(block)]:
                    return True
    return False


def _lease(descriptor: int) -> bool | None:
    try:
        # Who opens the file for writing within these microseconds breaks the lease, of which the kernel sends a signal:
        # by default one that ends the process, and this one is ignored by default.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _is_remote(device: int) -> bool:
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            for line in mounts:
                if line.split(" ", 3)[2] == number:
                    return REMOTE.match(line.rpartition(" - ")[2]) is not None
    except (OSError, IndexError):
        pass
    return False  # btrfs gives its parts numbers of their own


def _open_by_us(since: float) -> frozenset[tuple[int, int]]:
    """Device and inode of all files that processes of this user have open for writing.

    Looking into all of them takes milliseconds, or many where there are many: what was found after `since` will do.
    """
    global _found
    at, files = _found
    now = time.monotonic()
    if not since < at or now - at > LASTS:
        files = frozenset(key for process in filter(str.isdecimal, os.listdir("/proc")) for key in _open_by(process))
        _found = now, files
    return files


def _open_by(process: str) -> Iterator[tuple[int, int]]:
    with contextlib.suppress(OSError):  # another user's, or gone
        for number in os.listdir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{process}/fdinfo/{number}") as info:
                    flags = int(info.read().split("flags:")[1].split()[0], 8)
                if flags & os.O_ACCMODE != os.O_RDONLY:
                    status = os.stat(f"/proc/{process}/fd/{number}")
                    yield status.st_dev, status.st_ino
        with open(f"/proc/{process}/maps", errors="replace") as maps:
            for major, minor, inode in _MAPPED.findall(maps.read()):
                yield os.makedev(int(major, 16), int(minor, 16)), int(inode)
