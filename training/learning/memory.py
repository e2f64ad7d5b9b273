"""How much memory there is to be had."""

import contextlib
from pathlib import Path

MEMORY = Path("/proc/meminfo")
CGROUP = Path("/sys/fs/cgroup")  # of version 2, as a container sees its own


def available_memory() -> int:
    """Bytes of memory that can be had without swapping, and within the limit of a container."""
    available = 1 << 30
    for line in MEMORY.read_text().splitlines():
        if line.startswith("MemAvailable:"):
            available = int(line.split()[1]) * 1024
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", which is no limit
        limit, used = (int((CGROUP / name).read_text()) for name in ("memory.max", "memory.current"))
        available = min(available, max(limit - used + _unneeded_files(), 0))
    return available


def _unneeded_files() -> int:
    """Bytes of what a container uses that are files read some time ago: they make room when it is needed."""
    with contextlib.suppress(OSError, ValueError):
        for line in (CGROUP / "memory.stat").read_text().splitlines():
            if line.startswith("inactive_file "):
                return int(line.split()[1])
    return 0
