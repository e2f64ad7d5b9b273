"""INVALID photos in `rstpm-edge infer`, as a user types it."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import pytest
from bundles import ModelFactory
from limits import good_photo, make_profile, make_validity

from rstpm_edge.outputs.chain_check import check_chain


@pytest.fixture
def line(tmp_path: Path, model_factory: ModelFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of photos: a good one, one with a defect, a dark one, and one of another size."""
    model = model_factory(profile=make_profile(), validity=make_validity())
    monkeypatch.setenv("RSTPM_EDGE_MODEL", str(model))
    defect = good_photo()
    defect[:20] = 0
    folder = tmp_path / "line"
    folder.mkdir()
    photos = {"1": good_photo(), "2": defect, "3": good_photo() // 8, "4": good_photo((64, 128))}
    for name, photo in photos.items():
        cv2.imwrite(str(folder / f"{name}.png"), photo)
    return folder


def test_each_has_its_reason_and_a_count_of_its_own(run: Any, line: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("infer", line)
    assert result.exit_code == 4
    assert result.stderr == ""
    good, defect, dark, wide, summary = result.stdout.splitlines()
    assert [text.split()[0] for text in (good, defect, dark, wide)] == ["normal", "ANOMALOUS", "INVALID", "INVALID"]
    assert dark.endswith("3.png: underexposed: its mean grey level is 15, and 80 to 190 are allowed")
    assert "4.png: The image measures 128×64 pixels; the model learned from 64×64" in wide
    assert summary.startswith("4 images: 1 normal, 1 anomalous, 2 invalid, 0 failed; ")
    assert run("infer", line / "1.png").exit_code == 0
    (line / "5.png").write_bytes(b"no image")
    assert run("infer", line).exit_code == 3  # the worst counts


def test_what_programs_are_told(run: Any, line: Path, tmp_path: Path) -> None:
    table, log, told = (tmp_path / name for name in ("x.csv", "log.jsonl", "told"))
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\ncat >> {told}\n")
    script.chmod(0o755)
    result = run("infer", line, "--json", "--csv", table, "--audit-log", log, "--on-anomaly", script, "--drift", "1%")
    assert result.exit_code == 4
    good, defect, dark, wide = map(json.loads, result.stdout.splitlines())
    assert [one["verdict"] for one in (good, defect, dark, wide)] == ["normal", "anomalous", "invalid", "invalid"]
    assert [one["invalid_reason"] is None for one in (good, defect, dark, wide)] == [True, True, False, False]
    assert (dark["is_anomalous"], dark["drift"]) == (True, "stable")
    assert "score" in dark
    assert set(wide) == {"path", "verdict", "invalid_reason", "error"}
    with open(table, newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["verdict"] for row in found] == ["normal", "anomalous", "invalid", "invalid"]
    assert [row["error"] for row in found[2:]] == [dark["invalid_reason"], wide["invalid_reason"]]
    assert check_chain(log).faults == []
    stop = json.loads(log.read_text().splitlines()[-1])
    assert [stop[name] for name in ("normal", "anomalous", "invalid", "failed")] == [1, 1, 2, 0]
    assert [json.loads(text)["path"] for text in told.read_text().splitlines()] == [defect["path"]]
    told.unlink()
    run("infer", line, "--on-anomaly", script, "--on-anomaly-unjudged")
    assert [json.loads(text)["verdict"] for text in told.read_text().splitlines()] == ["anomalous", *["invalid"] * 2]


def test_nothing_is_explained_of_a_score_that_says_nothing(run: Any, line: Path) -> None:
    said = run("infer", line / "2.png", line / "3.png", "--explain").stdout.splitlines()
    assert [text.split()[0] for text in said] == ["ANOMALOUS", "score", "region", "INVALID", "2"]


def test_a_wrong_camera_is_no_drift(run: Any, line: Path, tmp_path: Path) -> None:
    folder = tmp_path / "dark"
    folder.mkdir()
    for number in range(40):
        cv2.imwrite(str(folder / f"{number}.png"), good_photo(seed=number) // 8)
    result = run("infer", folder, "--drift", "10%")
    assert "40 invalid" in result.stdout
    assert result.stdout.rstrip().endswith("drift: stable")
    assert result.stderr == ""


def test_a_picture_of_one_says_so(run: Any, line: Path, tmp_path: Path) -> None:
    run("infer", line, "--save-overlay", tmp_path / "o", "--rejects-only")
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["2.png.overlay.png", "3.png.overlay.png"]
    picture = cv2.imread(str(tmp_path / "o" / "3.png.overlay.png"))
    assert (picture[20, 2] == (167, 121, 204)).all()  # the verdict's colour, BGR


def test_info_names_the_limits(run: Any, line: Path) -> None:
    result = run("info")
    assert "INVALID" in result.stdout
    assert "a photo darker than 80.0 or brighter than 190.0 of 255, over 50% white or 50% black" in result.stdout
    facts = json.loads(run("info", "--json").stdout)
    assert facts["validity"]["novelty"] == {"photos": 2, "channels": 3, "limit": 60.0}


def test_bench_takes_the_time_of_it(run: Any, line: Path) -> None:
    assert run("bench", "--runs", 2, "--frame", "64x64").exit_code == 0
