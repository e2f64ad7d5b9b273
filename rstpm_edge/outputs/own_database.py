"""An SQLite file of this package's own: made, locked and opened, and what may be wrong with it in one sentence."""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rstpm_edge.errors import OutputError, UsageError

BUSY = 1.0  # seconds to wait for another program that holds the file
_MAGIC = b"SQLite format 3\0"


@dataclass(frozen=True)
class DatabaseKind:
    """What such a file is: `name` is its word in sentences, and `holds` what is in it.

    application: the number at byte 68 of the file. schema: that of `tables`, the statements that make them. instead:
    what to do with a file that is damaged. alone: what to do where another process writes it. checked: whether all of
    it is looked through when it is opened, which takes a second for some hundred megabytes.
    """

    name: str
    holds: str
    application: int
    schema: int
    tables: str
    instead: str
    alone: str
    checked: bool = True

    @contextlib.contextmanager
    def one_sentence(self, path: Path, verb: str) -> Iterator[None]:
        """Turns what SQLite and the system raise into OutputError, and UsageError for a file that is damaged."""
        try:
            yield
        except sqlite3.OperationalError as error:  # it is whole, as far as is known
            raise OutputError(f"Cannot {verb} the {self.name} {path}: {why(error)}.") from error
        except (sqlite3.DatabaseError, ValueError) as error:
            raise UsageError(f"The {self.name} {path} is damaged ({error}): {self.instead}.") from error
        except OSError as error:
            raise OutputError(f"Cannot {verb} the {self.name} {path}: {why(error)}.") from error

    def check_start(self, path: Path) -> None:
        """Raises, before anything is written, for a file that is none at first sight: UsageError or OutputError."""
        with self.one_sentence(path, "write"):
            self._check_start(path)

    def open(self, path: Path) -> sqlite3.Connection:
        """The file at `path`, made where there is none, or an empty one; each statement commits itself.

        The connection may be used by any thread, one at a time. Raises UsageError for a file that is another's, or
        damaged; OutputError for one that cannot be written.
        """
        with self.one_sentence(path, "write"):
            self._check_start(path)
            database = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
            try:
                if not self._is_ours(path, database):
                    database.executescript(
                        f"BEGIN IMMEDIATE; {self.tables} PRAGMA application_id = {self.application}; "
                        f"PRAGMA user_version = {self.schema}; COMMIT;"
                    )
                # A process that is killed loses nothing, and with a sync for each entry neither does a power cut.
                (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
                if mode != "wal":
                    raise OSError(None, "it, or its folder, cannot be written, or its file system has no shared memory")
            except BaseException:
                database.close()
                raise
        return database

    @contextlib.contextmanager
    def reading(self, path: Path) -> Iterator[sqlite3.Connection | None]:
        """The file for reading alone, which may be written meanwhile; None where nothing is in it yet.

        Raises UsageError for a file that is not there, is another's, or is damaged.
        """
        if not path.exists():
            raise UsageError(f"There is no {self.name} {path}.")
        with self.one_sentence(path, "read"):
            self._check_start(path)
            # On a disk that cannot be written there are no locks; nobody writes, either. The disk is that of the file,
            # not of a link to it, and so is what SQLite has beside it.
            there = Path(os.path.realpath(path))
            frozen = not os.access(there.parent, os.W_OK) and not os.path.exists(f"{there}-wal")
            address = f"{there.as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"
            opened = sqlite3.connect(address, timeout=BUSY, isolation_level=None, uri=True, check_same_thread=False)
            with contextlib.closing(opened) as database:
                yield database if self._is_ours(path, database) else None

    def lock(self, path: Path) -> int:
        """A descriptor that holds the lock of the file at `path`, `path`-lock. Raises UsageError and OutputError."""
        # Of a file of its own: SQLite has locks on the database, which go when any other descriptor of it is closed.
        try:
            lock = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise OutputError(f"Cannot write the {self.name} {path}: {error.strerror or error}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise UsageError(f"Another process keeps the {self.name} {path}: {self.alone}.") from error
        except OSError as error:
            os.close(lock)
            raise OutputError(
                f"Cannot write the {self.name} {path}: its file system has no locks ({why(error)})."
            ) from error
        return lock

    def _check_start(self, path: Path) -> None:
        """Raises before SQLite looks at a file that is not its own."""
        if not path.exists():
            return
        if not path.is_file():
            raise OSError(None, "it is no file")
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) not in (b"", _MAGIC):
                raise self._foreign(path)

    def _is_ours(self, path: Path, database: sqlite3.Connection) -> bool:
        """Whether it is one; False where nothing is in it yet."""
        (application,) = database.execute("PRAGMA application_id").fetchone()
        (schema,) = database.execute("PRAGMA user_version").fetchone()
        if application == 0 and not database.execute("SELECT 1 FROM sqlite_master").fetchone():
            return False
        if application != self.application:
            raise self._foreign(path)
        if schema > self.schema:
            raise UsageError(f"The {self.name} {path} was written by a newer rstpm-edge: update this one.")
        if self.checked and database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
            raise sqlite3.DatabaseError("pages of it are malformed")
        return True

    def _foreign(self, path: Path) -> UsageError:
        return UsageError(f"{path} holds something else than {self.holds}: give another name.")


def why(error: sqlite3.Error | OSError) -> str:
    """What a sentence ends with."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


@contextlib.contextmanager
def changing(database: sqlite3.Connection, *, synced: bool) -> Iterator[None]:
    """A transaction; one that is not synced may be lost to a power cut, but to no kill."""
    database.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:  # SQLite has taken some failures back already
            database.execute("ROLLBACK")
        raise
