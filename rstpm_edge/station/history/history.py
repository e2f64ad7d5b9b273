"""Keeps what a station judged. It is a tap of the feed, and never holds up the line."""

import contextlib
import errno
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rstpm_edge.atomic_files import make_folder
from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.own_database import changing, why
from rstpm_edge.station.closing import Closing
from rstpm_edge.station.event import Inspection
from rstpm_edge.station.history.database import FILE, HISTORY, insert_part
from rstpm_edge.station.history.notes import Note, check_note
from rstpm_edge.station.history.parts import PartReader
from rstpm_edge.station.history.pictures import Pictures
from rstpm_edge.station.history.retention import Retention, Room

PHOTOS_WAITING = 32  # photos in memory that wait for the disk; further ones are not kept, their verdicts are
WAITING = 100_000  # verdicts that wait while the disk is full; some 100 MB
AT_ONCE = 200  # verdicts in one transaction
FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class History(Closing):
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
        self._rgb, self._report, self._clock = rgb, report, clock
        self._queue: deque[Inspection] = deque()
        self._photos_waiting = 0
        self._sizes: dict[int, int] = {}  # bytes of pictures whose rows are not written yet, by their parts
        self._ready = threading.Condition()
        self._idle = threading.Event()
        self._idle.set()
        self._closing = False
        self._in_trouble = False
        self.lost = 0
        HISTORY.check_start(self._path)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, HISTORY.lock(self._path))
            self._database = stack.enter_context(contextlib.closing(HISTORY.open(self._path)))
            self._writing = threading.Lock()  # of the database
            with HISTORY.one_sentence(self._path, "write"):
                make_folder(self.pictures.folder)
                self._room = Room(self._database, self._writing, self.pictures, retention or Retention(), clock)
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

    def _run(self) -> None:
        while True:
            with self._ready:
                self._ready.wait_for(lambda: self._queue or self._closing, 1.0)
                waiting = [self._queue[i] for i in range(min(len(self._queue), AT_ONCE))]
                closing = self._closing
            written = self._write(waiting) if waiting else True
            if written:
                self._room.forget()
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
        for place, inspection in enumerate(waiting):
            if inspection.photo is not None:
                size = self._write_picture(inspection)
                if size:
                    self._sizes[inspection.id] = size
                with self._ready:
                    self._photos_waiting -= 1
                    light = inspection.light()
                    self._queue[place] = waiting[place] = light  # a row that must wait, waits without
        for attempt in range(2):
            try:
                with self._writing, changing(self._database, synced=True):
                    for inspection in waiting:
                        insert_part(self._database, inspection, self._sizes.get(inspection.id))
                self._room.take(sum(self._sizes.values()))
                self._sizes.clear()
                self._well()
                return True
            except (sqlite3.Error, OSError) as error:
                full = _is_full(error)  # what is locked, or damaged, is so with fewer pictures, too
                if full and not attempt and self._room.remove_oldest():
                    continue
                if full:
                    for part in self._sizes:
                        self.pictures.remove(part)
                    self._sizes.clear()
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
                    if not _is_full(error) or not self._room.remove_oldest():
                        raise
        except (OSError, cv2.error) as error:
            self._trouble(f"Cannot keep pictures in {self.pictures.folder}: {_why(error)}. Verdicts are kept.")
        return 0

    def _trouble(self, sentence: str) -> None:
        if not self._in_trouble:
            self._report(f"{sentence} Judging goes on.")
        self._in_trouble = True

    def _well(self) -> None:
        if self._in_trouble:
            self._report(f"The history {self.folder} can be written again.")
        self._in_trouble = False


def _is_full(error: sqlite3.Error | OSError) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    return str(error) == "database or disk is full"  # SQLITE_FULL: Python tells its number only from 3.11 on


def _why(error: OSError | cv2.error) -> str:
    return why(error) if isinstance(error, OSError) else "OpenCV cannot encode such a picture"
