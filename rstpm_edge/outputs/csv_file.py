"""Verdicts as a table for spreadsheets: one row an image, written as they come."""

import csv
import io
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.appended_file import AppendedFile, missing_line_break
from rstpm_edge.outputs.verdict_json import image_name
from rstpm_edge.printable import one_line

COLUMNS = ("path", "verdict", "score", "p_value", "threshold", "regions", "ms", "error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet compute a cell


class CsvFile:
    """Appends rows to `path`, UTF-8, with a header where the file is new; `tell` takes what `verdict_fields` gives.

    Each row is one write, so that a process that is killed leaves whole rows. Where another program takes the file
    away, or puts another one in its place, rows go to the one that has its name. Control characters in names are
    escaped, and a name that begins as a formula does gets a ' before it. "verdict" is normal, anomalous, invalid or
    failed; "error" also says why an image is invalid. "path" of a frame ends in " #" and its number.

    `report`, where it is given, is told once when rows cannot be written, and again when they can; without it, that
    raises OutputError. `lost` counts them. Raises UsageError for a file that holds something else, OutputError for one
    that cannot be opened.
    """

    def __init__(self, path: Path, *, report: Callable[[str], None] | None = None) -> None:
        self._path = path
        self._rows = AppendedFile(path, self._lead, report=report)
        self._rows.append(b"")  # the header stands there before the first verdict

    @property
    def lost(self) -> int:
        """How many rows could not be written."""
        return self._rows.lost

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Write the row of a verdict or failure."""
        error = fields.get("invalid_reason") or fields.get("error", "")
        values = {**fields, "path": image_name(fields), "error": error}
        if "regions" in fields:
            values["regions"] = len(fields["regions"])
        self._rows.append(csv_row([values.get(column, "") for column in COLUMNS]))

    def __enter__(self) -> "CsvFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._rows.__exit__(kind, error, traceback)

    def _lead(self, file: int) -> bytes:
        """The header, or what lacks of it since the disk was full; a line break where the last row was cut off."""
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(None, "it is no file")
        start = os.pread(file, len(HEADER), 0)
        if start == HEADER:
            return missing_line_break(file)
        if not HEADER.startswith(start):
            raise UsageError(f"{self._path} holds something else than verdicts: give another name.")
        return HEADER[len(start) :]


def csv_row(values: Sequence[Any]) -> bytes:
    """A line of a table; a text that a spreadsheet would compute gets a ' before it, and None is an empty cell."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(map(_cell, values))
    return text.getvalue().encode("utf-8")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        return str(value)
    return "'" + one_line(value) if value.startswith(FORMULA) else one_line(value)


HEADER = csv_row(COLUMNS)
