"""What is known of an image before it is read, as a row of an Arrow table.

path      text, by which people and part files know it: a file, an address, or FILE.parquet#ROW
location  bytes, by which it is opened: the name of a file may hold any bytes
row       of a Parquet file, from 0 in each row group; -1 for a file of its own
group     the row group, -1 for a file
column    of the images' bytes, empty for a file
size      of the file in bytes
version   what changes with the file: its time or entity tag; never what decides alone
"""

import os
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

ITEMS = pa.schema(
    [
        ("path", pa.string()),
        ("location", pa.binary()),
        ("row", pa.int64()),
        ("group", pa.int64()),
        ("column", pa.string()),
        ("size", pa.int64()),
        ("version", pa.string()),
    ]
)


def table_of(files: Iterable[tuple[str, int, str]]) -> Any:
    """Items of files of their own: (path or address, size, version) of each."""
    rows = list(files)
    return pa.table(
        {
            "path": [shown(path) for path, _, _ in rows],
            "location": [os.fsencode(path) for path, _, _ in rows],
            "row": [-1] * len(rows),
            "group": [-1] * len(rows),
            "column": [""] * len(rows),
            "size": [size for _, size, _ in rows],
            "version": [version for _, _, version in rows],
        },
        schema=ITEMS,
    )


def shown(path: str) -> str:
    """`path` as text that any program can store: bytes that are no UTF-8 as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
