"""What was judged in a watched folder, kept across restarts: one verdict for each file, whatever ends the process."""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rstpm_edge.errors import OutputError
from rstpm_edge.outputs.journal_database import CUT_OFF, JOURNAL, TOLD, UNTOLD, signed
from rstpm_edge.outputs.own_database import changing, why
from rstpm_edge.sources.file_state import WatchedFile

WAITING = 10_000  # entries that are held in memory while the journal cannot be written; some 10 MB
FORGET_EACH = 3600.0  # seconds between two looks for what is too old
FORGET_MOST = 1000  # entries at a time, so that no part waits
DAY = 86_400_000  # ms


@dataclass
class _Entry:
    """A verdict, and its number once it is written."""

    file: WatchedFile
    judged: int  # ms since 1970
    model: str  # SHA-256
    fields: str
    told: int = UNTOLD
    number: int | None = None


class Journal:
    """Keeps the verdicts of the files of one watched folder at `path`, in SQLite. `journal_database` has the format.

    A verdict is in the journal before anybody is told of it, and synced to the disk: it is lost to no kill and to no
    power cut, and a file is judged again only where nobody has been told of it. So what is printed and passed on is
    told at most once; the journal has each verdict exactly once.

    path: beside it lie `path`-lock, which says that a process writes it, and SQLite's -wal and -shm.
    days: fields of verdicts that are older are forgotten, while their files stay known. None keeps all.
    report: is told once when it cannot be written, and again when it can. Verdicts wait in memory meanwhile; `lost`
        counts those that did not get in.
    clock: seconds since 1970, for `days` and for people; no order depends on it. now: seconds.

    `untold` is how many verdicts stand in the journal of which the last process may not have told.

    Raises UsageError for a file that holds something else, is damaged, or that another process writes; OutputError for
    one that cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        days: float | None = None,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.time,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        path = Path(os.path.realpath(path))  # a lock of its own lies beside the file, by whatever link it is named
        self._path, self._days, self._report, self._clock, self._now = path, days, report, clock, now
        self._waiting: list[_Entry] = []
        self._unmarked: list[int] = []  # numbers of entries that were told of, which the file does not say yet
        self._dropped = 0
        self._in_trouble = False
        self._forget_at = now()
        self._begun: tuple[bytes, int, int] | None = None  # what this process has begun with last
        JOURNAL.check_start(path)  # no lock is left beside somebody else's file
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, JOURNAL.lock(path))
            self._database = stack.enter_context(contextlib.closing(JOURNAL.open(path)))
            try:
                self._inode = os.stat(path).st_ino
                with changing(self._database, synced=True):
                    self.untold = self._database.execute(
                        "UPDATE verdict SET told = ? WHERE told = ?", (CUT_OFF, UNTOLD)
                    ).rowcount
                trial = "SELECT name, size, changed, begun FROM trial WHERE typeof(begun) = 'integer'"
                self._trial = self._database.execute(trial).fetchone()
            except (sqlite3.Error, OSError) as error:
                raise OutputError(f"Cannot write the journal {path}: {why(error)}.") from error
            self._opened = stack.pop_all()

    @property
    def lost(self) -> int:
        """How many verdicts are not in the journal."""
        return self._dropped + len(self._waiting)

    def holds(self, file: WatchedFile) -> bool:
        """Whether the file was judged: one of this name, size and time stamp, or, moved, of this inode."""
        if any(entry.file == file for entry in self._waiting):
            return True
        inode, size, changed = map(signed, file.state)
        known = "SELECT 1 FROM verdict WHERE changed = ? AND size = ? AND"
        try:
            found = self._database.execute(f"{known} name = ?", (changed, size, file.stored_name)).fetchone()
            if found is None and file.state.is_distinct:
                found = self._database.execute(f"{known} inode = ?", (changed, size, inode)).fetchone()
        except sqlite3.Error as error:
            self._trouble(f"Cannot read the journal {self._path}: {why(error)}. Files are judged again.")
            return False
        return found is not None

    def begin(self, file: WatchedFile) -> int:
        """The file is read and judged now; gives how many processes in a row have died while they did."""
        _, size, changed = map(signed, file.state)
        key = file.stored_name, size, changed
        if self._begun != key:  # else it could not be read a moment ago
            died = int(self._trial[3]) if self._trial is not None and self._trial[:3] == key else 0
            self._begun, self._trial = key, (*key, died + 1)
            with (
                contextlib.suppress(sqlite3.Error),
                changing(self._database, synced=False),
            ):  # the next entry says what is wrong
                self._database.execute("DELETE FROM trial")
                self._database.execute("INSERT INTO trial VALUES (?, ?, ?, ?)", self._trial)
        return int(self._trial[3]) - 1

    @contextlib.contextmanager
    def entry(self, file: WatchedFile, fields: Mapping[str, Any], model_sha256: str) -> Iterator[None]:
        """Keep a verdict, as `verdict_fields` or `failure_fields` gives it; the block then tells of it."""
        stored = {name: value for name, value in fields.items() if name != "model_sha256"}  # which the entry has once
        document = json.dumps(stored, separators=(",", ":"), allow_nan=False)
        entry = _Entry(file, int(self._clock() * 1000), model_sha256, document)
        self._waiting.append(entry)
        self._write()
        yield
        entry.told = TOLD
        if entry.number is not None:
            self._unmarked.append(entry.number)
            with contextlib.suppress(sqlite3.Error):  # then with the next entry
                with changing(self._database, synced=False):
                    self._mark()
                self._unmarked.clear()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._waiting:
            self._write()
        if kind is None:
            with contextlib.suppress(sqlite3.Error), changing(self._database, synced=False):
                self._database.execute("DELETE FROM trial")
        with contextlib.suppress(sqlite3.Error):  # what could not be written has been told
            self._opened.close()

    def _write(self) -> None:
        """Write what waits, and say so where that fails or works again."""
        written = list(self._waiting)
        try:
            self._stay()
            with changing(self._database, synced=True):
                self._mark()
                numbers = [self._insert(entry) for entry in written]
                self._forget()
        except (sqlite3.Error, OSError) as error:
            self._trouble(
                f"Cannot write the journal {self._path}: {why(error)}. Judging goes on, and verdicts wait in memory."
            )
            if len(self._waiting) > WAITING:
                del self._waiting[0]
                self._dropped += 1
        else:
            for entry, number in zip(written, numbers, strict=True):
                entry.number = number
            self._waiting.clear()
            self._unmarked.clear()
            if self._in_trouble:
                self._report(f"The journal {self._path} can be written again.")
            self._in_trouble = False

    def _insert(self, entry: _Entry) -> int:
        inode, size, changed = map(signed, entry.file.state)
        number = self._database.execute(
            "INSERT INTO verdict (name, inode, size, changed, judged, told, model, fields) VALUES (?,?,?,?,?,?,?,?)",
            (
                entry.file.stored_name,
                inode,
                size,
                changed,
                signed(entry.judged),
                entry.told,
                self._model(entry.model),
                entry.fields,
            ),
        ).lastrowid
        assert number is not None
        return number

    def _model(self, sha256: str) -> int:
        self._database.execute("INSERT OR IGNORE INTO model (sha256) VALUES (?)", (sha256,))
        (number,) = self._database.execute("SELECT number FROM model WHERE sha256 = ?", (sha256,)).fetchone()
        return int(number)

    def _mark(self) -> None:
        self._database.executemany(
            "UPDATE verdict SET told = ? WHERE number = ?", [(TOLD, number) for number in self._unmarked]
        )

    def _forget(self) -> None:
        if self._days is None or self._now() < self._forget_at:
            return
        oldest = int(self._clock() * 1000 - self._days * DAY)
        forgotten = self._database.execute(
            "UPDATE verdict SET fields = NULL WHERE number IN "
            "(SELECT number FROM verdict WHERE fields IS NOT NULL AND judged < ? LIMIT ?)",
            (oldest, FORGET_MOST),
        ).rowcount
        if forgotten < FORGET_MOST:
            self._forget_at = self._now() + FORGET_EACH

    def _stay(self) -> None:
        """Raises OSError where the file is not at its place any more, and what is written would be lost."""
        try:
            there = os.stat(self._path).st_ino == self._inode
        except FileNotFoundError:
            there = False
        if not there:
            raise OSError(None, "it was moved or removed; put it back, or start anew")

    def _trouble(self, sentence: str) -> None:
        if not self._in_trouble:
            self._report(sentence)
        self._in_trouble = True
