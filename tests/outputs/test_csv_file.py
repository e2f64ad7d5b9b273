"""`infer --csv FILE`: a row of each verdict, whole whatever happens, and no formula."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from workplace import command_line, finish, running

from rstpm_edge.errors import OutputError, UsageError
from rstpm_edge.outputs.csv_file import COLUMNS, CsvFile

HEADER = "path,verdict,score,p_value,threshold,regions,ms,error"
ROW = {
    "path": "a.png",
    "verdict": "anomalous",
    "score": 1.5,
    "p_value": 0.01,
    "threshold": 0.99,
    "regions": [{}],
    "ms": 2,
}


@pytest.fixture
def run(model: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    return lambda *arguments: command_line("infer", *arguments)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_of_each_image(run: Any, photos: Path, tmp_path: Path) -> None:
    (photos / 'damaged, "x" ü.png').write_bytes(b"no image")
    table = tmp_path / "verdicts.csv"
    result = run(photos, "--json", "--csv", table)
    assert result.exit_code == 3
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert table.read_text().splitlines()[0] == HEADER == ",".join(COLUMNS)
    found = rows(table)
    assert [row["path"] for row in found] == [fields["path"] for fields in told]
    assert [row["verdict"] for row in found] == ["normal", "normal", "failed", "anomalous"]
    for row, fields in zip(found, told, strict=True):
        if "error" in fields:
            assert row["error"] == fields["error"]
            assert row["score"] == row["regions"] == ""
        else:
            for name in ("score", "p_value", "threshold", "ms"):
                assert float(row[name]) == fields[name]
            assert int(row["regions"]) == len(fields["regions"])


def test_a_second_run_appends(run: Any, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "verdicts.csv"
    run(photos, "--csv", table)
    with open(table, "a") as file:
        file.write("torn row")  # by a box that lost its power
    run(photos / "1.png", "--csv", table)
    assert len(rows(table)) == 5
    assert table.read_text().count(HEADER) == 1
    assert rows(table)[-1]["path"] == str(photos / "1.png")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_name_is_no_formula(tmp_path: Path, name: str) -> None:
    with CsvFile(tmp_path / "x.csv") as table:
        table.tell({**ROW, "path": name})
        table.tell({"path": "x", "error": name})
    first, second = rows(tmp_path / "x.csv")
    assert first["path"][0] == second["error"][0] == "'"
    assert first["path"].startswith(f"'{name.strip()[:1]}") or first["path"].startswith("'\\")


def test_a_row_is_a_line_whatever_a_name_holds(tmp_path: Path) -> None:
    names = ["a\nb", 'quo"ted', "com,ma", "\x1b[2K", "\udcff", "日本", "\u2028", "\u202e"]
    with CsvFile(tmp_path / "x.csv") as table:
        for name in names:
            table.tell({**ROW, "path": name})
        table.tell({**ROW, "frame": 7})
    assert len((tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()) == len(names) + 2
    found = [row["path"] for row in rows(tmp_path / "x.csv")]
    assert found == ["a\\nb", 'quo"ted', "com,ma", "\\x1b[2K", "\\xff", "日本", "\\u2028", "\\u202e", "a.png #7"]


def test_a_kill_keeps_the_rows(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(300):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((50, 70), 127, np.uint8))
    table = tmp_path / "x.csv"
    with running("infer", folder, "--model", model, "--csv", table) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.kill()
        finish(process)
    found = rows(table)
    assert len(found) >= 20
    assert all(row["ms"] and row["verdict"] == "normal" for row in found)


@pytest.mark.parametrize("name", ["notes.txt", "folder", "none/x.csv", "x.png", "fifo"])
def test_what_it_must_not_be(run: Any, photos: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "notes.txt").write_text("do not lose me\n")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    result = run(photos, "--csv", tmp_path / name)
    assert result.exit_code == (2 if name in ("notes.txt", "x.png") else 5)
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert (tmp_path / "notes.txt").read_text() == "do not lose me\n"


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, full = os.write, [True]

    def on_full_disk(descriptor: int, content: bytes) -> int:
        if full[0]:
            raise OSError(28, "No space left on device")
        return write(descriptor, content)

    told: list[str] = []
    with CsvFile(tmp_path / "x.csv", report=told.append) as live, CsvFile(tmp_path / "y.csv") as files:
        monkeypatch.setattr(os, "write", on_full_disk)
        live.tell(ROW)
        live.tell(ROW)
        with pytest.raises(OutputError, match="No space left"):
            files.tell(ROW)
        full[0] = False
        live.tell(ROW)
    assert live.lost == 2
    assert len(told) == 2
    assert "Judging goes on without" in told[0]
    assert "can be written again" in told[1]
    assert len(rows(tmp_path / "x.csv")) == 1


@pytest.mark.parametrize("written", [0, 10])
def test_a_table_that_is_begun_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int) -> None:
    write, free = os.write, [written, 0]

    def on_full_disk(descriptor: int, content: bytes) -> int:
        if not free[0]:
            raise OSError(28, "No space left on device")
        return write(descriptor, content[: free.pop(0)])

    def refuse(descriptor: int, size: int) -> None:
        raise OSError(1, "Operation not permitted")

    told: list[str] = []
    path = tmp_path / "x.csv"
    with monkeypatch.context() as full:
        full.setattr(os, "write", on_full_disk)
        full.setattr(os, "ftruncate", refuse)  # what was written of the header cannot be taken back
        table = CsvFile(path, report=told.append)
        table.tell(ROW)
        assert path.read_text() == HEADER[:written]
    with table:
        table.tell(ROW)
    assert table.lost == 1
    assert [sentence.partition(": ")[0] for sentence in told] == [
        f"Cannot write {path}",
        f"{path} can be written again.",
    ]
    assert path.read_text().splitlines()[0] == HEADER
    assert len(rows(path)) == 1


def test_a_header_that_was_cut_off_is_completed(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text(HEADER[:10])
    with CsvFile(tmp_path / "x.csv") as table:
        table.tell(ROW)
    assert (tmp_path / "x.csv").read_text().splitlines()[0] == HEADER
    assert len(rows(tmp_path / "x.csv")) == 1
    (tmp_path / "y.csv").write_text("pathology")
    with pytest.raises(UsageError, match="holds something else"):
        CsvFile(tmp_path / "y.csv")


def test_no_row_is_lost_where_another_program_takes_the_file_away(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "x.csv"
    with CsvFile(path, report=told.append) as table:
        table.tell({**ROW, "path": "1"})
        path.rename(tmp_path / "monday.csv")
        table.tell({**ROW, "path": "2"})
        (tmp_path / "edited").write_bytes(path.read_bytes().replace(b"\n2,", b"\ntwo,"))  # as sed -i does
        (tmp_path / "edited").replace(path)
        table.tell({**ROW, "path": "3"})
        assert [row["path"] for row in rows(path)] == ["two", "3"]
        path.write_bytes(b"")
        table.tell({**ROW, "path": "4"})
        assert [row["path"] for row in rows(path)] == ["4"]
        path.unlink()
        path.write_text("notes")
        table.tell({**ROW, "path": "5"})
        path.unlink()
        table.tell({**ROW, "path": "6"})
    assert [row["path"] for row in rows(path)] == ["6"]
    assert [row["path"] for row in rows(tmp_path / "monday.csv")] == ["1"]
    assert table.lost == 1
    assert told == [
        f"Cannot write {path}. {path} holds something else than verdicts: give another name. Judging goes on without.",
        f"{path} can be written again.",
    ]
