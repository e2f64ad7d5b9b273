"""What the kernel tells of the files in a folder, by inotify(7): who writes to them, and what is moved there."""

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

_MODIFY, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _DELETE = 0x2, 0x8, 0x40, 0x80, 0x200  # sys/inotify.h
_OVERFLOW, _IGNORED, _ONLYDIR = 0x4000, 0x8000, 0x01000000
_EVENT = struct.Struct("iIII")


@dataclass
class Written:
    """What was told of the files in a folder: names that were written to and not closed, closed, or moved there."""

    unclosed: set[str] = field(default_factory=set)
    closed: set[str] = field(default_factory=set)
    moved: set[str] = field(default_factory=set)

    def names(self) -> set[str]:
        """Of which files anything was told."""
        return self.unclosed | self.closed | self.moved

    def clear(self) -> None:
        """What was told of all files."""
        for names in (self.unclosed, self.closed, self.moved):
            names.clear()

    def forget(self, name: str) -> None:
        """What was told of a file that has gone, or has been judged."""
        for names in (self.unclosed, self.closed, self.moved):
            names.discard(name)


class Notices:
    """What inotify tells of folders, whosever the files are; of network folders nothing, and of mapped files little."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._folders: dict[int, Written] = {}
        try:
            self._queue = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            self._queue = -1

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Listen no more."""
        if self._queue >= 0:
            os.close(self._queue)
            self._queue = -1

    def add(self, folder: str) -> Written:
        """Listen to a folder; where that cannot be done, nothing will ever be told."""
        written = Written()
        if self._queue >= 0:
            events = _MODIFY | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _DELETE | _ONLYDIR
            watch = self._libc.inotify_add_watch(self._queue, os.fsencode(folder), events)
            if watch >= 0:
                # Of one folder there is one watch, by whatever name it is added again.
                written = self._folders.setdefault(watch, written)
        return written

    def take(self) -> None:
        """Bring what `add` gave up to date."""
        for watch, mask, name in self._events():
            if mask & _OVERFLOW:  # whatever was lost: who is not known to write may do so
                for written in self._folders.values():
                    written.clear()
            elif mask & _IGNORED:
                if watch in self._folders:
                    self._folders.pop(watch).clear()
            elif watch in self._folders:
                written = self._folders[watch]
                written.forget(name)
                if mask & _MODIFY:
                    written.unclosed.add(name)
                elif mask & _CLOSE_WRITE:
                    written.closed.add(name)
                elif mask & _MOVED_TO:
                    written.moved.add(name)

    def _events(self) -> Iterator[tuple[int, int, str]]:
        while self._queue >= 0:
            try:
                content = os.read(self._queue, 1 << 16)
            except BlockingIOError:
                return
            position = 0
            while position < len(content):
                watch, mask, _, length = _EVENT.unpack_from(content, position)
                start = position + _EVENT.size
                position = start + length
                yield watch, mask, os.fsdecode(content[start:position].rstrip(b"\0"))
