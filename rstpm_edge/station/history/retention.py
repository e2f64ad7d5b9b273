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
STEADY = 3600.0  # seconds for which the clock must have gone as time goes before anything is too old by it
JUMP = 60.0  # seconds: more than a clock that is set gently gains in that time
CLOCK_SET = 1_577_836_800_000  # 2020, in ms since 1970: a clock that says less was never set
MAKE_ROOM = 32  # parts whose pictures go at a time
DAY = 86_400_000  # ms

_LAST_OLD = "SELECT max(id) FROM part WHERE id >= ? AND id < ?"


@dataclass(frozen=True)
class Retention:
    """How much is kept: verdicts of so many `days`, pictures of so many `bytes`, the newest ones; None keeps all."""

    days: float | None = None
    bytes: int | None = 10_000_000_000


class Room:
    """What the pictures of a history take. Used by the history's own thread, once it is made.

    What is too old goes by its id, not by when its clock says it was judged: an id is made of the time, and never lower
    than the one before, so parts of a clock that was set back are no older than those before. Those from before the
    clock was ever set go with the next ones. Only ids from the future, where a clock was ahead once, say nothing: those
    parts go by when they were judged. And a clock that jumped, or has just begun, is waited for: in that time it
    may be set right.

    database: its SQLite file, which is written with `writing` held. clock: seconds since 1970. monotonic: seconds, by
    which a jump of the clock shows. Raises sqlite3.Error.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        writing: threading.Lock,
        pictures: Pictures,
        retention: Retention,
        clock: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database, self._writing, self._pictures = database, writing, pictures
        self._retention, self._clock, self._monotonic = retention, clock, monotonic
        self._forget_at = self._steady_since = monotonic()
        self._ahead = clock() - self._steady_since  # of the clock, as long as it does not jump
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
            now, clock = self._monotonic(), self._clock()
            if not self._is_steady(now, clock) or self._retention.days is None or now < self._forget_at:
                return
            oldest = int(clock * 1000 - self._retention.days * DAY)
            from_future = "id > ? AND judged BETWEEN ? AND ?"
            ask = f"SELECT id FROM part WHERE id <= ({_LAST_OLD}) OR ({from_future}) ORDER BY id LIMIT ?"
            found = self._database.execute(
                ask, (CLOCK_SET, oldest, int(clock * 1000) + DAY, CLOCK_SET, oldest, FORGET_MOST)
            )
            gone = [row[0] for row in found]
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

    def _is_steady(self, now: float, clock: float) -> bool:
        if abs(clock - now - self._ahead) > JUMP:
            self._ahead, self._steady_since = clock - now, now
        return now - self._steady_since >= STEADY

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
