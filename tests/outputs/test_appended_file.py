"""Whether an open file still has its name."""

from __future__ import annotations

import os
from pathlib import Path

from rstpm_edge.outputs.appended_file import is_at


def test_a_file_that_others_move_replace_or_delete(tmp_path: Path) -> None:
    path, link = tmp_path / "table.csv", tmp_path / "link.csv"
    with open(path, "w") as file:
        link.symlink_to(path)
        assert is_at(file.fileno(), path)
        assert is_at(file.fileno(), link)
        path.rename(tmp_path / "older.csv")
        assert not is_at(file.fileno(), path)
        path.touch()
        assert not is_at(file.fileno(), path)
        os.replace(tmp_path / "older.csv", path)
        assert is_at(file.fileno(), path)
        path.unlink()
        assert not is_at(file.fileno(), path)
