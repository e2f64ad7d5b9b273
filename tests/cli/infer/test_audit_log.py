"""`rstpm-edge infer --audit-log`, and `rstpm-edge audit-log`."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from rstpm_edge import Detector


def entries(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_judged_and_how_many(run: Any, model: Path, photos: Path, tmp_path: Path) -> None:
    log, mask = tmp_path / "log.jsonl", tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.full((64, 64), 255, np.uint8))
    (photos / "text.png").write_text("text")
    result = run("infer", photos, "--audit-log", log, "--alpha", "20%", "--roi", "0,0,50,50", "--mask", mask)
    assert result.exit_code == 3, result.stderr
    start, stop = entries(log)
    assert start["model"] == str(model)
    assert start["sha256"] == sha256(model.read_bytes()).hexdigest()
    assert (start["threshold"], start["calibrated_threshold"]) == (0.8, 0.99)
    assert start["typed"]["alpha"] == 0.2
    assert start["roi"] == [0, 0, 50, 50]
    assert start["mask"] == {"sha256": sha256(mask.read_bytes()).hexdigest()}
    assert start["runs_with"] == ["CPUExecutionProvider"]
    assert start["signed_by"] is None
    assert start["source"] == "4 files"
    assert (stop["ending"], stop["normal"] + stop["anomalous"], stop["failed"]) == ("done", 3, 1)
    for name in ("10.png", "2.jpg", "text.png"):
        assert name not in log.read_text()


@pytest.mark.parametrize("exchanged", [None, b"another"])
def test_the_mask_in_it_is_the_one_that_was_loaded(
    run: Any, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanged: bytes | None
) -> None:
    log, mask = tmp_path / "log.jsonl", tmp_path / "mask.png"
    cv2.imwrite(str(mask), np.full((64, 64), 255, np.uint8))
    loaded = sha256(mask.read_bytes()).hexdigest()
    load = Detector.__init__

    def load_then_exchange(*arguments: Any, **keywords: Any) -> None:
        load(*arguments, **keywords)
        mask.unlink()
        if exchanged is not None:
            mask.write_bytes(exchanged)

    monkeypatch.setattr(Detector, "__init__", load_then_exchange)
    result = run("infer", photos / "1.png", "--audit-log", log, "--roi", "0,0,50,50", "--mask", mask)
    assert result.exit_code == 0, result.stderr
    assert entries(log)[0]["mask"] == {"sha256": loaded}


def test_a_mask_that_is_refused_stands_in_it(run: Any, photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    assert run("infer", photos, "--audit-log", log, "--mask", tmp_path / "none.png").exit_code == 2
    (entry,) = entries(log)
    assert entry["event"] == "refused"
    assert "none.png cannot be used" in entry["error"]


def test_a_model_that_is_refused_stands_in_it(run: Any, model: Path, photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    model.write_bytes(b"no model")
    assert run("infer", photos, "--audit-log", log).exit_code == 2
    (entry,) = entries(log)
    assert entry["event"] == "refused"
    assert "is damaged, or not an ONNX file" in entry["error"]


def test_the_command_that_checks_it(run: Any, photos: Path, tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for _ in range(2):
        assert run("infer", photos / "1.png", "--audit-log", log).exit_code == 0
    checked = run("audit-log", log)
    assert checked.exit_code == 0, checked.stderr
    last = entries(log)[-1]["hash"]
    assert checked.stdout == f"{log}: 4 entries (1 to 4) in 1 file hang together; the last has the hash {last}.\n"
    for same in (last, last.upper(), f" {last}\n"):
        assert run("audit-log", log, "--holds", same).exit_code == 0
    for none in ("", last[:-1], "xy"):  # a slip of who types is no word about the log
        slip = run("audit-log", log, "--holds", none)
        assert (slip.exit_code, slip.stdout) == (2, "")
        assert slip.stderr.startswith("Error: --holds takes the hash of an entry, 64 hexadecimal digits, ")
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(lines[:-1]))
    cut = run("audit-log", log, "--holds", last)
    assert (cut.exit_code, cut.stdout) == (1, "")
    assert f"Error: No entry has the hash {last}" in cut.stderr
    log.write_text("".join([lines[0].replace('"threshold":', '"Threshold":'), *lines[1:]]))
    changed = run("audit-log", log)
    assert (changed.exit_code, changed.stdout) == (1, "")
    assert changed.stderr == f"Error: Line 1 of {log} was changed, or is none of this log.\n"


def test_bad_uses(run: Any, photos: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("audit-log", tmp_path / "none"), "There is no audit log"),
        (("infer", photos, "--audit-log", photos / "1.png"), "--audit-log does not write a picture"),
        (("infer", photos, "--audit-log", tmp_path / "none" / "log"), "Cannot write"),
        (("infer", photos, "--audit-log", tmp_path / "log", "--audit-log-size", 0), "--audit-log-size"),
        (("infer", photos, "--audit-log-size", 5), "--audit-log-size goes with --audit-log FILE only"),
        (("infer", photos, "--audit-log", tmp_path / "x", "--csv", tmp_path / "x"), "must be different files"),
    ):
        result = run(*arguments)
        assert result.exit_code == (5 if message == "Cannot write" else 2)
        assert message in result.stderr
