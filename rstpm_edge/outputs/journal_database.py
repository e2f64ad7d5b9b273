"""The file of a journal: an SQLite database of this package's own, and what may be wrong with it.

Table `verdict`: a row for each file that was judged, or could not be. `name` is the path below the watched folder, as
bytes; with `size` and `changed` (time stamp, ns) it tells the file. `judged` is when, in ms since 1970, for people.
`told` is 0 until the verdict has been printed and passed on, then 1; -1 where a process ended in between. `fields` is
the JSON of `infer --json`, or NULL where it was forgotten for its age. Numbers that do not fit into 64 bits with a sign
are stored modulo 2^64. Table `model`: the SHA-256 of each model that judged. Table `trial`: at most one row, the file
that is read or judged now, and how many processes in a row have begun with it.
"""

import contextlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rstpm_edge import document as read
from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.verdict_json import verdict_line
from rstpm_edge.sources.frames import utc_time

APPLICATION = 0x52535450  # "RSTP", at byte 68 of the file
SCHEMA, NEEDS = 1, "0.1"
TOLD, UNTOLD, CUT_OFF = 1, 0, -1
BUSY = 1.0  # seconds to wait for another program that holds the file
_MAGIC = b"SQLite format 3\0"
_TABLES = """
CREATE TABLE model (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE);
CREATE TABLE verdict (
    number INTEGER PRIMARY KEY,
    name BLOB NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    judged INTEGER NOT NULL,
    told INTEGER NOT NULL,
    model INTEGER NOT NULL REFERENCES model,
    fields TEXT
);
CREATE TABLE trial (name BLOB NOT NULL, size INTEGER NOT NULL, changed INTEGER NOT NULL, begun INTEGER NOT NULL);
CREATE INDEX file ON verdict (changed, size, name);
CREATE INDEX kept ON verdict (judged) WHERE fields IS NOT NULL;
CREATE INDEX untold ON verdict (told) WHERE told < 1;
"""


def check_start(path: Path) -> None:
    """Raises, before anything is written, for a file that is no journal at first sight: UsageError or OutputError."""
    with _one_sentence(path, "write"):
        _check_start(path)


def open_database(path: Path) -> sqlite3.Connection:
    """The journal at `path`, which is made where there is none, or an empty file; each statement commits itself.

    Raises UsageError for a file that is none, or damaged; OutputError for one that cannot be written.
    """
    with _one_sentence(path, "write"):
        _check_start(path)
        # Opened in one thread, and written in that of a line: one after the other.
        database = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)
        try:
            if not _is_journal(path, database):
                database.executescript(
                    f"BEGIN IMMEDIATE; {_TABLES} PRAGMA application_id = {APPLICATION}; "
                    f"PRAGMA user_version = {SCHEMA}; COMMIT;"
                )
            # A process that is killed loses nothing, and with a sync for each verdict neither does a power cut.
            (mode,) = database.execute("PRAGMA journal_mode = WAL").fetchone()
            if mode != "wal":
                raise OSError(None, "it, or its folder, cannot be written, or its file system has no shared memory")
        except BaseException:
            database.close()
            raise
    return database


def read_entries(path: Path, *, untold: bool = False) -> Iterator[dict[str, Any]]:
    """What a journal holds, in the order of judging: the fields of each verdict, and "judged", "told" and
    "model_sha256".

    It may be written meanwhile. `untold`: only those of which a process ended before it had told of them.

    Raises UsageError for a file that is not there, is no journal, or is damaged.
    """
    if not path.exists():
        raise UsageError(f"There is no journal {path}.")
    with _one_sentence(path, "read"):
        _check_start(path)
        # On a disk that cannot be written there are no locks; nobody writes, either.
        frozen = not os.access(path.parent, os.W_OK) and not os.path.exists(f"{path}-wal")
        address = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if frozen else ''}"
        with contextlib.closing(sqlite3.connect(address, timeout=BUSY, isolation_level=None, uri=True)) as database:
            if not _is_journal(path, database):
                return
            rows = database.execute(
                "SELECT verdict.number, fields, judged, told, sha256 FROM verdict JOIN model ON model = model.number "
                f"WHERE fields IS NOT NULL {'AND told < 1' if untold else ''} ORDER BY verdict.number"
            )
            for number, fields, judged, told, sha256 in rows:
                yield _entry(number, fields, judged, told, sha256)


def _entry(number: int, fields: Any, judged: Any, told: Any, sha256: Any) -> dict[str, Any]:
    """What `read_entries` gives of a row. Raises ValueError for one that somebody else has written."""
    # SQLite keeps in a column whatever it is given, by whoever opens the file.
    try:
        found = read.load(fields)
        json.dumps(found, allow_nan=False)
        verdict_line(found)
        if not isinstance(judged, int) or not isinstance(sha256, str):
            raise TypeError("no time, or no hash")
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"row {number} of its verdicts is none that `infer` writes") from error
    return {**found, "judged": utc_time(judged / 1000), "told": told == TOLD, "model_sha256": sha256}


def signed(number: int) -> int:
    """`number` modulo 2^64, as SQLite stores integers: inodes of network folders may be larger, and so may dates."""
    return (number + 2**63) % 2**64 - 2**63


def why(error: sqlite3.Error | OSError) -> str:
    """What a sentence ends with."""
    return (error.strerror or str(error)) if isinstance(error, OSError) else str(error)


@contextlib.contextmanager
def _one_sentence(path: Path, verb: str) -> Iterator[None]:
    instead = "give another name, or remove it to begin anew: then every file in the folder is judged again"
    try:
        yield
    except sqlite3.OperationalError as error:  # it is whole, as far as is known
        raise OutputError(f"Cannot {verb} the journal {path}: {why(error)}.") from error
    except (sqlite3.DatabaseError, ValueError) as error:
        raise UsageError(f"The journal {path} is damaged ({error}): {instead}.") from error
    except OSError as error:
        raise OutputError(f"Cannot {verb} the journal {path}: {why(error)}.") from error


def _check_start(path: Path) -> None:
    """Raises before SQLite looks at a file that is not its own."""
    if not path.exists():
        return
    if not path.is_file():
        raise OSError(None, "it is no file")
    with open(path, "rb") as file:
        if file.read(len(_MAGIC)) not in (b"", _MAGIC):
            raise _foreign(path)


def _is_journal(path: Path, database: sqlite3.Connection) -> bool:
    """Whether it is one; False where nothing is in it yet."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (schema,) = database.execute("PRAGMA user_version").fetchone()
    if application == 0 and not database.execute("SELECT 1 FROM sqlite_master").fetchone():
        return False
    if application != APPLICATION:
        raise _foreign(path)
    if schema > SCHEMA:
        raise UsageError(f"The journal {path} was written by a newer rstpm-edge: update this one.")
    if database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("pages of it are malformed")
    return True


def _foreign(path: Path) -> UsageError:
    return UsageError(f"{path} holds something else than a journal of verdicts: give another name.")
