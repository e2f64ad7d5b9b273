"""Keeps what a station judged. It is a tap of the feed, and never holds up the line."""

import contextlib
import errno
import json
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.own_database import changing, why
from rstpm_edge.outputs.verdict_json import image_name
from rstpm_edge.printable import one_line
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.history.database import FILE, HISTORY
from rstpm_edge.station.history.notes import Note, check_note
from rstpm_edge.station.history.parts import PartReader
from rstpm_edge.station.history.pictures import Pictures

PHOTOS_WAITING = 32  # photos in memory that wait for the disk; further ones are not kept, their verdicts are
WAITING = 100_000  # verdicts that wait while the disk is full; some 100 MB
AT_ONCE = 200  # verdicts in one transaction
FORGET_EACH = 600.0  # seconds between two looks for what is too old
FORGET_MOST = 5000  # parts at a time
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
MAKE_ROOM = 32  # parts whose pictures go at a time where the disk is full
DAY = 86_400_000  # ms


@dataclass(frozen=True)
class Retention:
    """How much is kept: verdicts of so many `days`, pictures of so many `bytes`, the newest ones; None keeps all."""

    days: float | None = None
    bytes: int | None = 10_000_000_000


class History:
    """Keeps verdicts, pictures and notes in `folder`, which is made.

    A thread of its own writes them. A verdict is lost to no kill once it is written, some ms after it was given, and
    to no power cut either; pictures that were written last may be. Where the disk is full, the oldest pictures go
    first. No verdict goes for want of room: those that cannot be written wait in memory.

    rgb: the photo of an inspection (H, W, 3) RGB uint8, or None where there is none. report: is told once when
    something cannot be written, and again when it can. clock: seconds since 1970.

    Raises UsageError for a folder that holds another database, or that another process writes; OutputError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        rgb: Callable[[Inspection], NDArray[np.uint8] | None],
        retention: Retention | None = None,
        report: Callable[[str], None] = lambda sentence: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.folder = make_folder(folder)
        self.pictures = Pictures(self.folder / "pictures")
        self._path = self.folder / FILE
        self._rgb, self._retention, self._report, self._clock = rgb, retention or Retention(), report, clock
        self._queue: deque[Inspection] = deque()
        self._photos_waiting = 0
        self._ready = threading.Condition()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._in_trouble = False
        self._forget_at = 0.0
        self.lost = 0
        HISTORY.check_start(self._path)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, HISTORY.lock(self._path))
            self._database = stack.enter_context(contextlib.closing(HISTORY.open(self._path)))
            self._writing = threading.Lock()  # of the database
            with HISTORY.one_sentence(self._path, "write"):
                make_folder(self.pictures.folder)
                self._bytes = self._match_pictures()
            self.parts = stack.enter_context(PartReader(self._path))
            self._thread = threading.Thread(target=self._run, name="history", daemon=True)
            self._thread.start()
            self._opened = stack.pop_all()

    def newest(self) -> int:
        """The highest id that was kept so far; 0 where there is none."""
        with self._writing, HISTORY.one_sentence(self._path, "read"):
            (part,) = self._database.execute("SELECT coalesce(max(id), 0) FROM part").fetchone()
        return int(part)

    def add(self, inspection: Inspection) -> None:
        """Keep a verdict: a tap of the feed."""
        with self._ready:
            if inspection.photo is not None:
                if self._photos_waiting >= PHOTOS_WAITING:
                    inspection = inspection.light()
                else:
                    self._photos_waiting += 1
            self._queue.append(inspection)
            if len(self._queue) > WAITING:
                self._photos_waiting -= self._queue[AT_ONCE].photo is not None
                del self._queue[AT_ONCE]  # the oldest one that is not being written
                self.lost += 1
            self._idle.clear()
            self._ready.notify()

    def note(self, part: int, kind: str, *, person: str | None = None, comment: str = "") -> Note:
        """Keep what a person says of a part; it is written when this returns.

        Raises UsageError for a part that is not kept, or a note that does not fit it; OutputError.
        """
        self.flush(2.0)  # it may have been judged a moment ago
        found = self.parts.get(part)
        if found is None:
            raise UsageError(f"There is no part {part} in the history.")
        made = Note(part, int(self._clock() * 1000), person, check_note(kind, person, comment, found.verdict), comment)
        with HISTORY.one_sentence(self._path, "write"), self._writing, changing(self._database, synced=True):
            self._database.execute(
                "INSERT INTO note (part, made, person, kind, comment) VALUES (?,?,?,?,?)",
                (made.part, made.made, made.person, made.kind, made.comment),
            )
        return made

    def flush(self, timeout: float) -> bool:
        """Wait until all that came before is written; whether it is."""
        return self._idle.wait(timeout)

    def close(self) -> None:
        """Write what waits, as far as the disk takes it."""
        with self._ready:
            self._closing = True
            self._ready.notify()
        self._thread.join()
        if self._queue:
            self.lost += len(self._queue)
            self._report(f"{len(self._queue)} verdicts are not in the history {self.folder}.")
        self._opened.close()

    def __enter__(self) -> "History":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._queue or self._closing, 1.0)
                waiting = [self._queue[i] for i in range(min(len(self._queue), AT_ONCE))]
                closing = self._closing
            written = self._write(waiting) if waiting else True
            if written:
                self._forget()
                with self._ready:
                    for _ in waiting:
                        self._queue.popleft()
                    if not self._queue:
                        self._idle.set()
                        if closing:
                            return
            elif closing:
                return
            else:
                time.sleep(0.2)

    def _write(self, waiting: list[Inspection]) -> bool:
        """Pictures first, and then the rows that name them. Whether all of it is written, but for pictures."""
        sizes = {}
        for place, inspection in enumerate(waiting):
            if inspection.photo is not None:
                size = self._write_picture(inspection)
                if size:
                    sizes[inspection.id] = size
                with self._ready:
                    self._photos_waiting -= 1
                    light = inspection.light()
                    self._queue[place] = waiting[place] = light  # a row that must wait, waits without
        for attempt in range(2):
            try:
                with self._writing, changing(self._database, synced=True):
                    for inspection in waiting:
                        self._insert(inspection, sizes.get(inspection.id))
                self._bytes += sum(sizes.values())
                self._well()
                return True
            except (sqlite3.Error, OSError) as error:
                if attempt or not self._remove_oldest(MAKE_ROOM):
                    for part in sizes:
                        self.pictures.remove(part)
                    self._trouble(f"Cannot write the history {self._path}: {why(error)}.")
                    return False
        return False

    def _write_picture(self, inspection: Inspection) -> int:
        """Bytes; 0 where there is no photo, or no room for it however many older ones go."""
        try:
            photo = self._rgb(inspection)
            if photo is None:
                return 0
            while True:
                try:
                    return self.pictures.write(inspection.id, photo, inspection.result)
                except OSError as error:
                    if error.errno not in FULL or not self._remove_oldest(MAKE_ROOM):
                        raise
        except (OSError, cv2.error) as error:
            self._trouble(f"Cannot keep pictures in {self.pictures.folder}: {_why(error)}. Verdicts are kept.")
        return 0

    def _insert(self, inspection: Inspection, size: int | None) -> None:
        fields = inspection.fields
        sha256 = fields.get("model_sha256")
        number = None
        if sha256 is not None:
            self._database.execute("INSERT OR IGNORE INTO model (sha256) VALUES (?)", (sha256,))
            (number,) = self._database.execute("SELECT number FROM model WHERE sha256 = ?", (sha256,)).fetchone()
        stored = {name: value for name, value in fields.items() if name != "model_sha256"}
        self._database.execute(
            f"INSERT OR REPLACE INTO part VALUES ({','.join('?' * 14)})",
            (
                inspection.id,
                int(inspection.time * 1000),
                inspection.origin,
                inspection.product,
                inspection.version,
                number,
                one_line(image_name(fields)),  # the bytes of a file's name need not be text
                inspection.verdict,
                *(fields.get(name) for name in ("score", "p_value", "threshold")),
                *(inspection.image_size or (None, None)),
                json.dumps(stored, separators=(",", ":"), allow_nan=False),
            ),
        )
        if size is not None:
            self._database.execute("INSERT OR REPLACE INTO picture VALUES (?,?)", (inspection.id, size))

    def _forget(self) -> None:
        """Remove what is beyond the retention; nothing that fails here ends anything."""
        limit = self._retention.bytes
        with contextlib.suppress(sqlite3.Error):
            while limit is not None and self._bytes > limit and self._remove_oldest(MAKE_ROOM):
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
                self.pictures.remove(part)
            with self._writing, changing(self._database, synced=False):
                for table, column in (("note", "part"), ("picture", "part"), ("part", "id")):
                    self._database.executemany(f"DELETE FROM {table} WHERE {column} = ?", [(part,) for part in gone])
            self._bytes = self._sum()
            if len(gone) < FORGET_MOST:
                self._forget_at = now + FORGET_EACH

    def _remove_oldest(self, most: int) -> int:
        """Remove the pictures of the oldest parts that have some; gives of how many there were files."""
        rows = self._database.execute("SELECT part, bytes FROM picture ORDER BY part LIMIT ?", (most,)).fetchall()
        # The files first: where the disk is full, the database can be written only then. Where it cannot even so, the
        # rows go at the next start, or with the next ones.
        removed = sum([self.pictures.remove(part) for part, _ in rows])
        with contextlib.suppress(sqlite3.Error):
            with self._writing, changing(self._database, synced=False):
                self._database.executemany("DELETE FROM picture WHERE part = ?", [(part,) for part, _ in rows])
            self._bytes -= sum(size for _, size in rows)
        return removed

    def _match_pictures(self) -> int:
        """After a crash, remove files that no row names, and rows whose files are gone. Gives the bytes of all."""
        named = {row[0] for row in self._database.execute("SELECT part FROM picture")}
        there = set(self.pictures.parts())
        for part in there - named:
            self.pictures.remove(part)
        with changing(self._database, synced=False):
            self._database.executemany("DELETE FROM picture WHERE part = ?", [(part,) for part in named - there])
        return self._sum()

    def _sum(self) -> int:
        (total,) = self._database.execute("SELECT coalesce(sum(bytes), 0) FROM picture").fetchone()
        return int(total)

    def _trouble(self, sentence: str) -> None:
        if not self._in_trouble:
            self._report(f"{sentence} Judging goes on.")
        self._in_trouble = True

    def _well(self) -> None:
        if self._in_trouble:
            self._report(f"The history {self.folder} can be written again.")
        self._in_trouble = False


def _why(error: OSError | cv2.error) -> str:
    return why(error) if isinstance(error, OSError) else "OpenCV cannot encode such a picture"
