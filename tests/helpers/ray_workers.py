"""Processes of a Ray cluster that this process started: which hold a detector, what they listen on, how one dies."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
from pathlib import Path

from processes import processes_below

_LISTENS = "0A"


def judges() -> list[int]:
    """The ids of the processes that hold a detector."""
    return sorted(
        process for process, name in processes_below(os.getpid()).items() if re.match(r"ray::.*(MapWorker|Judge)", name)
    )


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def listening() -> set[str]:
    """The addresses that the processes below this one listen on."""
    sockets = set()
    for process in processes_below(os.getpid()):
        for descriptor in Path(f"/proc/{process}/fd").iterdir():
            try:
                sockets |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(descriptor)))
            except OSError:
                continue
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == _LISTENS and fields[9] in sockets:
                found.add(_address(fields[1].partition(":")[0]))
    return found


def _address(digits: str) -> str:
    """Of words of 32 bits in the order of this machine, as the kernel writes them."""
    words = [bytes.fromhex(digits[start : start + 8])[::-1] for start in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
