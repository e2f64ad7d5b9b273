"""A file of JSON objects, one a line, whatever happens to it."""

from __future__ import annotations

import json
from pathlib import Path

from rstpm_edge.outputs.json_lines import JsonLines


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text().splitlines() if line != "torn"]


def test_lines_are_appended_to_whole_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("torn")  # by a box that lost its power
    with JsonLines(path, report=print) as lines:
        lines.tell({"number": 1})
        lines.tell({"number": 2})
    assert path.read_text().startswith("torn\n{")
    assert numbers(path) == [1, 2]


def test_no_line_is_lost_where_another_program_takes_the_file_away(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with JsonLines(path, report=print) as lines:
        lines.tell({"number": 1})
        path.rename(tmp_path / "monday.jsonl")
        lines.tell({"number": 2})
        (tmp_path / "edited").write_bytes(path.read_bytes().rstrip(b"\n"))
        (tmp_path / "edited").replace(path)
        lines.tell({"number": 3})
    assert numbers(tmp_path / "monday.jsonl") == [1]
    assert numbers(path) == [2, 3]
    assert lines.lost == 0
