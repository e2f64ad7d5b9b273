"""Images as bytes in Parquet files: a column of bytes, or of {bytes, path} as in Hugging Face's data sets."""

import os
from collections.abc import Sequence
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from rstpm_edge.errors import ImageError, SourceError, UsageError
from rstpm_edge.fleet_score.items import ITEMS, shown
from rstpm_edge.printable import without_password

PARQUET = ".parquet"


def items_of_parquet(files: Sequence[tuple[str, int, str]], column: str | None) -> Any:
    """An item of each row of the files, which are (path or address, size, version).

    Raises SourceError for a file that cannot be read, UsageError for a column that is missing or has no bytes.
    """
    tables = []
    for path, size, version in files:
        try:
            with fsspec.open(path, "rb") as file:
                parquet = pq.ParquetFile(file)
                name = _column(parquet.schema_arrow, column, path)
                lengths = [parquet.metadata.row_group(i).num_rows for i in range(parquet.num_row_groups)]
        except (OSError, pa.ArrowException) as error:
            raise SourceError(f"Cannot read {without_password(path)}: {' '.join(str(error).split())}") from error
        rows = np.concatenate([np.arange(length) for length in lengths]) if lengths else np.zeros(0, np.int64)
        count = len(rows)
        tables.append(
            pa.table(
                {
                    "path": [f"{shown(path)}#{number}" for number in range(count)],
                    "location": [os.fsencode(path)] * count,
                    "row": rows,
                    "group": np.repeat(np.arange(len(lengths)), lengths),
                    "column": [name] * count,
                    "size": [size] * count,
                    "version": [version] * count,
                },
                schema=ITEMS,
            )
        )
    return pa.concat_tables(tables)


class ParquetImages:
    """Gives images out of Parquet files; the row group that the last one came from stays in memory."""

    def __init__(self) -> None:
        self._key: tuple[str, int, str] | None = None
        self._images: Any = None

    def read(self, location: str, group: int, column: str, row: int) -> bytes:
        """The bytes of one image. Raises ImageError where there are none, or the file cannot be read."""
        if self._key != (location, group, column):
            self._key = self._images = None
            try:
                with fsspec.open(location, "rb") as file:
                    table = pq.ParquetFile(file).read_row_group(group, columns=[column])
            except (OSError, KeyError, pa.ArrowException) as error:
                raise ImageError(f"Cannot read {without_password(location)}: {' '.join(str(error).split())}") from error
            self._images, self._key = table[column].combine_chunks(), (location, group, column)
        if row >= len(self._images):
            raise ImageError(f"{without_password(location)} has changed: it has no row {row} in row group {group}.")
        value = self._images[row].as_py()
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            raise ImageError("There are no bytes in this row.")
        return bytes(content)


def _column(schema: Any, column: str | None, path: str) -> str:
    fitting = [field.name for field in schema if _is_bytes(field.type)]
    names = ", ".join(fitting) or "none"
    if column is not None:
        if column not in fitting:
            raise UsageError(f"{without_password(path)} has no column {column!r} of bytes; it has {names}.")
        return column
    if len(fitting) != 1:
        raise UsageError(
            f"{without_password(path)} must have one column of bytes, or `column` must name it; it has {names}."
        )
    return str(fitting[0])


def _is_bytes(kind: Any) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" and _is_bytes(field.type) for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))
