"""The file of a journal: an SQLite database of this package's own, and what may be wrong with it.

Table `verdict`: a row for each file that was judged, or could not be. `name` is the path below the watched folder, as
bytes; with `size` and `changed` (time stamp, ns) it tells the file. `judged` is when, in ms since 1970, for people.
`told` is 0 until the verdict has been printed and passed on, then 1; -1 where a process ended in between. `fields` is
the JSON of `infer --json`, or NULL where it was forgotten for its age. Numbers that do not fit into 64 bits with a sign
are stored modulo 2^64. Table `model`: the SHA-256 of each model that judged. Table `trial`: at most one row, the file
that is read or judged now, and how many processes in a row have begun with it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rstpm_edge import document as read
from rstpm_edge.outputs.own_database import DatabaseKind
from rstpm_edge.outputs.verdict_json import verdict_line
from rstpm_edge.sources.frames import utc_time

NEEDS = "0.1"  # the first release that reads the schema
TOLD, UNTOLD, CUT_OFF = 1, 0, -1
JOURNAL = DatabaseKind(
    name="journal",
    holds="a journal of verdicts",
    application=0x52535450,  # "RSTP"
    schema=1,
    tables="""
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
""",
    instead="give another name, or remove it to begin anew: then every file in the folder is judged again",
    alone="give each watched folder, and each model, one of its own",
)


def read_entries(path: Path, *, untold: bool = False) -> Iterator[dict[str, Any]]:
    """What a journal holds, in the order of judging: the fields of each verdict, and "judged", "told" and
    "model_sha256".

    It may be written meanwhile. `untold`: only those of which a process ended before it had told of them.

    Raises UsageError for a file that is not there, is no journal, or is damaged.
    """
    with JOURNAL.reading(path) as database:
        if database is None:
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
