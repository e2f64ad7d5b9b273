"""A file of lines that others may move, empty or replace while it is appended to."""

import contextlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.write_trouble import WriteTrouble


class AppendedFile:
    """Appends to `path`, each line in one write, so that a process that is killed leaves whole lines.

    A line goes to the file that has this name then, which is made where there is none. Any thread may append.

    lead: what has to stand before the next line in an open file: a header, or a line break. It may raise UsageError.
    report: where it is given, is told once when lines cannot be written, and again when they can; without it, that
        raises OutputError. `lost` counts them.

    Raises OutputError for a file that cannot be opened, and what `lead` raises.
    """

    def __init__(self, path: Path, lead: Callable[[int], bytes], *, report: Callable[[str], None] | None) -> None:
        self.lost = 0
        self._path, self._lead = path, lead
        self._lock = threading.Lock()
        self._trouble = WriteTrouble(path, report)
        try:
            self._file = self._open()
            try:
                self._before = lead(self._file)
            except BaseException:
                os.close(self._file)
                raise
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error

    def append(self, line: bytes) -> None:
        """Write a line, which ends in a line break; an empty one writes only what has to stand before the next."""
        with self._lock:
            self._append(line)

    def __enter__(self) -> "AppendedFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _append(self, line: bytes) -> None:
        try:
            self._stay()
            self._write(self._before + line)
        except (OSError, UsageError) as error:
            self.lost += bool(line)
            self._trouble.begin(error)
        else:
            self._before = b""
            self._trouble.end()

    def _stay(self) -> None:
        """See to it that the next line goes to the end of `path`, whoever moved or emptied it, or filled the disk."""
        there = is_at(self._file, self._path)
        if not there:
            older, self._file = self._file, self._open()
            os.close(older)
        if not there or self._trouble.lasts or os.fstat(self._file).st_size == 0:
            self._before = self._lead(self._file)

    def _write(self, content: bytes) -> None:
        size = os.fstat(self._file).st_size
        if content and os.write(self._file, content) < len(content):
            with contextlib.suppress(OSError):  # else `lead` finds it
                os.ftruncate(self._file, size)
            raise OSError(None, "the disk is full")

    def _open(self) -> int:
        return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)


def is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one at `path`; False where it was moved, replaced or deleted. Raises OSError."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path))
    except FileNotFoundError:
        return False


def missing_line_break(file: int) -> bytes:
    """What an open file lacks whose last line was cut off, as where the machine went down."""
    size = os.fstat(file).st_size
    return b"\n" if size and os.pread(file, 1, size - 1) != b"\n" else b""
