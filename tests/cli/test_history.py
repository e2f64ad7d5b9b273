"""`rstpm-edge history`: tables of what a station keeps."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from confirmed import patterned
from judged import failed, inspect_all, rgb

from rstpm_edge import Detector
from rstpm_edge.station.history.history import History

DISTANCES = [3, 5, 22, 23]  # the last two are rejects


def test_the_command(run: Any, tmp_path: Path, detector: Detector, monkeypatch: pytest.MonkeyPatch) -> None:
    with History(tmp_path / "kept", rgb=rgb) as history:
        for inspection in inspect_all(detector, [patterned(one, seed) for seed, one in enumerate(DISTANCES)]):
            history.add(inspection)
        history.add(failed(50))
        assert history.flush(30)
        done = run("history", tmp_path / "kept", "--csv", tmp_path / "parts.csv")  # while it is written
    assert done.exit_code == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'parts.csv'}: 5 parts.\n"
    assert run("history", tmp_path / "kept").stdout == (
        f"{tmp_path / 'kept'}: 2 anomalous, 1 failed, 2 normal, from 2026-09-21T14:13:20.000+00:00 to "
        "2026-09-21T14:13:20.050+00:00.\n"
    )
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    missing = run("history", tmp_path / "kept", "--parquet", tmp_path / "parts.parquet")
    assert missing.exit_code == 2
    assert missing.stderr == "Error: Parquet needs pyarrow: pip install pyarrow. CSV needs nothing.\n"
    assert not (tmp_path / "parts.parquet").exists()
    for arguments, said in (
        ((tmp_path / "nothing",), "There is no history"),
        ((tmp_path / "kept", "--csv", tmp_path / "parts.png"), "does not write a picture"),
        ((tmp_path / "kept", "--csv", "a", "--parquet", "a"), "name one file"),
        ((tmp_path / "kept", "--csv", tmp_path / "kept" / "history.sqlite"), "is the history itself"),
    ):
        refused = run("history", *arguments)
        assert refused.exit_code == 2
        assert said in refused.stderr
    assert run("history", tmp_path / "kept").exit_code == 0
