"""Appending JSON objects to a file, one a line."""

import json
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from rstpm_edge.outputs.appended_file import AppendedFile, missing_line_break


class JsonLines:
    """Appends to `path`; each line is one write. `report` is told once when lines cannot be written, and when they can.

    Raises OutputError for a file that cannot be opened. `lost` counts lines that were not written.
    """

    def __init__(self, path: Path, *, report: Callable[[str], None]) -> None:
        self._lines = AppendedFile(path, missing_line_break, report=report)

    @property
    def lost(self) -> int:
        """How many lines could not be written."""
        return self._lines.lost

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Write a line, with the time before its `fields`."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        self._lines.append(json.dumps({"time": now, **fields}, allow_nan=False).encode() + b"\n")

    def __enter__(self) -> "JsonLines":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lines.__exit__(kind, error, traceback)
