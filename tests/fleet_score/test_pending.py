"""What is judged again, and what is not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.fleet_score.archive import list_archive
from rstpm_edge.fleet_score.parts import Parts, open_parts
from rstpm_edge.fleet_score.pending import pending
from rstpm_edge.fleet_score.rows import ROWS, failed

pytestmark = pytest.mark.extra
MODEL = "ab" * 32


def rows_of(items: Any, *, hashed: bool = True) -> Any:
    """Rows as if all of these files had been read."""
    return pa.Table.from_pylist(
        [
            {
                **failed("no verdict here"),
                "path": item["path"],
                "model_sha256": MODEL,
                "sha256": hashlib.sha256(Path(item["path"]).read_bytes()).hexdigest() if hashed else None,
                "size": item["size"],
                "version": item["version"],
            }
            for item in items.to_pylist()
        ],
        schema=ROWS,
    )


@pytest.fixture
def parts(tmp_path: Path) -> Any:
    with open_parts(tmp_path / "out", MODEL, {"alpha": None}) as parts:
        yield parts


def names(table: Any) -> list[str]:
    return [Path(path).name for path in table["path"].to_pylist()]


def test_only_what_is_new_or_has_another_content(photos: Path, parts: Parts) -> None:
    items = list_archive(str(photos)).items
    assert names(items) == ["1.png", "10.png", "2.jpg"]
    assert names(pending(items, parts.known()).items) == ["1.png", "10.png", "2.jpg"]
    parts.write(rows_of(items.slice(0, 1)))
    parts.write(rows_of(items.slice(1)))
    todo = pending(items, parts.known())
    assert (len(todo.items), len(todo.stale)) == (0, 0)

    os.utime(photos / "1.png", (5, 5))  # touched, but the same
    (photos / "new.png").write_bytes((photos / "1.png").read_bytes())
    other = bytearray((photos / "10.png").read_bytes())
    other[-1] ^= 1  # of the same size
    (photos / "10.png").write_bytes(other)
    os.utime(photos / "10.png", (7, 7))
    with open(photos / "sub" / "2.jpg", "ab") as file:
        file.write(b"x")  # another size
    todo = pending(list_archive(str(photos)).items, parts.known())
    assert names(todo.items) == ["10.png", "new.png", "2.jpg"]
    assert sorted(Path(path).name for path in todo.stale.to_pylist()) == ["10.png", "2.jpg"]
    parts.drop(todo.stale)
    assert names(parts.known()) == ["1.png"]
    assert len(parts.files()) == 1  # one without rows goes


def test_what_could_not_be_read_is_tried_again(photos: Path, parts: Parts) -> None:
    items = list_archive(str(photos)).items
    parts.write(rows_of(items.slice(0, 2)))
    parts.write(rows_of(items.slice(2), hashed=False))
    todo = pending(items, parts.known())
    assert names(todo.items) == ["2.jpg"]
    assert len(todo.stale) == 1


def test_files_of_others(photos: Path, tmp_path: Path, parts: Parts) -> None:
    parts.write(rows_of(list_archive(str(photos)).items))
    with pytest.raises(UsageError, match="Another command is writing to"), open_parts(tmp_path / "out", MODEL, {}):
        pass
    other = Parts(tmp_path / "out", MODEL, {"alpha": 0.1})
    with pytest.raises(UsageError, match=r'other options \({"alpha": null} there, {"alpha": 0.1} here\): give another'):
        other.known()
    (file,) = parts.files()
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(OutputError, match=r"part-000001.parquet is damaged .*: delete it, and the same command"):
        parts.known()


def test_no_archive(tmp_path: Path, photos: Path) -> None:
    from rstpm_edge.errors import SourceError

    with pytest.raises(SourceError, match="There is no folder or file"):
        list_archive(str(tmp_path / "none"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="There are no images in"):
        list_archive(str(tmp_path / "empty"))
    with pytest.raises(SourceError, match="Cannot list nothing://x"):
        list_archive("nothing://x")
    assert names(list_archive(f"{photos}/**/*.jpg").items) == ["2.jpg"]
    assert names(list_archive(f"file://{photos}").items) == ["1.png", "10.png", "2.jpg"]
