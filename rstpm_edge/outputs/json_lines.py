"""Appending JSON objects to a file, one a line."""

import contextlib
import json
import os
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from rstpm_edge.errors import OutputError


class JsonLines:
    """Appends to `path`; each line is one write. `report` is told once when lines cannot be written, and when they can.

    Raises OutputError for a file that cannot be opened. `lost` counts lines that were not written.
    """

    def __init__(self, path: Path, *, report: Callable[[str], None]) -> None:
        self.lost = 0
        self._path, self._report, self._in_trouble = path, report, False
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
            size = os.fstat(self._file).st_size
            self._start = b"\n" if size and os.pread(self._file, 1, size - 1) != b"\n" else b""
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Write a line, with the time before its `fields`."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        line = self._start + json.dumps({"time": now, **fields}, allow_nan=False).encode() + b"\n"
        try:
            size = os.fstat(self._file).st_size
            if os.write(self._file, line) < len(line):
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, size)
                raise OSError(None, "the disk is full")
        except OSError as error:
            self.lost += 1
            if not self._in_trouble:
                self._report(f"Cannot write {self._path}: {error.strerror or error}. Judging goes on without.")
            self._in_trouble = True
        else:
            self._start = b""
            if self._in_trouble:
                self._report(f"{self._path} can be written again.")
            self._in_trouble = False

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)
