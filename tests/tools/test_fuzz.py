"""`make fuzz`: what it counts, and how it ends where something breaks."""

from __future__ import annotations

import sys
from pathlib import Path

import fuzz
import pytest

BREAKS = """
import struct, sys
from pathlib import Path
name, corpus, failures, seconds = sys.argv[1:]
Path(failures, "cases").write_bytes(struct.pack("<q", 41))
Path(failures, "crash-1").write_bytes(b"case")
print("#41 NEW cov: 12 ft: 3\\nstat::new_units_added:   7")
sys.exit(77)
"""


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, *options: str) -> int:
    monkeypatch.setattr(sys, "argv", ["fuzz.py", "--folder", str(folder), *options])
    return fuzz.main()


def test_a_short_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, tmp_path, "--minutes", "0.03", "--only", "metadata") == 0
    last = capsys.readouterr().out.splitlines()[-1].split()
    assert last[0] == "all"
    assert int(last[1].replace(",", "")) >= 1
    assert last[2] == "0"


def test_what_breaks_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    child = tmp_path / "child.py"
    child.write_text(BREAKS)
    monkeypatch.setattr(fuzz, "CHILD", child)
    assert run(monkeypatch, tmp_path, "--minutes", "0.01", "--only", "onnx") == 1
    printed = capsys.readouterr().out
    assert f"--input {tmp_path / 'onnx' / 'failures' / 'crash-1'}" in printed
    assert [line.split()[:5] for line in printed.splitlines() if line.startswith("onnx  ")] == [
        ["onnx", "41", "12", "7", "1"]
    ]


def test_a_target_that_does_not_start_is_no_success(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    child = tmp_path / "child.py"
    child.write_text("raise SystemExit(1)")
    monkeypatch.setattr(fuzz, "CHILD", child)
    with pytest.raises(fuzz.Failed, match="onnx ended with exit code 1"):
        run(monkeypatch, tmp_path, "--minutes", "0.01", "--only", "onnx")


def test_without_clang_the_c_interface_is_left_out_with_a_word(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(fuzz.shutil, "which", lambda *_, **__: None)
    assert run(monkeypatch, tmp_path, "--minutes", "0.01", "--only", "c-interface") == 0
    assert "not run: there is no clang here" in capsys.readouterr().out
