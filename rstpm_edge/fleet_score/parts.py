"""Part files: the rows of a run, in OUT/model=HASH/part-N.parquet, each written whole or not at all.

What is done is known by what the part files say: the path of an image, its size and version, the hash of its content,
and the hash of the model. One command writes to a folder at a time.
"""

import contextlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rstpm_edge.atomic_files import make_folder, replacing
from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.fleet_score.rows import ROWS
from rstpm_edge.folder_lock import one_writer

SETTINGS = b"rstpm_edge.settings"  # key of a part file's metadata
_PART = re.compile(r"part-(\d{6,})\.parquet")
_KNOWN = ["path", "size", "version", "sha256"]
_SHOWN = 16  # digits of the model's hash in the folder's name


class Parts:
    """The part files of one model below `out`; made by `open_parts`."""

    def __init__(self, out: Path, model_sha256: str, settings: Mapping[str, Any]) -> None:
        self.folder = out / f"model={model_sha256[:_SHOWN]}"
        self._out = out
        self._settings = json.dumps(dict(settings), sort_keys=True)
        self._model = model_sha256

    def files(self) -> list[Path]:
        """In the order in which they were written."""
        found = [(int(name[1]), path) for path in self.folder.iterdir() if (name := _PART.fullmatch(path.name))]
        return [path for _, path in sorted(found)]

    def known(self) -> Any:
        """What is known of all images that have a row: an Arrow table with path, size, version, sha256 and `file`.

        Raises OutputError for a part file that is damaged, UsageError for one of other settings.
        """
        tables = [_no_rows()]
        for number, path in enumerate(self.files()):
            table = self._read(path, _KNOWN)
            tables.append(table.append_column("file", pa.array(np.full(len(table), number))))
        return pa.concat_tables(tables)

    def write(self, rows: Any) -> None:
        """Write a new part file of these rows (schema ROWS). Raises OutputError."""
        last = self.files()[-1:]
        number = int(_part_number(last[0])) + 1 if last else 1
        self._write(self.folder / f"part-{number:06}.parquet", rows)

    def drop(self, paths: Any) -> None:
        """Take the rows of these images (Arrow array of text) out of their part files. Raises OutputError."""
        for path in self.files() if len(paths) else ():
            table = self._read(path, ROWS.names)
            kept = table.filter(pc.invert(pc.is_in(table["path"], value_set=paths)))
            if len(kept) == 0:
                path.unlink()
            elif len(kept) < len(table):
                self._write(path, kept)

    def counts(self, paths: Any) -> dict[str, int]:
        """How many of these images (Arrow array of text) have which verdict."""
        counts: dict[str, int] = {}
        for path in self.files():
            table = self._read(path, ["path", "verdict"])
            table = table.filter(pc.is_in(table["path"], value_set=paths))
            for pair in pc.value_counts(table["verdict"]).to_pylist():
                counts[pair["values"]] = counts.get(pair["values"], 0) + pair["counts"]
        return counts

    def _write(self, path: Path, rows: Any) -> None:
        named = rows.replace_schema_metadata({SETTINGS: self._settings})
        with replacing(path, below=self._out) as file:
            try:
                pq.write_table(named, file, compression="zstd")
            except pa.ArrowException as error:
                raise OutputError(f"Cannot write {path}: {error}.") from error
            file.flush()
            os.fsync(file.fileno())  # a rename that overtakes its data leaves an empty file after a power cut

    def _read(self, path: Path, columns: list[str]) -> Any:
        try:
            parquet = pq.ParquetFile(path, memory_map=False)
            stored = (parquet.schema_arrow.metadata or {}).get(SETTINGS)
            table = parquet.read(columns=columns)
            parquet.close()
        except (OSError, pa.ArrowException, KeyError) as error:
            raise OutputError(
                f"{path} is damaged ({' '.join(str(error).split())}): delete it, and the same command judges its "
                "images again."
            ) from error
        if stored is None or stored.decode() != self._settings:
            raise UsageError(
                f"{path} was made with other options ({'none' if stored is None else stored.decode()} there, "
                f"{self._settings} here): give another `out`."
            )
        return table


@contextlib.contextmanager
def open_parts(out: Path, model_sha256: str, settings: Mapping[str, Any]) -> Iterator[Parts]:
    """The part files of this model in `out`, which is made where it is missing, for as long as the block lasts.

    `settings` are what changes verdicts besides the model. Raises OutputError; UsageError where another command is
    writing to `out`.
    """
    parts = Parts(make_folder(out), model_sha256, settings)
    make_folder(parts.folder, below=out)
    with one_writer(out):
        yield parts


def _part_number(path: Path) -> str:
    found = _PART.fullmatch(path.name)
    assert found is not None
    return found[1]


def _no_rows() -> Any:
    fields = [*(ROWS.field(name) for name in _KNOWN), pa.field("file", pa.int64())]
    return pa.table({field.name: pa.array([], field.type) for field in fields}, schema=pa.schema(fields))
