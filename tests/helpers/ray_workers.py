"""Processes of a Ray cluster that this process started: which hold a detector, what they listen on, how one dies."""

from __future__ import annotations

import ipaddress
import os
import re
import signal
from pathlib import Path

_LISTENS = "0A"


def descendants() -> dict[int, str]:
    """The processes below this one, each with its command line."""
    parents, names = {}, {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
                names[int(folder.name)] = (folder / "cmdline").read_bytes().decode(errors="replace")
            except OSError:  # it has ended
                continue
    ours = {os.getpid()}
    while more := {process for process, parent in parents.items() if parent in ours} - ours:
        ours |= more
    return {process: names[process] for process in ours - {os.getpid()} if process in names}


def judges() -> list[int]:
    """The ids of the processes that hold a detector."""
    return sorted(process for process, name in descendants().items() if re.match(r"ray::.*(MapWorker|Judge)", name))


def kill(process: int) -> None:
    os.kill(process, signal.SIGKILL)


def listening() -> set[str]:
    """The addresses that the processes below this one listen on."""
    sockets = set()
    for process in descendants():
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
