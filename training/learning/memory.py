"""How much memory there is to be had, and how much this process has."""

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

MEMORY = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # of version 2, as a container sees its own
OWN = Path("/proc/self/status")

_limits: list[int] = []


def available_memory() -> int:
    """Bytes of memory that can be had without swapping, within the limit of a container and those of `limited_to`."""
    available = 1 << 30
    for line in MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", which is no limit
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        available = min(available, max(limit - used + _unneeded_files(), 0))
    return min([available, *(max(limit - _own_memory(), 0) for limit in _limits)])


@contextlib.contextmanager
def limited_to(size: int) -> Iterator[None]:
    """Inside the block this process counts on `size` bytes of memory in all, whatever else is free.

    It is no barrier: what asks `available_memory` keeps to it, and so leaves room for trainings beside it.
    """
    _limits.append(size)
    try:
        yield
    finally:
        _limits.remove(size)


def peak_memory() -> int:
    """The most bytes of memory that this process has had so far, files that it has mapped included."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _own_memory() -> int:
    """Bytes that this process has, without files that it has mapped: these make room when it is needed."""
    for line in OWN.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _unneeded_files() -> int:
    """Bytes of what a container uses that are files read some time ago: they make room when it is needed."""
    with contextlib.suppress(OSError, ValueError):
        for line in (CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0
