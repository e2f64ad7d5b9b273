"""Appending to a chain of `hash_chain`: one synced write an entry, whatever a crash has left at the end of the file."""

import contextlib
import fcntl
import os
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from hashlib import sha256
from pathlib import Path
from typing import Any

from rstpm_edge import __version__
from rstpm_edge.outputs.hash_chain import FIRST, TORN, files_of, is_torn, last_link, link


class ForeignLineError(ValueError):
    """A file whose last lines are none of a chain, nor what a crash leaves of one; `path` is its name."""

    def __init__(self, path: Path) -> None:
        super().__init__(f"{path} holds something else than a chain")
        self.path = path


@dataclass(frozen=True)
class ChainEnd:
    """Number and hash of the last entry, and the lines after it, if any, that were cut off.

    `torn` is None where the last line is whole, and empty where it lacks its line break only.
    """

    number: int = 0
    hash: str = FIRST
    torn: tuple[bytes, ...] | None = None


def chain_end(path: Path) -> ChainEnd:
    """Where the chain at `path`, with the files that were set aside, goes on. Raises ForeignLineError and OSError."""
    torn: tuple[bytes, ...] | None = None
    for file in reversed(files_of(path)):
        found, after = last_link(file)
        cut = file == path and after[-1:] != [b""] and all(map(is_torn, after))
        if after != [b""] and not cut:
            raise ForeignLineError(file)
        if after != [b""]:
            torn = tuple(after)
        if found is not None:
            return ChainEnd(found.number, found.hash, torn)
    return ChainEnd(torn=torn)


def append(file: int, end: ChainEnd, event: str, fields: Mapping[str, Any]) -> ChainEnd:
    """Write an entry after `end`, and before it one that says what was cut off there, if anything was.

    `file` was opened by `open_for_appending`, and is locked. Gives the new end. Raises OSError, and ValueError for an
    entry that is too long; nothing, or something that `chain_end` knows as cut off, is then in the file.
    """
    start = b"" if end.torn is None else b"\n"
    if end.torn:
        torn = b"\n".join(end.torn)
        end = _write(file, end, TORN, {"bytes": len(torn), "sha256": sha256(torn).hexdigest()}, start)
        start = b""
    return _write(file, end, event, fields, start)


def open_for_appending(path: Path) -> int:
    """A descriptor of the file, which is made where it is missing. Raises OSError, also for what is no file."""
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o644)
    if not path.is_file():
        os.close(file)
        raise OSError(None, "it is no file")
    return file


def locked(file: int) -> bool:
    """Lock the file until it is closed; False where another process has. Raises OSError where that cannot be."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def who() -> dict[str, Any]:
    """Who writes: `version` of this package, `user`, `host` and `pid`."""
    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # as in a container
        user = str(uid)
    return {"version": __version__, "user": user, "host": os.uname().nodename, "pid": os.getpid()}


def _write(file: int, end: ChainEnd, event: str, fields: Mapping[str, Any], start: bytes) -> ChainEnd:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    line, digest = link(end.number + 1, end.hash, {"time": now, "event": event, **fields})
    size = os.fstat(file).st_size
    if os.write(file, start + line) < len(start + line):
        with contextlib.suppress(OSError):  # on a file that can only be appended to, the next entry tells of it
            os.ftruncate(file, size)
        raise OSError(None, "the disk is full")
    os.fsync(file)
    return ChainEnd(end.number + 1, digest)
