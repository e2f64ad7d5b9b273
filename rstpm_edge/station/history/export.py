"""A history as a table: CSV for spreadsheets, Parquet for analysis."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from rstpm_edge.atomic_files import replacing
from rstpm_edge.errors import UsageError
from rstpm_edge.outputs.csv_file import csv_row
from rstpm_edge.printable import one_line
from rstpm_edge.sources.frames import utc_time
from rstpm_edge.station.history.parts import Part

# Of each column its type in Parquet.
COLUMNS = {
    "id": "int64",
    "judged": "timestamp",
    "origin": "string",
    "product": "string",
    "version": "string",
    "model_sha256": "string",
    "name": "string",
    "verdict": "string",
    "score": "double",
    "p_value": "double",
    "threshold": "double",
    "alpha": "double",
    "regions": "int64",
    "reason": "string",
    "decision": "string",
    "decided": "timestamp",
    "person": "string",
    "comment": "string",
}
_ROWS = 10_000  # of a group in Parquet


def row_of(part: Part) -> dict[str, Any]:
    """A row: `judged` and `decided` in ms since 1970, `reason` why it is invalid or failed, and what a person decided
    last; `comment` is the last one that says anything."""
    decisions = [note for note in part.notes if note.kind not in ("comment", "withdrawn")]
    last = decisions[-1] if decisions and part.standing is not None else None
    comments = [note.comment for note in part.notes if note.comment]
    regions = part.fields.get("regions")
    reason = part.fields.get("invalid_reason") or part.fields.get("error")
    return {
        "id": part.id,
        "judged": part.judged,
        "origin": part.origin,
        "product": part.product,
        "version": part.version,
        "model_sha256": part.model_sha256,
        "name": part.name,
        "verdict": part.verdict,
        "score": part.score,
        "p_value": part.p_value,
        "threshold": part.threshold,
        "alpha": part.fields.get("alpha"),
        "regions": None if regions is None else len(regions),
        "reason": None if reason is None else one_line(reason),  # it may name a file whose name is no text
        "decision": part.standing,
        "decided": None if last is None else last.made,
        "person": None if last is None else last.person,
        "comment": comments[-1] if comments else None,
    }


def write_csv(parts: Iterable[Part], path: Path) -> int:
    """Write a table in UTF-8, whole or not at all; times are ISO 8601 in UTC. Gives the number of rows.

    Raises OutputError.
    """
    count = 0
    with replacing(path) as file:
        file.write(csv_row(list(COLUMNS)))
        for part in parts:
            count += 1
            file.write(csv_row([_for_people(name, value) for name, value in row_of(part).items()]))
    return count


def write_parquet(parts: Iterable[Part], path: Path) -> int:
    """Write a Parquet file, whole or not at all; times are timestamps in UTC. Gives the number of rows.

    Raises UsageError where pyarrow is not installed, and OutputError.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UsageError("Parquet needs pyarrow: pip install pyarrow. CSV needs nothing.") from error
    kinds = {
        "int64": pyarrow.int64(),
        "double": pyarrow.float64(),
        "string": pyarrow.string(),
        "timestamp": pyarrow.timestamp("ms", tz="UTC"),
    }
    schema = pyarrow.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])
    count, rows = 0, map(row_of, parts)
    with replacing(path) as file, parquet.ParquetWriter(file, schema) as writer:
        for group in _groups(rows):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _groups(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while group := list(islice(rows, _ROWS)):
        yield group


def _for_people(name: str, value: Any) -> Any:
    return utc_time(value / 1000) if COLUMNS[name] == "timestamp" and value is not None else value
