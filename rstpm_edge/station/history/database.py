"""The SQLite file of a history, in a folder of its own beside the pictures.

Table `part`: a row for each verdict. `id` is the inspection's, `judged` is when, in ms since 1970; `model` numbers the
SHA-256 in table `model`. `name` is what was judged, for people; `width` and `height` are the photo's, where it was
judged; `fields` is the JSON of `infer --json`. Table `picture`: for each part of which pictures are kept, how many
bytes they take. Table `note`: what a person said of a part, and when; nothing in it is changed: the newest one counts.
"""

import json
import sqlite3
from pathlib import Path

from rstpm_edge.outputs.own_database import DatabaseKind
from rstpm_edge.outputs.verdict_json import image_name
from rstpm_edge.printable import one_line
from rstpm_edge.station.event import Inspection

NEEDS = "0.1"  # the first release that reads the schema
FILE = "history.sqlite"
HISTORY = DatabaseKind(
    name="history",
    holds="the history of a station",
    application=0x52535448,  # "RSTH"
    schema=1,
    tables="""
CREATE TABLE model (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL UNIQUE);
CREATE TABLE part (
    id INTEGER PRIMARY KEY,
    judged INTEGER NOT NULL,
    origin TEXT NOT NULL,
    product TEXT NOT NULL,
    version TEXT NOT NULL,
    model INTEGER REFERENCES model,
    name TEXT NOT NULL,
    verdict TEXT NOT NULL,
    score REAL,
    p_value REAL,
    threshold REAL,
    width INTEGER,
    height INTEGER,
    fields TEXT NOT NULL
);
CREATE TABLE picture (part INTEGER PRIMARY KEY, bytes INTEGER NOT NULL);
CREATE TABLE note (
    number INTEGER PRIMARY KEY,
    part INTEGER NOT NULL,
    made INTEGER NOT NULL,
    person TEXT,
    kind TEXT NOT NULL,
    comment TEXT NOT NULL
);
CREATE INDEX judged ON part (judged);
CREATE INDEX of_model ON part (model, id);
CREATE INDEX of_verdict ON part (verdict, id);
CREATE INDEX of_part ON note (part, number);
""",
    instead="give another folder, or move it away to begin anew",
    alone="give each station a folder of its own",
    checked=False,  # it grows for years, and SQLite says so where it meets a page that is malformed
)


def database_of(folder: Path) -> Path:
    """Where the history in a folder lies; the file itself may be named, too."""
    return folder / FILE if folder.is_dir() or folder.name != FILE else folder


def insert_part(database: sqlite3.Connection, inspection: Inspection, size: int | None) -> None:
    """Keep a verdict, and that its pictures take so many bytes; None where it has none. Raises sqlite3.Error."""
    fields = inspection.fields
    sha256 = fields.get("model_sha256")
    number = None
    if sha256 is not None:
        database.execute("INSERT OR IGNORE INTO model (sha256) VALUES (?)", (sha256,))
        (number,) = database.execute("SELECT number FROM model WHERE sha256 = ?", (sha256,)).fetchone()
    stored = {name: value for name, value in fields.items() if name != "model_sha256"}
    width, height = inspection.image_size or (None, None)
    row = {
        "id": inspection.id,
        "judged": int(inspection.time * 1000),
        "origin": inspection.origin,
        "product": inspection.product,
        "version": inspection.version,
        "model": number,
        "name": one_line(image_name(fields)),  # the bytes of a file's name need not be text
        "verdict": inspection.verdict,
        "score": fields.get("score"),
        "p_value": fields.get("p_value"),
        "threshold": fields.get("threshold"),
        "width": width,
        "height": height,
        "fields": json.dumps(stored, separators=(",", ":"), allow_nan=False),
    }
    values = ",".join(f":{name}" for name in row)
    database.execute(f"INSERT OR REPLACE INTO part ({','.join(row)}) VALUES ({values})", row)
    if size is not None:
        database.execute("INSERT OR REPLACE INTO picture VALUES (?,?)", (inspection.id, size))
