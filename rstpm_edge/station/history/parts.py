"""Reading a history, while it is written or afterwards."""

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rstpm_edge.station.closing import Closing
from rstpm_edge.station.history.database import HISTORY, database_of
from rstpm_edge.station.history.notes import Note, NoteKind, standing

MOST = 1000  # parts at once
# Named as the fields of `Part`, but for the last two, of which the JSON and the size of the pictures are stored.
_COLUMNS = (
    "part.id AS id, judged, origin, product, version, sha256 AS model_sha256, name, verdict, score, p_value, "
    "threshold, width, height, fields, bytes"
)
_TABLES = "part LEFT JOIN model ON model = model.number LEFT JOIN picture ON picture.part = part.id"


@dataclass(frozen=True)
class Part:
    """A verdict, as it is kept. `judged` is in ms since 1970; score, p-value and threshold are None of a failed image.

    `fields` are those of `infer --json`; `has_pictures` says whether pictures are kept.
    """

    id: int
    judged: int
    origin: str
    product: str
    version: str
    model_sha256: str | None
    name: str
    verdict: str
    score: float | None
    p_value: float | None
    threshold: float | None
    width: int | None
    height: int | None
    fields: dict[str, Any]
    has_pictures: bool
    notes: tuple[Note, ...] = ()

    @property
    def standing(self) -> NoteKind | None:
        """What a person has decided."""
        return standing(list(self.notes))


class PartReader(Closing):
    """Reads the history in `folder`. Threads may share it. Raises UsageError and OutputError as `DatabaseKind` says."""

    def __init__(self, folder: Path) -> None:
        self._path = database_of(folder)
        self._lock = threading.Lock()
        with contextlib.ExitStack() as stack:
            self._database = stack.enter_context(HISTORY.reading(self._path))
            self._opened = stack.pop_all()

    def last(self, most: int = 100, *, before: int | None = None, **equal: str | None) -> list[Part]:
        """The newest ones, newest first, of those with a lower id than `before`, and `verdict` or `origin` of this."""
        where: list[str] = ["1"]
        values: list[str | int] = []
        if before is not None:
            where.append("part.id < ?")
            values.append(before)
        for name in ("verdict", "origin"):
            value = equal.get(name)
            if value is not None:
                where.append(f"{name} = ?")
                values.append(value)
        return self._parts(f"WHERE {' AND '.join(where)} ORDER BY part.id DESC LIMIT ?", [*values, min(most, MOST)])

    def get(self, part: int) -> Part | None:
        """The one with this id; None where it is not kept."""
        found = self._parts("WHERE part.id = ?", [part])
        return found[0] if found else None

    def of_model(self, sha256: str, most: int) -> list[Part]:
        """The newest ones that this model judged, oldest first."""
        # What several cameras see of one part is told once more, under the name of the part, which has no version.
        newest = self._parts("WHERE sha256 = ? AND version <> '' ORDER BY part.id DESC LIMIT ?", [sha256, most])
        return newest[::-1]

    def all(self) -> Iterator[Part]:
        """Every part, oldest first."""
        after = 0
        while found := self._parts("WHERE part.id > ? ORDER BY part.id LIMIT ?", [after, MOST]):
            yield from found
            after = found[-1].id

    def summary(self) -> tuple[dict[str, int], int | None, int | None]:
        """How many parts by verdict, and when the first and the last one were judged, in ms since 1970."""
        if self._database is None:
            return {}, None, None
        with self._lock, HISTORY.one_sentence(self._path, "read"):
            counts = dict(self._database.execute("SELECT verdict, count(*) FROM part GROUP BY verdict").fetchall())
            first, last = self._database.execute("SELECT min(judged), max(judged) FROM part").fetchone()
        return counts, first, last

    def close(self) -> None:
        """Read no more."""
        self._opened.close()

    def _parts(self, rest: str, values: Sequence[Any]) -> list[Part]:
        if self._database is None:
            return []
        with self._lock, HISTORY.one_sentence(self._path, "read"):
            cursor = self._database.execute(f"SELECT {_COLUMNS} FROM {_TABLES} {rest}", values)
            cursor.row_factory = sqlite3.Row
            rows = cursor.fetchall()
            notes = _notes(self._database, [row["id"] for row in rows])
        return [_part(dict(row), tuple(notes.get(row["id"], ()))) for row in rows]


def _part(columns: dict[str, Any], notes: tuple[Note, ...]) -> Part:
    fields, size = json.loads(columns.pop("fields")), columns.pop("bytes")
    return Part(**columns, fields=fields, has_pictures=size is not None, notes=notes)


def _notes(database: sqlite3.Connection, parts: Sequence[int]) -> dict[int, list[Note]]:
    found: dict[int, list[Note]] = {}
    for start in range(0, len(parts), 500):  # as many as SQLite takes in one statement, and more
        some = parts[start : start + 500]
        marks = ",".join("?" * len(some))
        cursor = database.execute(
            f"SELECT part, made, person, kind, comment FROM note WHERE part IN ({marks}) ORDER BY number", some
        )
        cursor.row_factory = sqlite3.Row
        for row in cursor:
            found.setdefault(row["part"], []).append(Note(**dict(row)))
    return found
