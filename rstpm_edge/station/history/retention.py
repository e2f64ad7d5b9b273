"""How much a history keeps, and what goes where that is too much: the oldest pictures first, verdicts by age alone."""

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from rstpm_edge.outputs.own_database import changing
from rstpm_edge.station.history.pictures import Pictures

FORGET_EACH = 600.0  # seconds between two looks for what is too old
FORGET_MOST = 5000  # parts at a time
MAKE_ROOM = 32  # parts whose pictures go at a time
DAY = 86_400_000  # ms


@dataclass(frozen=True)
class Retention:
    """How much is kept: verdicts of so many `days`, pictures of so many `bytes`, the newest ones; None keeps all."""

    days: float | None = None
    bytes: int | None = 10_000_000_000


class Room:
    """What the pictures of a history take. Used by the history's own thread, once it is made.

    database: its SQLite file, which is written with `writing` held. clock: seconds since 1970. Raises sqlite3.Error.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        writing: threading.Lock,
        pictures: Pictures,
        retention: Retention,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._writing, self._pictures = database, writing, pictures
        self._retention, self._clock = retention, clock
        self._forget_at = 0.0
        self._bytes = self._match_pictures()

    def take(self, size: int) -> None:
        """Pictures of so many bytes were written."""
        self._bytes += size

    def forget(self) -> None:
        """Remove what is beyond the retention; nothing that fails here ends anything."""
        limit = self._retention.bytes
        with contextlib.suppress(sqlite3.Error):
            while limit is not None and self._bytes > limit and self.remove_oldest():
                pass
            now = time.monotonic()
            if self._retention.days is None or now < self._forget_at:
                return
            oldest = int(self._clock() * 1000 - self._retention.days * DAY)
            gone = [
                row[0]
                for row in self._database.execute("SELECT id FROM part WHERE judged < ? LIMIT ?", (oldest, FORGET_MOST))
            ]
            for part in gone:
                self._pictures.remove(part)
            with self._writing, changing(self._database, synced=False):
                for table, column in (("note", "part"), ("picture", "part"), ("part", "id")):
                    self._database.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(part,) for part in gone])
            self._bytes = self._sum()
            if len(gone) < FORGET_MOST:
                self._forget_at = now + FORGET_EACH

    def remove_oldest(self) -> int:
        """Remove the pictures of some parts, the oldest that have any; gives of how many there were files."""
        ask = "SELECT part, bytes FROM picture ORDER BY part LIMIT ?"
        try:
            rows = self._database.execute(ask, (MAKE_ROOM,)).fetchall()
        except sqlite3.Error:  # damaged
            return 0
        # The files first: where the disk is full, the database can be written only then. Where it cannot even so, the
        # rows go at the next start, or with the next ones.
        removed = sum([self._pictures.remove(part) for part, _ in rows])
        with contextlib.suppress(sqlite3.Error):
            with self._writing, changing(self._database, synced=False):
                self._database.executemany("DELETE FROM picture WHERE part = ?", [(part,) for part, _ in rows])
            self._bytes -= sum(size for _, size in rows)
        return removed

    def _match_pictures(self) -> int:
        """After a crash, remove files that no row names, and rows whose files are gone. Gives the bytes of all."""
        named = {row[0] for row in self._database.execute("SELECT part FROM picture")}
        there = set(self._pictures.parts())
        for part in there - named:
            self._pictures.remove(part)
        with changing(self._database, synced=False):
            self._database.executemany("DELETE FROM picture WHERE part = ?", [(part,) for part in named - there])
        return self._sum()

    def _sum(self) -> int:
        (total,) = self._database.execute("SELECT coalesce(sum(bytes), 0) FROM picture").fetchone()
        return int(total)
