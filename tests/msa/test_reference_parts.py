"""The folders of a study."""

from __future__ import annotations

from pathlib import Path

import pytest
from reference_parts import write_parts

from rstpm_edge.errors import DatasetError
from rstpm_edge.msa.reference_parts import find_parts

PARTS = {"good/b 2": [127] * 3, "good/b 10": [127] * 4, "bad/a": [250] * 3, "borderline/c": [148] * 3}


def test_parts_and_their_repeats_in_natural_order(tmp_path: Path) -> None:
    write_parts(tmp_path, PARTS)
    (tmp_path / "bad" / "a" / "monday").mkdir()
    (tmp_path / "bad" / "a" / "0.png").rename(tmp_path / "bad" / "a" / "monday" / "0.png")
    (tmp_path / "good" / "b 2" / "notes.txt").write_text("scratched")
    (tmp_path / "good" / "readme.txt").write_text("no photo")
    parts, notes = find_parts(tmp_path)
    assert [(part.reference, part.name, len(part.photos)) for part in parts] == [
        ("good", "b 2", 3),
        ("good", "b 10", 4),
        ("borderline", "c", 3),
        ("bad", "a", 3),
    ]
    assert len(notes) == 1
    assert "notes.txt" in notes[0]


@pytest.mark.parametrize(
    ("parts", "why"),
    [
        ({}, "has no folders, but a study has DATA/good/PART"),
        ({"good/a": [127] * 3}, "has no bad parts"),
        ({"bad/a": [127] * 3, "borderline/b": [127] * 3}, "has no good parts"),
        ({**PARTS, "bad/d": [250] * 2}, "bad/d has 2 photos, but needs 3 or more"),
        ({**PARTS, "bad/d": []}, "bad/d has 0 photos"),
        ({**PARTS, "scratch/d": [250] * 3}, "has the folder scratch, but"),
        ({"good": [127] * 3, "bad": [127] * 3}, r"good/0\.png lies in no folder of a part"),
        ({**PARTS, "bad/B 2": [250] * 3}, "bad/B 2 and .*good/b 2 are one part"),
    ],
)
def test_what_is_no_study(tmp_path: Path, parts: dict[str, list[float]], why: str) -> None:
    with pytest.raises(DatasetError, match=why):
        find_parts(write_parts(tmp_path, parts))


def test_a_folder_that_is_linked_under_another_name(tmp_path: Path) -> None:
    write_parts(tmp_path, PARTS)
    (tmp_path / "bad" / "other").symlink_to(tmp_path / "good" / "b 2")
    with pytest.raises(DatasetError, match=r"bad/other and .*good/b 2 are one part"):
        find_parts(tmp_path)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"Cannot list the folder .*none: No such file"):
        find_parts(tmp_path / "none")
