"""Verdicts as a table for spreadsheets: one row an image, written as they come."""

import contextlib
import csv
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.verdict_json import image_name
from rstpm_edge.printable import one_line

COLUMNS = ("path", "verdict", "score", "p_value", "threshold", "regions", "ms", "error")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what makes a spreadsheet compute a cell


class CsvFile:
    """Appends rows to `path`, UTF-8, with a header where the file is new; `tell` takes what `verdict_fields` gives.

    Each row is one write, so that a process that is killed leaves whole rows. Control characters in names are escaped,
    and a name that begins as a formula does gets a ' before it. "verdict" is normal, anomalous, invalid or failed;
    "error" also says why an image is invalid. "path" of a frame ends in " #" and its number.

    `report`, where it is given, is told once when rows cannot be written, and again when they can; without it, that
    raises OutputError. Raises UsageError for a file that holds something else, OutputError for one that cannot be
    opened.
    """

    def __init__(self, path: Path, *, report: Callable[[str], None] | None = None) -> None:
        self.lost = 0
        self._path = path
        self._report = report
        self._in_trouble = False
        header = csv_row(COLUMNS)
        try:
            start = _start_of(path, len(header))
            self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)
        except OSError as error:
            raise OutputError(f"Cannot write {path}: {error.strerror or error}.") from error
        if start is None:
            self._append(header)
        elif not start.startswith(header):
            os.close(self._file)
            raise UsageError(f"{path} holds something else than verdicts: give another name.")
        elif not _ends_a_line(path):  # the machine went down in the middle of a row
            self._append(b"\n")

    def tell(self, fields: Mapping[str, Any]) -> None:
        """Write the row of a verdict or failure."""
        error = fields.get("invalid_reason") or fields.get("error", "")
        values = {**fields, "path": image_name(fields), "error": error}
        if "regions" in fields:
            values["regions"] = len(fields["regions"])
        self._append(csv_row([values.get(column, "") for column in COLUMNS]))

    def __enter__(self) -> "CsvFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            os.close(self._file)

    def _append(self, row: bytes) -> None:
        try:
            written = os.write(self._file, b"\n" + row if self._in_trouble else row)
            if written < len(row):
                raise OSError(None, "the disk is full")
        except OSError as error:
            self.lost += 1
            sentence = f"Cannot write {self._path}: {error.strerror or error}."
            if self._report is None:
                raise OutputError(sentence) from error
            if not self._in_trouble:
                self._report(f"{sentence} Judging goes on without.")
            self._in_trouble = True
        else:
            if self._in_trouble and self._report is not None:
                self._report(f"{self._path} can be written again.")
            self._in_trouble = False


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


def _start_of(path: Path, length: int) -> bytes | None:
    """The first bytes of a file; None where there is none, or nothing in it."""
    if not path.exists():
        return None
    if not path.is_file():
        raise OSError(None, "it is no file")
    with open(path, "rb") as file:
        return file.read(length) or None


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
